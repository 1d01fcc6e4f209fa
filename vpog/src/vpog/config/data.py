"""Which pictures and templates a run sees."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from posecore.config import Config
from vpog.config.augmentation import AugmentationConfig
from vpog.config.labels import LabelConfig
from vpog.config.selection import SelectionConfig


class DatasetConfig(Config):
    """One data set: annotated pictures, the models of their objects, and templates of these."""

    name: str
    """What it is called in messages and result files."""
    images: str
    """kind shards, megapose: a folder of .tar files, one file, a glob or braces. kind bop: the folder of a split."""
    kind: Literal["shards", "megapose", "bop"] = "shards"
    """Layout of the pictures: BOP-webdataset, the original MegaPose shards, or BOP scenes."""
    templates: Path
    """Folder of the rendered templates: OBJECT/VIEW.png, OBJECT/VIEW_depth.png, object_poses/OBJECT.npy."""
    models_info: Path | None = None
    """models_info.json: diameters and symmetries; null: objects are measured on their templates and have no symmetry
    (GSO, ShapeNet)."""
    object_numbers: Path | None = None
    """kind megapose: models_info.json in its list form, which numbers the objects; null: labels are numbers."""
    sigma: PositiveFloat | None = None
    """How much larger the rendered meshes are than the objects in the pictures: 10 for GSO and ShapeNet; null: what
    templates.json says, else 1."""
    object_index: Path | None = None
    """kind shards: what `vpog data index` wrote, for folders that cannot be written to; null: an index beside each shard."""
    weight: PositiveFloat | None = None
    """Share of the draws, relative to the other data sets; all have one or none has (each instance once an epoch)."""
    skip_broken: bool = False
    """Leave out shards that cannot be opened, with one warning and their number, instead of stopping."""


class TemplatesConfig(Config):
    """How templates are kept."""

    cache_mb: PositiveInt = 512
    """Memory for cut templates in each loading process."""
    preload: bool = False
    """Fill it at the start instead of as templates are asked for."""


class DataConfig(Config):
    """Where samples come from and how groups are made."""

    train: list[DatasetConfig] = []
    val: list[DatasetConfig] = []
    """Empty: no validation while training."""
    test: list[DatasetConfig] = []
    """What `evaluate` measures on."""
    min_visib_fract: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    """Objects of which no more is visible are left out."""
    min_box_px: PositiveInt = 20
    """Objects whose visible box has no longer side are left out."""
    val_limit: PositiveInt | None = None
    """Validate on this many instances, spread over the set; null: all."""
    background: Literal["keep", "mask", "replace"] = "keep"
    """What surrounds the query: as it is; black outside the visible mask, in prediction too; or, in training, a made-up
    background, which prediction leaves as it is."""
    fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Part of the instances that an epoch sees, chosen anew each epoch."""
    templates: TemplatesConfig = TemplatesConfig()
    selection: SelectionConfig = SelectionConfig()
    """Which templates make a group."""
    labels: LabelConfig = LabelConfig()
    """When a point counts as visible."""
    augmentation: AugmentationConfig = AugmentationConfig()
    augment: bool = True
    """Vary the training pictures."""
    crop_scale: PositiveFloat = 1.0
    """Side of the crop over the longer side of the object's box."""
    max_objects: NonNegativeInt = 0
    """Use only the first so many objects; 0: all."""

    @model_validator(mode="after")
    def _weights_and_names(self) -> "DataConfig":
        weighted = [d.name for d in self.train if d.weight is not None]
        if weighted and len(weighted) < len(self.train):
            lacking = next(d.name for d in self.train if d.weight is None)
            raise ValueError(f"train: {weighted[0]} has a weight and {lacking} has none; give all of them one, or none")
        for part in ("train", "val", "test"):
            names = [d.name for d in getattr(self, part)]
            double = sorted({name for name in names if names.count(name) > 1})
            if double:
                raise ValueError(f"{part}: two data sets are named {double[0]!r}; give each its own name")
        return self
