"""The configuration of a run, as pydantic models: one module a section."""

from pathlib import Path
from typing import ClassVar

from pydantic import model_validator

from handvit.config.augmentation import AugmentationConfig
from handvit.config.data import DataConfig
from handvit.config.hand import HandConfig
from handvit.config.loss import LossConfig
from handvit.config.model import ModelConfig
from handvit.config.training import GeneralConfig, TrainConfig
from posecore.config import Config


class HandvitConfig(Config):
    """Everything that `handvit train` needs to know, for stage 1 (single frames) and stage 2 (clips)."""

    presets: ClassVar[Path | None] = Path(__file__).parent.parent / "configs"

    general: GeneralConfig = GeneralConfig()
    model: ModelConfig = ModelConfig()
    hand: HandConfig = HandConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    loss: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _stage_2_begins_with_stage_1(self) -> "HandvitConfig":
        if self.model.stage == 1 and self.general.stage1_path is not None:
            raise ValueError("general.stage1_path is for model.stage 2; a stage 1 run begins with general.weights_path")
        return self


__all__ = [
    "AugmentationConfig",
    "DataConfig",
    "GeneralConfig",
    "HandConfig",
    "HandvitConfig",
    "LossConfig",
    "ModelConfig",
    "TrainConfig",
]
