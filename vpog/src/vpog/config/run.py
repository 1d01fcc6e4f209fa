"""The whole configuration of a run."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import model_validator

from posecore.config import Config
from vpog.config.augmentation import AugmentationConfig
from vpog.config.data import DataConfig, DatasetConfig
from vpog.config.inference import InferenceConfig
from vpog.config.loss import LossConfig
from vpog.config.model import ModelConfig
from vpog.config.training import FiguresConfig, TrainConfig


class VpogConfig(Config):
    """Everything that `vpog train` needs to know."""

    presets: ClassVar[Path | None] = Path(__file__).parent.parent / "configs"

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    inference: InferenceConfig = InferenceConfig()
    figures: FiguresConfig = FiguresConfig()

    @model_validator(mode="after")
    def _patches_have_enough_pixels(self) -> Self:
        least, patch = self.data.labels.min_visible_pixels, self.model.patch_size
        if least > patch**2:
            raise ValueError(
                f"data.labels.min_visible_pixels is {least}, but a patch of model.patch_size {patch} has {patch**2} pixels"
            )
        return self


__all__ = [
    "AugmentationConfig",
    "DataConfig",
    "DatasetConfig",
    "FiguresConfig",
    "InferenceConfig",
    "LossConfig",
    "ModelConfig",
    "TrainConfig",
    "VpogConfig",
]
