"""Which clips are trained and validated on, and how they are drawn."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from posecore.config import Config


class FilterConfig(Config):
    """Which frames are good enough, decided before a picture is decoded."""

    min_valid_joints: Annotated[int, Field(ge=0, le=21)] = 16
    """Fewest valid 2D joints of a frame."""
    min_box_px: NonNegativeFloat = 8.0
    """Smallest shorter edge of the hand's box."""
    policy: Literal["all", "last", "any"] = "all"
    """Which frames of a clip must pass: all; the last one, which is predicted; or any."""


class DatasetConfig(Config):
    """The shards of one data set."""

    name: str
    """What to call it in messages."""
    shards: str | list[str]
    """A folder of .tar files, one file, a glob (`train-*.tar`) or braces (`train-{000000..000099}.tar`); or several of
    these. Relative paths are looked for in the working folder, then beside the configuration."""
    pose_mean: Literal["absolute", "relative"] = "absolute"
    """Of samples whose meta.json does not say it. relative: hand poses are offsets from the mean pose, as in tars made
    the upstream way."""


class TrainDatasetConfig(DatasetConfig):
    """A data set to train on."""

    weight: PositiveFloat | None = None
    """Share of the draws, relative to the other data sets; all have one or none has (each clip once an epoch)."""


class SourceConfig(Config):
    """Clips to validate or test on."""

    datasets: list[DatasetConfig] = []
    """Empty: none."""
    stride: PositiveInt = 1
    """Frames between the starts of two clips."""
    frame_step: PositiveInt = 1
    """Frames between two frames of a clip; 2 leaves out every other one."""
    sampling: Literal["dense", "random_clip"] = "dense"
    """dense: every clip; random_clip: `clips_per_sequence` of each sequence an epoch, drawn anew each epoch."""
    clips_per_sequence: PositiveInt = 1
    """With random_clip. Draws of one sequence are spread over it and never the same."""
    filter: FilterConfig = FilterConfig()
    """Which frames are good enough."""

    @model_validator(mode="after")
    def _names_differ(self) -> "SourceConfig":
        names = [dataset.name for dataset in self.datasets]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"datasets: two are named {double[0]!r}; give each its own name")
        if self.sampling == "dense" and self.clips_per_sequence != 1:
            raise ValueError(
                f"clips_per_sequence is {self.clips_per_sequence}, but sampling is dense, which takes all; use random_clip"
            )
        return self


class TrainSourceConfig(SourceConfig):
    """Clips to train on."""

    datasets: list[TrainDatasetConfig] = []  # type: ignore[assignment]  # it narrows a list that nobody writes to
    """At least one is needed to train."""
    sampling: Literal["dense", "random_clip"] = "random_clip"
    """dense: every clip; random_clip: `clips_per_sequence` of each sequence an epoch, drawn anew each epoch."""
    depth_bins: bool = False
    """Draw clips so that each bin of root depth (0, 500, 700, 900, 1100 mm and beyond) has the same weight."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of the clips that an epoch sees, chosen anew each epoch."""

    def weights(self) -> list[float] | None:
        """Of the data sets; None: each clip once an epoch."""
        given = [dataset.weight for dataset in self.datasets if dataset.weight is not None]
        return given or None

    @model_validator(mode="after")
    def _one_kind_of_weights(self) -> "TrainSourceConfig":
        weighted = [dataset.name for dataset in self.datasets if dataset.weight is not None]
        if weighted and self.depth_bins:
            raise ValueError(f"depth_bins is true, but datasets.{weighted[0]} has a weight; one of the two decides")
        if weighted and len(weighted) < len(self.datasets):
            lacking = next(dataset.name for dataset in self.datasets if dataset.weight is None)
            raise ValueError(
                f"datasets: {weighted[0]} has a weight and {lacking} has none; give all of them one, or none"
            )
        return self


class DataConfig(Config):
    """Where clips come from."""

    train: TrainSourceConfig = TrainSourceConfig()
    """Clips to train on."""
    val: SourceConfig = SourceConfig()
    """Clips to validate on while training; empty: no validation."""
    test: SourceConfig = SourceConfig()
    """Clips that `evaluate` scores."""
    token_cache: bool = False
    """Stage 2: train on stage 1's tokens, which `handvit data tokens` has put beside the shards, instead of on pictures.
    Many times faster; train.augmentation must be off. Validation goes on looking at pictures."""
    workers: NonNegativeInt = 2
    """Processes that load clips for each training process; 0: it loads them itself."""
    prefetch: PositiveInt = 2
    """Batches that each of them loads ahead."""
