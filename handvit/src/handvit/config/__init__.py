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
        if self.general.stage1_path is not None and self.general.weights_path is not None:
            raise ValueError("general.stage1_path and general.weights_path both name where the run begins; give one")
        return self

    @model_validator(mode="after")
    def _supervised_frames_are_answered(self) -> "HandvitConfig":
        kind, frames = self.model.temporal_encoder.kind, self.model.num_frame
        if self.loss.frames == "all" and self.model.stage == 2 and kind == "last":
            raise ValueError(
                'loss.frames is "all", but model.temporal_encoder.kind last answers for the last frame of a clip only; '
                'take kind causal, or loss.frames "last"'
            )
        for name, needed in (("velocity", 2), ("acceleration", 3)):
            weight = getattr(self.loss, name)
            if weight > 0 and frames < needed:
                raise ValueError(
                    f"loss.{name} is {weight:g}: it needs clips of {needed} frames or more, but model.num_frame is {frames}"
                )
        return self

    @model_validator(mode="after")
    def _tokens_are_of_stage_1_and_of_the_pictures_as_they_are(self) -> "HandvitConfig":
        if not self.data.token_cache:
            return self
        if self.model.stage == 1:
            raise ValueError(
                "data.token_cache is true, but model.stage is 1, which makes the tokens; it is for stage 2"
            )
        if self.train.augmentation.enabled:
            raise ValueError(
                "data.token_cache is true, but so is train.augmentation.enabled: tokens are made of the pictures as they "
                "are; switch one of them off"
            )
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
