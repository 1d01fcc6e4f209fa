"""The predictor that a notebook or a robot calls: pictures in, posed animals and cameras out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from posecore.bodymodel import read_model
from posecore.cameras import crop_intrinsics, project
from posecore.devices import choose_device
from posecore.errors import InputError
from posecore.rendering import Backend, rasterize
from posecore.rotations import matrix_to_axis_angle
from posecore.training import load_checkpoint
from smil_regressor.assembly import Facts, Network, arrays_sha256, build_body, build_network, file_sha256, read_body
from smil_regressor.config import SmilConfig
from smil_regressor.data.sample import Batch
from smil_regressor.model.body import Body, to_cameras
from smil_regressor.model.prediction import Prediction, Views

SYSTEM = "smil"
BODY_FILE = "body_model.pkl"
"""Copy of the body model that training leaves in the run folder."""

Picture = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class View:
    """One picture of a moment, and its camera where it is known (OpenCV axes, pixel centres at integers)."""

    image: Picture
    """RGB."""
    camera: str | None = None
    """Name among the network's canonical cameras; None: the views' order decides."""
    K: Float[np.ndarray, "3 3"] | None = None
    cam_from_world: Float[np.ndarray, "4 4"] | None = None


@dataclass(frozen=True)
class Poses:
    """Animals of n moments seen in v views; lengths in world units, pixels of the pictures as given."""

    joint_names: tuple[str, ...]
    camera_order: tuple[str, ...]
    axis_angles: Float[np.ndarray, "n j 3"]
    """Local rotations, radians, root first."""
    betas: Float[np.ndarray, "n c"]
    translation: Float[np.ndarray, "n 3"]
    log_scales: Float[np.ndarray, "n j 3"] | None
    joint_offsets: Float[np.ndarray, "n j 3"] | None
    mesh_scale: Float[np.ndarray, " n"] | None
    joints_world: Float[np.ndarray, "n j 3"]
    vertices_world: Float[np.ndarray, "n p 3"]
    view_mask: Bool[np.ndarray, "n v"]
    camera_slots: Int[np.ndarray, "n v"]
    K: Float[np.ndarray, "n v 3 3"]
    """Of the pictures as given."""
    cam_from_world: Float[np.ndarray, "n v 4 4"]
    joints_px: Float[np.ndarray, "n v j 2"]
    in_front: Bool[np.ndarray, "n v j"]
    """False where a joint is behind the camera and its pixel means nothing."""

    def __len__(self) -> int:
        return len(self.axis_angles)


@runtime_checkable
class Posable(Protocol):
    """What drawing and writing `Poses` asks of where they come from."""

    @property
    def body(self) -> Body: ...
    @property
    def renderer(self) -> Backend: ...


@dataclass(frozen=True)
class LoadedNetwork:
    """A trained network with what belongs to it, in evaluation mode."""

    folder: Path
    """Of the checkpoint."""
    run_dir: Path
    config: SmilConfig
    facts: Facts
    network: Network
    body: Body
    device: torch.device

    @property
    def renderer(self) -> Backend:
        return self.config.losses.renderer

    @property
    def uses_given_cameras(self) -> bool:
        """The network refines known cameras, so prediction wants them too."""
        return self.config.mode == "multiview" and self.config.training.use_gt_camera_init


def load_network(checkpoint: Path, smal_file: Path | None, device: torch.device) -> LoadedNetwork:
    """Rebuild a network from its checkpoint alone (and the body model's file, where it is not the procedural insect).

    Raises:
        InputError: No such checkpoint, damaged, of another system, or the body model is missing or another one.
    """
    stored = load_checkpoint(checkpoint, SYSTEM)
    config = SmilConfig.from_dict(stored.config["config"], str(stored.folder))
    facts = Facts.from_dict(stored.config["facts"])
    run_dir = stored.folder.parent.parent if stored.folder.parent.name == "checkpoints" else stored.folder
    config = _with_body_file(config, facts, smal_file, [stored.folder, run_dir])
    model, _ = read_body(config)
    if tuple(model.joint_names) != facts.joint_names:
        raise InputError(f"{config.smal_model.smal_file}: its joints are not those that the network was trained on")
    network = build_network(config, model, facts, load_backbone=False)
    stored.load_into(network)
    network.eval().to(device)
    body = build_body(config, model).to(device)
    return LoadedNetwork(stored.folder, run_dir, config, facts, network, body, device)


class Predictor:
    """Predicts poses from pictures of one or several views.

    >>> predictor = Predictor.load("runs/sticks")
    >>> poses = predictor([[View(top), View(left)]])   # one moment, two views
    >>> poses.joints_world.shape
    (1, 55, 3)
    """

    def __init__(self, loaded: LoadedNetwork) -> None:
        self.loaded = loaded

    @classmethod
    def load(cls, checkpoint: Path | str, smal_file: Path | None = None, device: str = "auto") -> Self:
        """From a run folder, a checkpoint folder or an export."""
        return cls(load_network(Path(checkpoint), smal_file, choose_device(device)))

    def __call__(self, moments: Sequence[Sequence[View]]) -> Poses:
        """Predict all moments as one batch; their numbers of views may differ.

        Raises:
            InputError: A view of an unknown camera, more views than the network has, or no camera where it needs one.
        """
        views, sizes_wh = self._views(moments)
        with torch.no_grad():
            prediction: Prediction = self.loaded.network(views)
            return self._poses(prediction, sizes_wh)

    def _views(self, moments: Sequence[Sequence[View]]) -> tuple[Views, Float[Tensor, "n v 2"]]:
        if not moments or not all(moments):
            raise InputError("predict: every moment needs at least one view")
        resolution, most = self.loaded.config.model.resolution, max(len(views) for views in moments)
        if self.loaded.config.mode == "singleview" and most > 1:
            raise InputError(f"predict: a single-view network takes one view a moment, not {most}")
        n = len(moments)
        images = np.zeros((n, most, resolution, resolution, 3), np.uint8)
        slots = np.full((n, most), -1)
        K, cameras = np.tile(np.eye(3), (n, most, 1, 1)), np.tile(np.eye(4), (n, most, 1, 1))
        known = np.zeros((n, most), bool)
        sizes = np.full((n, most, 2), float(resolution))
        for i, moment in enumerate(moments):
            for v, view in enumerate(moment):
                height, width = view.image.shape[:2]
                images[i, v] = cv2.resize(view.image, (resolution, resolution), interpolation=cv2.INTER_AREA)
                slots[i, v] = self._slot(view, v)
                sizes[i, v] = width, height
                if view.K is not None and view.cam_from_world is not None:
                    K[i, v], cameras[i, v], known[i, v] = view.K, view.cam_from_world, True
        present = slots >= 0
        if self.loaded.uses_given_cameras and not (known | ~present).all():
            raise InputError(
                "predict: this network refines given cameras (training.use_gt_camera_init), so every view needs its "
                "calibration; give --calibration, or train with use_gt_camera_init false"
            )
        boxes = torch.from_numpy(np.concatenate([np.zeros_like(sizes), sizes], -1))
        scaled = crop_intrinsics(torch.from_numpy(K), boxes, (resolution, resolution))
        K_input = torch.where(torch.from_numpy(known)[..., None, None], scaled, torch.eye(3, dtype=scaled.dtype))
        device = self.loaded.device
        views = Views(
            images=torch.from_numpy(images).to(device),
            view_mask=torch.from_numpy(present).to(device),
            camera_slots=torch.from_numpy(slots).to(device),
            K=K_input.float().to(device),
            cam_from_world=torch.from_numpy(cameras).float().to(device),
            has_camera=torch.from_numpy(known).to(device),
            native_size_wh=torch.from_numpy(sizes).float().to(device),
        )
        return views, torch.from_numpy(sizes).float().to(device)

    def _slot(self, view: View, position: int) -> int:
        order = self.loaded.facts.camera_order
        if self.loaded.config.mode == "singleview":
            return 0
        if view.camera is not None:
            if view.camera not in order:
                raise InputError(f"predict: camera {view.camera!r} is not one of the network's: {', '.join(order)}")
            return order.index(view.camera)
        if position >= len(order):
            raise InputError(f"predict: {position + 1} views, but the network knows {len(order)}: {', '.join(order)}")
        return position

    def _poses(self, prediction: Prediction, sizes_wh: Float[Tensor, "n v 2"]) -> Poses:
        body, resolution = self.loaded.body, self.loaded.config.model.resolution
        joints = body.joints(prediction)
        K = _native_intrinsics(prediction.K, sizes_wh, resolution)
        pixels, in_front = project(to_cameras(joints, prediction.cam_from_world), K)
        optional = {"log_scales": prediction.log_scales, "joint_offsets": prediction.joint_offsets,
                    "mesh_scale": prediction.mesh_scale}  # fmt: skip
        return Poses(
            joint_names=self.loaded.facts.joint_names,
            camera_order=self.loaded.facts.camera_order,
            axis_angles=_np(matrix_to_axis_angle(prediction.rotations)),
            betas=_np(prediction.betas),
            translation=_np(prediction.translation),
            **{name: None if value is None else _np(value) for name, value in optional.items()},
            joints_world=_np(joints),
            vertices_world=_np(body.vertices(prediction)),
            view_mask=_np(prediction.view_mask),
            camera_slots=_np(prediction.camera_slots),
            K=_np(K),
            cam_from_world=_np(prediction.cam_from_world),
            joints_px=_np(pixels),
            in_front=_np(in_front),
        )


def predicted_masks(loaded: LoadedNetwork, prediction: Prediction, batch: Batch) -> Bool[Tensor, "b v h w"]:
    """Hard masks of the predicted mesh in the predicted cameras, at the size of the batch's pictures."""
    vertices = to_cameras(loaded.body.vertices(prediction), prediction.cam_from_world)
    size = (batch.images.shape[2], batch.images.shape[3])
    faces, renderer = loaded.body.model.faces, loaded.renderer
    raster = rasterize(vertices.flatten(0, 1), faces, prediction.K.flatten(0, 1), size, renderer)
    return (raster.face_ids >= 0).reshape(*vertices.shape[:2], *size)


def _native_intrinsics(K: Tensor, sizes_wh: Tensor, resolution: int) -> Float[Tensor, "n v 3 3"]:
    """K of the square input back to the pictures as given."""
    scale = sizes_wh / resolution
    native = K.clone()
    native[..., :2, :2] = K[..., :2, :2] * scale[..., None]
    native[..., :2, 2] = (K[..., :2, 2] + 0.5) * scale - 0.5
    return native


def _with_body_file(config: SmilConfig, facts: Facts, given: Path | None, folders: Sequence[Path]) -> SmilConfig:
    """The configuration with the body model's file where it is now."""
    if facts.smal_sha256 is None and given is None:
        return config
    recorded = config.smal_model.smal_file
    beside = [folder / BODY_FILE for folder in folders]
    candidates = [given] if given is not None else [*beside, *([recorded] if recorded is not None else [])]
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        looked = ", ".join(str(file) for file in candidates)
        raise InputError(f"the network's body model was not found (looked for {looked}); give it with --smal-file")
    changes: dict[str, Any] = {"smal_file": found}
    if facts.shaped_sha256 is not None and arrays_sha256(read_model(found)) == facts.shaped_sha256:
        changes |= {"shape_family": None, "smal_data_file": None}  # the file has the family's shape already
    elif file_sha256(found) != facts.smal_sha256:
        raise InputError(f"{found}: is not the body model that the network was trained with (its checksum differs)")
    return config.model_copy(update={"smal_model": config.smal_model.model_copy(update=changes)})


def _np(value: Tensor) -> Any:
    return value.detach().cpu().numpy()
