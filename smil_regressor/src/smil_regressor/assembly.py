"""From a configuration to a body model, a network and loss settings. Configurations stop here."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posecore.bodymodel import BodyModel, read_model, write_model
from posecore.bodymodel.unpickle import load_arrays
from posecore.errors import InputError
from posecore.rotations import axis_angle_to_matrix, matrix_to_rotation_6d
from smil_regressor.config import SmilConfig
from smil_regressor.data.insect import insect_body
from smil_regressor.data.labels import check_names
from smil_regressor.data.pose_file import WorldFrame
from smil_regressor.losses import LossSettings, Triangulation
from smil_regressor.model.backbone import create_backbone
from smil_regressor.model.body import Body, Placement
from smil_regressor.model.build import BodySpec, HeadSpec, build_multi_view, build_single_view
from smil_regressor.model.regressor import MultiViewRegressor, SingleViewRegressor

FORMAT_OFFSET_UNIT = 0.01
"""What the file format multiplies transdirs by; `separate_trans_scale_factor` takes its place in mode separate."""
CAMERA_STEP = 0.25
"""How far a refined camera may move along each axis, in units of the body model."""

Network = SingleViewRegressor | MultiViewRegressor


@dataclass(frozen=True)
class Facts:
    """What a network must know of the data and the body model it was trained on; saved in every checkpoint."""

    camera_order: tuple[str, ...]
    """Canonical cameras, in the order of the network's camera heads."""
    joint_names: tuple[str, ...]
    num_betas: int
    fov_deg: float
    """Median vertical field of view: where single-view cameras start."""
    camera_distance: float
    """Median distance of the cameras from the animal, in world units: where single-view cameras start."""
    camera_reach: float
    """Largest camera translation that a camera head can give, world units."""
    body_scale: float
    """Size of the data's bodies relative to the body model: where a predicted mesh scale starts."""
    mean_pose: tuple[float, ...] | None
    """Axis-angle of the training labels' mean local rotations, joint after joint; None: unknown."""
    place: tuple[float, ...]
    """Median place of the animal, world units: where its translation starts."""
    camera_in_state: bool
    """The body head carries a camera that nothing reads, as the original's multi-view checkpoints have it."""
    world_scale: float | None
    """Metres per world unit; None: unknown."""
    smal_sha256: str | None
    """Of the body model's file; None: the procedural insect."""
    shaped_sha256: str | None = None
    """Of the arrays of the body model with its family's mean shape, which run folders keep; None: no family."""
    world_frame: WorldFrame = "world"
    """Frame of the training labels; with "first_view" prediction moves its cameras into their first one's frame."""

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)


def find_file(path: Path | str, field: str, folders: Sequence[Path]) -> Path:
    """The first that exists of the path relative to `folders` and, last, to the working folder.

    Raises:
        InputError: There is none; names the field and where it was looked for.
    """
    for candidate in [*(folder / path for folder in folders), Path(path)]:
        if candidate.exists():
            return candidate
    looked = ", ".join(str(folder) for folder in dict.fromkeys([*folders, Path.cwd()]))
    raise InputError(f"{field}: {path} does not exist (looked in {looked})")


def read_body(config: SmilConfig, folders: Sequence[Path] = ()) -> tuple[BodyModel, str | None]:
    """The configured body model and the SHA-256 of its file (None for the procedural insect)."""
    settings = config.smal_model
    if settings.smal_file is None:
        return insect_body(), None
    file = find_file(settings.smal_file, "smal_model.smal_file", folders)
    body = read_model(file)
    if has_family(config):
        assert settings.shape_family is not None
        assert settings.smal_data_file is not None  # checked by the configuration
        data = find_file(settings.smal_data_file, "smal_model.smal_data_file", folders)
        body = with_family_shape(body, data, settings.shape_family)
    return body, file_sha256(file)


def has_family(config: SmilConfig) -> bool:
    """The body model gets the mean shape of a family."""
    model = config.smal_model
    return model.smal_file is not None and model.shape_family is not None and model.shape_family >= 0


def keep_body(config: SmilConfig, body: BodyModel, path: Path) -> None:
    """Write what prediction needs: a copy of the configured file, or the model as its family has shaped it."""
    assert config.smal_model.smal_file is not None
    if has_family(config):
        write_model(body, path)
    else:
        shutil.copyfile(config.smal_model.smal_file, path)


def arrays_sha256(body: BodyModel) -> str:
    """Of the arrays a model computes with, whatever kind of file they lie in."""
    digest = hashlib.sha256()
    for name, value in sorted(vars(body.arrays()).items()):
        digest.update(f"{name} {getattr(value, 'shape', value)}".encode())
        digest.update(value.tobytes() if isinstance(value, np.ndarray) else b"")
    return digest.hexdigest()


def with_family_shape(body: BodyModel, data_file: Path, family: int) -> BodyModel:
    """The legacy SMAL model with the mean shape of one family (`cluster_means[family]`) as its template."""
    from dataclasses import replace

    means = load_arrays(data_file).get("cluster_means")
    if means is None or len(means) <= family or len(means[family]) > body.num_betas:
        found = "no cluster_means" if means is None else f"cluster_means for {len(means)} families"
        raise InputError(f"{data_file}: {found}; smal_model.shape_family {family} needs one of {body.num_betas} betas")
    shift = body.shapedirs[..., : len(means[family])] @ torch.from_numpy(np.array(means[family])).to(body.shapedirs)
    return BodyModel(replace(body.arrays(), template=(body.template + shift).numpy()))


def file_sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def placement(config: SmilConfig) -> Placement:
    """How bodies are put into the world: the original's Unreal factor, a predicted scale, or as they are."""
    if config.mode == "singleview" and config.dataset.use_ue_scaling and not config.dataset.from_multiview:
        return "unreal"
    return "mesh_scale" if config.mesh_scaling.allow_mesh_scaling else "plain"


def build_network(
    config: SmilConfig, body: BodyModel, facts: Facts, folders: Sequence[Path] = (), load_backbone: bool = True
) -> Network:
    """The configured network.

    Args:
        load_backbone: Read the backbone's published weights where the configuration asks for them; False where a
            checkpoint's weights follow anyway.
    """
    model = config.model
    wanted = model.pretrained and load_backbone and model.backbone_name != "tiny_vit"
    named = model.pretrained_path if wanted else None
    weights = None if named is None else find_file(named, "model.pretrained_path", folders)
    backbone = create_backbone(
        model.backbone_name,
        model.resolution,
        pretrained=wanted,
        weights=weights,
        chunk_size=config.training.backbone_chunk_size,
    )
    spec = _body_spec(config, body, facts)
    head = HeadSpec(
        kind=model.head_type,
        hidden_dim=model.hidden_width,
        depth=model.transformer_depth,
        num_heads=model.transformer_heads,
        dim_head=model.transformer_dim_head,
        mlp_dim=model.transformer_mlp_dim,
        dropout=model.transformer_dropout,
        iterations=model.transformer_ief_iters,
        trans_factor=model.transformer_trans_scale_factor,
        length_scale=1.0 if placement(config) == "unreal" else facts.body_scale,
    )
    if config.mode == "singleview":
        is_known = config.dataset.frame_convention == "camera_centric"
        return build_single_view(backbone, spec, head, "known" if is_known else "predicted")
    return build_multi_view(
        backbone,
        spec,
        head,
        num_slots=len(facts.camera_order),
        fusion_layers=config.cross_attention_layers,
        fusion_heads=config.cross_attention_heads,
        fusion_dropout=config.cross_attention_dropout,
        decoder_context=model.decoder_context,
        fused_in_patches=model.fused_in_patches,
        camera_delta=config.training.use_gt_camera_init,
        camera_dropout=model.camera_dropout,
        camera_trans_scale=facts.camera_reach,
        camera_trans_step=CAMERA_STEP * facts.body_scale,
        camera_in_state=facts.camera_in_state,
    )


def build_body(config: SmilConfig, body: BodyModel) -> Body:
    """The body model with the configured placement."""
    return Body(body, placement(config))


def loss_settings(config: SmilConfig, joint_names: Sequence[str], body_scale: float = 1.0) -> LossSettings:
    """How loss terms are computed.

    Raises:
        InputError: A joint name in the configuration is unknown.
    """
    weights = torch.ones(len(joint_names))
    for section, names, value in (
        ("joint_importance.important_joint_names", config.joint_importance.important_joint_names, "multiply"),
        ("ignored_joint_locations.ignored_joint_names", config.ignored_joint_locations.ignored_joint_names, "drop"),
    ):
        enabled = config.joint_importance.enabled if value == "multiply" else config.ignored_joint_locations.enabled
        if not enabled:
            continue
        check_names(section, names, joint_names)
        chosen = torch.tensor([name in names for name in joint_names])
        weights[chosen] = weights[chosen] * config.joint_importance.weight_multiplier if value == "multiply" else 0.0
    losses = config.losses
    return LossSettings(
        joint_weights=weights,
        rotation_error="frobenius" if config.training.rotation_representation == "6d" else "squared",
        visible_only=config.mode == "singleview",
        silhouette=losses.silhouette_distance,
        silhouette_sigma=losses.sigma if losses.silhouette == "soft" else None,
        renderer=losses.renderer,
        length_scale=body_scale if losses.relative_lengths and placement(config) != "unreal" else 1.0,
        huber_delta=losses.huber_delta,
        triangulation=Triangulation(**losses.triangulation.model_dump()),
    )


def _mean_pose(config: SmilConfig, facts: Facts) -> Float[Tensor, "j r"] | None:
    """Where error feedback starts, in the network's representation; None: the rest pose."""
    if not config.model.start_from_mean_pose or facts.mean_pose is None:
        return None
    axis_angles = torch.tensor(facts.mean_pose).reshape(-1, 3)
    if config.training.rotation_representation == "axis_angle":
        return axis_angles
    return matrix_to_rotation_6d(axis_angle_to_matrix(axis_angles), config.model.rot6d_convention)


def _body_spec(config: SmilConfig, body: BodyModel, facts: Facts) -> BodySpec:
    mode = config.scale_trans_beta.mode
    uses_components = mode == "entangled_with_betas" or (mode == "separate" and config.model.separate_limbs == "pca")
    if uses_components and (body.scaledirs is None or body.transdirs is None):
        raise InputError(
            f"scale_trans_beta.mode is {mode}, which needs scaledirs and transdirs in the body model; this model has "
            "none: use ignore, or separate with model.separate_limbs joints"
        )
    scaling = config.mesh_scaling
    predicted = placement(config) == "mesh_scale"
    return BodySpec(
        num_joints=body.num_joints,
        num_betas=body.num_betas,
        rotation=config.training.rotation_representation,
        rot6d_layout=config.model.rot6d_convention,
        limb_mode=mode,
        pca_model=body if uses_components else None,
        offset_factor=config.scale_trans_beta.separate_trans_scale_factor / FORMAT_OFFSET_UNIT,
        mesh_scale=("log" if scaling.use_log_scale else "direct") if predicted else "none",
        initial_mesh_scale=scaling.init_mesh_scale * facts.body_scale,
        place=facts.place,
        fov_deg=facts.fov_deg,
        camera_distance=facts.camera_distance,
        mean_pose=_mean_pose(config, facts),
    )
