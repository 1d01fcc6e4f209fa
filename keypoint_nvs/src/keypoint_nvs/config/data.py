"""Which pictures a run sees."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from posecore.config import Config

Byte = Annotated[int, Field(ge=0, le=255)]


class MultiviewData(Config):
    """Objects seen from an input view and the views of a rig."""

    kind: Literal["multiview"] = "multiview"
    path: str
    """An HDF5 store, a folder of them, or a glob."""
    weight: PositiveFloat | None = None
    """Share of the draws, relative to the other data sets; all have one or none has (each sample once an epoch)."""


class ImageData(Config):
    """Single pictures of one category, for keypoints without novel views."""

    kind: Literal["images"] = "images"
    path: str
    """A folder of pictures (searched through), or a glob."""
    fit: Literal["exact", "centre_crop", "pad"] = "exact"
    """What becomes of pictures that are not square: refused, cut, or padded with the background."""
    weight: PositiveFloat | None = None
    """As of multiview data."""


DatasetConfig = Annotated[MultiviewData | ImageData, Field(discriminator="kind")]


class DataConfig(Config):
    """Where samples come from and how they become pictures."""

    train: list[DatasetConfig] = []
    val: list[DatasetConfig] = []
    """Empty: no validation while training."""
    background: Literal["grey", "white"] | tuple[Byte, Byte, Byte] = "grey"
    """What transparent pixels show: grey (127) as Zero123++, white as InstantMesh, or RGB."""
    vary_condition_px: tuple[PositiveInt, PositiveInt] | None = None
    """Training: the input view is first resized to a random size between these (128, 512 published); null: as it is."""
    frames: PositiveInt = 1
    """Training: so many consecutive frames of one object (or folder) make a sample, for loss.temporal; batch_size counts
    such samples."""
    max_pose_error_deg: NonNegativeFloat = 5.0
    """A sample with cameras is refused where a view is turned farther than this from the rig's."""
    val_limit: PositiveInt | None = None
    """Validate on this many samples, spread over the set; null: all."""
    fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Part of the samples that an epoch sees, chosen anew each epoch."""

    @model_validator(mode="after")
    def _sizes_rise(self) -> "DataConfig":
        if self.vary_condition_px is not None and self.vary_condition_px[0] > self.vary_condition_px[1]:
            raise ValueError(
                f"vary_condition_px {self.vary_condition_px} must rise: the smallest size, then the largest"
            )
        return self

    @model_validator(mode="after")
    def _one_kind_and_all_or_no_weights(self) -> "DataConfig":
        for part in ("train", "val"):
            sets: list[MultiviewData | ImageData] = getattr(self, part)
            if len({d.kind for d in sets}) > 1:
                raise ValueError(
                    f"{part}: multiview and images cannot be mixed; a batch has as many views of each sample"
                )
            weighted = [d.path for d in sets if d.weight is not None]
            if weighted and len(weighted) < len(sets):
                raise ValueError(
                    f"{part}: {weighted[0]} has a weight and others have none; give all of them one, or none"
                )
        return self
