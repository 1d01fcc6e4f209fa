"""The JSON configuration of `smil`: the original's layout, checked completely, with our additions beside it.

Two rules of the original layout hold on top of `posecore.config`: `null` never overrides a default, and the
defaults of `output` depend on the mandatory field `mode`. A dictionary given for `lr_schedule`, `base_weights`,
`curriculum_stages` or `*_loss_weights` replaces the default as a whole, so a term that a file's `base_weights`
does not name has weight 0, while the default `curriculum_stages` stay active until the file replaces them too.
Fields marked "Ours" are not in the original.
"""

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from posecore.config import Config
from smil_regressor import _defaults as defaults

Ratio = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Epoch = NonNegativeInt
Weights = dict[str, NonNegativeFloat]


class SmalModel(Config):
    """Which body model."""

    smal_file: Path | None = None
    """SMAL/SMIL .pkl; null: the procedural insect that `smil data synth` uses."""
    shape_family: int | None = None
    """Legacy SMAL: add the mean shape of this cluster of `smal_data_file`; null or -1: none."""
    smal_data_file: Path | None = None
    """Ours. Legacy SMAL: the file that holds `cluster_means`, needed when shape_family >= 0."""

    @model_validator(mode="after")
    def _family_needs_its_file(self) -> Self:
        if (self.shape_family or -1) >= 0 and self.smal_data_file is None:
            raise ValueError(
                f"smal_model.shape_family is {self.shape_family}: smal_model.smal_data_file must name the file "
                "with cluster_means"
            )
        return self


class Dataset(Config):
    """What is read, and how it is split."""

    data_path: Path | None = None
    """HDF5 file made by `smil data convert` or `smil data synth`, of either layout."""
    train_ratio: Ratio = 0.85
    val_ratio: Ratio = 0.05
    test_ratio: Ratio = 0.1
    dataset_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the training samples that each epoch draws anew."""
    from_multiview: bool = False
    """Single-view training on the views of a multi-view file."""
    frame_convention: Literal["model_centric", "camera_centric"] = "model_centric"
    """camera_centric fixes the camera and places the body in its frame; needs from_multiview."""
    expand_all_views: bool = True
    """With from_multiview: every view is a sample; else the first valid view of each frame."""
    use_ue_scaling: bool = True
    """Single view: joints are placed as 10 (x - root) + trans, as the original's Unreal data wants it."""
    split_by: Literal["session", "block", "frame"] = "session"
    """Ours. session: no session in two splits; block: contiguous frames with a gap; frame: random frames, as the
    original does (neighbouring frames of a video then leak from training into test)."""

    @model_validator(mode="after")
    def _ratios_and_frames(self) -> Self:
        total = self.train_ratio + self.val_ratio + self.test_ratio
        if total > 1 + 1e-9:
            raise ValueError(
                f"dataset.train_ratio, val_ratio and test_ratio add up to {total:g}; at most 1 is possible"
            )
        if self.frame_convention == "camera_centric" and not self.from_multiview:
            raise ValueError(
                "dataset.frame_convention camera_centric needs dataset.from_multiview true (known cameras)"
            )
        return self


class Model(Config):
    """The network."""

    backbone_name: str = "vit_large_patch16_224"
    """A timm name, `unet_<timm encoder>`, or `tiny_vit` (64 px, random, for tests and demos)."""
    freeze_backbone: bool = True
    backbone_unfreeze_epoch: NonNegativeInt | None = None
    """Epoch from which a frozen backbone trains; null: never."""
    backbone_lr_multiplier: PositiveFloat = 0.1
    """The backbone's rate = scheduled rate times this."""
    hidden_dim: PositiveInt = 1024
    """Width of the heads; overruled by backbones of known width (see `hidden_width`)."""
    head_type: Literal["transformer_decoder", "mlp"] = "transformer_decoder"
    use_unity_prior: bool = False
    """Legacy dog model only; accepted and reported, no other model has that prior."""
    rgb_only: bool = False
    """Masks are neither read nor used."""
    input_resolution: PositiveInt | None = None
    """Pixels, square; null: 224 for ViT, 64 for tiny_vit, else 512."""
    transformer_depth: PositiveInt = 6
    transformer_heads: PositiveInt = 8
    transformer_dim_head: PositiveInt = 64
    transformer_mlp_dim: PositiveInt = 1024
    transformer_dropout: Probability = 0.1
    transformer_ief_iters: PositiveInt = 3
    """Iterations of error feedback."""
    transformer_trans_scale_factor: PositiveFloat = 1
    pretrained: bool = True
    """Ours. Start from the backbone's published weights (hub or `pretrained_path`); false: random."""
    pretrained_path: Path | None = None
    """Ours. Local weights of the backbone (.safetensors, .pth or .bin); null: the hub."""
    decoder_context: Literal["fused", "patches"] = "fused"
    """Ours. What the multi-view decoder attends: one fused token a view, or all patch tokens of all views."""
    rot6d_convention: Literal["interleaved", "rows", "columns"] = "interleaved"
    """Ours. Layout of 6D rotations; checkpoints of the original use rows."""
    start_from_mean_pose: bool = False
    """Ours. Error feedback starts at the training labels' mean pose instead of the model's rest pose."""
    fused_in_patches: bool = True
    """Ours. With decoder_context patches: each view's fused token is added to its patches (the original does not)."""
    camera_dropout: Probability = 0.1
    """Ours. Dropout of the camera heads."""
    separate_limbs: Literal["joints", "pca"] = "joints"
    """Ours. In scale mode separate: direct values for each joint, or weights of the model file's components."""

    @property
    def hidden_width(self) -> int:
        """Width of the heads as the backbone dictates it."""
        return defaults.hidden_width(self.backbone_name, self.hidden_dim)

    @property
    def resolution(self) -> int:
        """Side of the square input in pixels."""
        return self.input_resolution or defaults.input_resolution(self.backbone_name)


class Optimizer(Config):
    """AdamW and its rate."""

    learning_rate: PositiveFloat = 5e-5
    """Rate before the first epoch of `lr_schedule`."""
    weight_decay: NonNegativeFloat = 1e-4
    gradient_clip_norm: PositiveFloat = 1.0
    optimizer_type: Literal["adamw"] = "adamw"
    lr_schedule: dict[Epoch, PositiveFloat] = defaults.LR_SCHEDULE
    """{"epoch": rate}: the rate from that epoch on."""


class LossCurriculum(Config):
    """Weights of the loss terms, by epoch."""

    base_weights: Weights = defaults.BASE_WEIGHTS
    """Weight of each term from epoch 0; a term that is not named has weight 0."""
    curriculum_stages: dict[Epoch, Weights] = defaults.CURRICULUM_STAGES
    """{"epoch": {term: weight}}: changes from that epoch on, in order of epochs."""

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for where, weights in [("base_weights", self.base_weights)] + [
            (f"curriculum_stages.{epoch}", stage) for epoch, stage in self.curriculum_stages.items()
        ]:
            defaults.check_terms(f"loss_curriculum.{where}", weights)
        return self


class ScaleTransBeta(Config):
    """How limb scales and limb translations are predicted."""

    mode: Literal["entangled_with_betas", "separate", "ignore"] = "entangled_with_betas"
    entangled_loss_weights: Weights = {"betas": 5e-4, "log_beta_scales": 0.01, "betas_trans": 0.01}
    separate_loss_weights: Weights = {"log_beta_scales": 5e-4, "betas_trans": 5e-4}
    ignore_loss_weights: Weights = {"log_beta_scales": 0.0, "betas_trans": 0.0}
    separate_trans_scale_factor: PositiveFloat = 0.01
    """Mode separate with model.separate_limbs pca: what the weighed transdirs are multiplied by."""

    @property
    def loss_weights(self) -> Weights:
        """The weights that this mode lays over the curriculum."""
        by_mode = {
            "entangled_with_betas": self.entangled_loss_weights,
            "separate": self.separate_loss_weights,
            "ignore": self.ignore_loss_weights,
        }
        return by_mode[self.mode]


class MeshScaling(Config):
    """One factor for the whole mesh."""

    allow_mesh_scaling: bool = True
    init_mesh_scale: PositiveFloat = 1.0
    """Where the factor starts, relative to the median size of the data's bodies over that of the body model."""
    use_log_scale: bool = True
    """Predict the logarithm of the factor."""


class Augmentation(Config):
    """Changes of the training pictures; photometric ones are shared by the views of a sample."""

    enabled: bool = False
    geometric_enabled: bool = False
    color_jitter_brightness: NonNegativeFloat = 0.2
    color_jitter_contrast: NonNegativeFloat = 0.2
    color_jitter_saturation: NonNegativeFloat = 0.15
    gaussian_noise_std: NonNegativeFloat = 0.015
    gaussian_blur_prob: Probability = 0.3
    gaussian_blur_kernel_range: tuple[PositiveInt, PositiveInt] = (3, 7)
    """Smallest and largest kernel, pixels, odd."""
    random_erasing_prob: Probability = 0.2
    random_erasing_scale_range: tuple[Probability, Probability] = (0.02, 0.1)
    """Share of the picture's area."""
    crop_jitter_fraction: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Largest shift of the crop, share of the side."""
    scale_jitter_range: tuple[PositiveFloat, PositiveFloat] = (0.9, 1.1)

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        for name in ("gaussian_blur_kernel_range", "random_erasing_scale_range", "scale_jitter_range"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"augmentation.{name} is [{low}, {high}]: the first must not be above the second")
        if any(k % 2 == 0 for k in self.gaussian_blur_kernel_range):
            raise ValueError(
                f"augmentation.gaussian_blur_kernel_range is {list(self.gaussian_blur_kernel_range)}: "
                "odd numbers are needed"
            )
        return self


class JointImportance(Config):
    """Joints that count more in keypoint losses."""

    enabled: bool = True
    important_joint_names: list[str] = []
    weight_multiplier: PositiveFloat = 10.0


class IgnoredJointLocations(Config):
    """Joints left out of keypoint losses (loss level)."""

    enabled: bool = True
    ignored_joint_names: list[str] = []


class IgnoredJoints(Config):
    """Joints whose labels are dropped when data is read (data level)."""

    ignored_joint_names: list[str] = []
    verbose: bool = True
    """Report which joints are dropped."""


class AvailableLabels(Config):
    """Which labels of a dataset may be used."""

    global_rot: bool = True
    joint_rot: bool = True
    betas: bool = True
    trans: bool = True
    fov: bool = True
    cam_rot: bool = True
    cam_trans: bool = True
    log_beta_scales: bool = True
    betas_trans: bool = True
    keypoint_2d: bool = True
    keypoint_3d: bool = True
    silhouette: bool = True


class MixedDataset(Config):
    """One of several datasets that are trained together."""

    name: str
    path: Path
    type: Literal["replicant", "sleap", "optimized_hdf5", "auto"] = "auto"
    """sleap: a multi-view file; optimized_hdf5: a single-view file; replicant and auto: either."""
    weight: PositiveFloat = 1.0
    """Share of the training samples drawn from it, relative to the others' weights."""
    enabled: bool = True
    available_labels: AvailableLabels = AvailableLabels()


class MultiDataset(Config):
    """Training on several datasets."""

    enabled: bool = False
    datasets: list[MixedDataset] = []
    validation_split_strategy: Literal["per_dataset", "combined"] = "per_dataset"
    """per_dataset: split each, then join; combined: join, then split."""

    @model_validator(mode="after")
    def _needs_datasets(self) -> Self:
        if self.enabled and not any(d.enabled for d in self.datasets):
            raise ValueError("multi_dataset.enabled is true, but multi_dataset.datasets holds no enabled dataset")
        names = [d.name for d in self.datasets]
        if len(set(names)) < len(names):
            raise ValueError(f"multi_dataset.datasets: names must differ, not {names}")
        return self


class Output(Config):
    """Where a run writes: folders inside the run folder (`runs/<checkpoint_dir>` unless `--run-dir` says else)."""

    checkpoint_dir: str = "checkpoints"
    """Name of the run folder under runs/."""
    plots_dir: str = "plots"
    """Folder of the loss curves."""
    visualizations_dir: str = "visualizations"
    """Folder of validation pictures."""
    train_visualizations_dir: str = "visualizations_train"
    """Folder of training pictures."""
    singleview_visualizations_dir: str = "multiview_singleview_renders"
    """Folder of one picture a view (multi-view)."""
    save_checkpoint_every: PositiveInt = 10
    """Epochs."""
    generate_visualizations_every: PositiveInt = 10
    """Epochs."""
    plot_history_every: PositiveInt = 10
    """Epochs."""
    num_visualization_samples: PositiveInt = 10


class Training(Config):
    """The loop."""

    batch_size: PositiveInt = 8
    """Samples a step over all devices and accumulated micro-batches."""
    num_epochs: PositiveInt = 1000
    seed: NonNegativeInt = 1234
    rotation_representation: Literal["6d", "axis_angle"] = "6d"
    num_workers: NonNegativeInt = 8
    pin_memory: bool = True
    prefetch_factor: PositiveInt = 4
    resume_checkpoint: str | None = None
    """A run, a checkpoint of ours, or a .pth of the original; looked for beside the config file, then in the working
    folder."""
    reset_ief_token_embedding: bool = False
    """On resuming, start the decoder's token embedding afresh."""
    use_gt_camera_init: bool = True
    """Cameras are predicted as small corrections of the given calibration, which prediction then needs too."""
    use_mixed_precision: bool = False
    """bf16 in the backbone; decoder, cameras and body model stay in float32."""
    backbone_chunk_size: PositiveInt | None = None
    """Views that go through the backbone at once; null: all."""
    gradient_accumulation_steps: PositiveInt = 1
    max_steps: PositiveInt | None = None
    """Ours. Stop after so many optimiser steps; null: after num_epochs."""
    warmup_steps: NonNegativeInt = 0
    """Ours. Steps over which the rate rises from 0."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Ours. Decay of the averaged weights that are validated and saved; null: none."""
    validate_every: PositiveInt = 1
    """Ours. Epochs between validations."""
    log_every: PositiveInt = 10
    """Ours. Steps between lines of metrics.jsonl."""
    trackers: list[Literal["tensorboard", "aim", "wandb"]] = ["tensorboard"]
    """Ours. Written beside metrics.jsonl."""
    devices: PositiveInt | Literal["auto"] = "auto"
    """Ours. Processes (GPUs) on each node; auto: what torchrun or SLURM started, else all GPUs, else one on the CPU."""
    nodes: PositiveInt | Literal["auto"] = "auto"
    """Ours. auto: what torchrun or SLURM started, else one."""


class TriangulationOptions(Config):
    """How predicted cameras triangulate labels for `triangulation_consistency`; the defaults are the original's."""

    regulariser: PositiveFloat = 1e-6
    """Added to the diagonal of the normal equations."""
    relative: bool = False
    """Centre and scale the equations, so that the regulariser does not depend on the unit."""
    reweight_passes: NonNegativeInt = 0
    """Passes that turn the algebraic error into image units."""
    use_confidence: bool = False
    """Weigh views by the labels' confidence."""
    double: bool = False
    """Solve in float64."""
    min_angle_deg: NonNegativeFloat | None = None
    """Rays that meet at less are not used."""
    in_front: bool = False
    """Points must lie in front of all their cameras."""
    huber_delta: PositiveFloat | None = None
    """Distances beyond this (world units) count linearly."""
    max_distance: PositiveFloat = 25.0
    """Points farther from the body than so many of its radii are dropped."""


class Losses(Config):
    """Ours. Variants of the loss terms."""

    silhouette: Literal["edge", "soft"] = "edge"
    """edge: antialiased outline; soft: the SoftRas form of SMAL/SMIL practice."""
    silhouette_distance: Literal["bce", "l1", "soft_iou"] = "bce"
    sigma: PositiveFloat = 1e-4
    """Blur of the soft silhouette, squared NDC."""
    renderer: Literal["warp", "torch", "pytorch3d"] = "warp"
    relative_lengths: bool = True
    """Lengths are divided by the data's body size over the model's, so that weights do not depend on the data's unit;
    false: world units, as the original. No difference where data is in the model's unit."""
    huber_delta: PositiveFloat | None = None
    """Keypoint errors beyond this (share of the picture, lengths) count linearly; null: squared throughout."""
    triangulation: TriangulationOptions = TriangulationOptions()


class SmilConfig(Config):
    """A training run of `smil`."""

    presets: ClassVar[Path | None] = Path(__file__).parent / "configs"

    mode: Literal["singleview", "multiview"]
    """Mandatory."""
    num_views_to_use: PositiveInt | None = None
    """Multi-view: at most so many views a sample, drawn anew each time; null: all."""
    min_views_per_sample: PositiveInt = 2
    """Multi-view: samples with fewer valid views are left out when the data is opened (and counted)."""
    cross_attention_layers: PositiveInt = 2
    """Multi-view."""
    cross_attention_heads: PositiveInt = 8
    """Multi-view."""
    cross_attention_dropout: Probability = 0.1
    """Multi-view."""
    smal_model: SmalModel = SmalModel()
    dataset: Dataset = Dataset()
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    loss_curriculum: LossCurriculum = LossCurriculum()
    losses: Losses = Losses()
    scale_trans_beta: ScaleTransBeta = ScaleTransBeta()
    mesh_scaling: MeshScaling = MeshScaling()
    augmentation: Augmentation = Augmentation()
    joint_importance: JointImportance = JointImportance()
    ignored_joint_locations: IgnoredJointLocations = IgnoredJointLocations()
    ignored_joints: IgnoredJoints = IgnoredJoints()
    multi_dataset: MultiDataset = MultiDataset()
    output: Output = Output()
    training: Training = Training()

    @model_validator(mode="before")
    @classmethod
    def _null_never_overrides(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = defaults.without_nulls(data)
        by_mode = defaults.OUTPUT_BY_MODE.get(data.get("mode"), {})
        output = data.get("output", {})
        return data | {"output": by_mode | output} if isinstance(output, dict) else data

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        given = self.model_fields_set
        if self.mode == "singleview":
            wrong = sorted(given & set(defaults.MULTIVIEW_ONLY))
            if wrong:
                raise ValueError(f"{', '.join(wrong)}: only in mode multiview, but mode is singleview")
        elif self.dataset.from_multiview:
            raise ValueError("dataset.from_multiview is for mode singleview, but mode is multiview")
        if self.num_views_to_use is not None and self.num_views_to_use < self.min_views_per_sample:
            raise ValueError(
                f"num_views_to_use is {self.num_views_to_use}, fewer than min_views_per_sample "
                f"{self.min_views_per_sample}"
            )
        if self.model.rgb_only and any(self.loss_weights(e).get("silhouette", 0) > 0 for e in self.weight_epochs()):
            raise ValueError("model.rgb_only reads no masks, but loss_curriculum gives silhouette a weight")
        known = [n for n in (self.training.devices, self.training.nodes) if isinstance(n, int)]
        parts = math.prod(known) * self.training.gradient_accumulation_steps
        if self.training.batch_size % parts:
            raise ValueError(
                f"training.batch_size is {self.training.batch_size}: it must be a multiple of devices x nodes x "
                f"gradient_accumulation_steps = {parts}"
            )
        return self

    def to_json_dict(self) -> dict[str, Any]:
        """The resolved configuration as plain JSON types, without the fields that this mode does not have."""
        data = super().to_json_dict()
        dropped = defaults.MULTIVIEW_ONLY if self.mode == "singleview" else ()
        return {key: value for key, value in data.items() if key not in dropped}

    def learning_rate(self, epoch: int) -> float:
        """The rate of this epoch: the value of the largest schedule key up to it, else `learning_rate`."""
        started = [key for key in self.optimizer.lr_schedule if key <= epoch]
        return self.optimizer.lr_schedule[max(started)] if started else self.optimizer.learning_rate

    def loss_weights(self, epoch: int, with_scale_mode: bool = True) -> Weights:
        """Weights of this epoch: base, then every stage up to it in order, then the scale mode's own on top."""
        weights = dict(self.loss_curriculum.base_weights)
        for key in sorted(self.loss_curriculum.curriculum_stages):
            if key <= epoch:
                weights |= self.loss_curriculum.curriculum_stages[key]
        return weights | self.scale_trans_beta.loss_weights if with_scale_mode else weights

    def weight_epochs(self) -> list[int]:
        """Epochs at which the weights change."""
        return sorted({0, *self.loss_curriculum.curriculum_stages})
