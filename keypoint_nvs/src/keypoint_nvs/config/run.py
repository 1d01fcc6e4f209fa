"""The whole configuration of a run."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from keypoint_nvs.config.data import DataConfig
from keypoint_nvs.config.inference import InferenceConfig
from keypoint_nvs.config.loss import LossConfig
from keypoint_nvs.config.model import ModelConfig
from keypoint_nvs.config.stages import AutoencoderConfig, KeypointsConfig, NvsConfig
from keypoint_nvs.config.training import FiguresConfig, TrainConfig
from posecore.config import Config

Stage = Literal["autoencoder", "nvs", "keypoints", "joint"]


class KeypointNvsConfig(Config):
    """Everything that `keypoint-nvs train` needs to know.

    What is trained follows from which of `autoencoder`, `nvs` and `keypoints` are there; nvs and keypoints together are
    the joint training.
    """

    presets: ClassVar[Path | None] = Path(__file__).parent.parent / "configs"

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    autoencoder: AutoencoderConfig | None = None
    nvs: NvsConfig | None = None
    keypoints: KeypointsConfig | None = None
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    inference: InferenceConfig = InferenceConfig()
    figures: FiguresConfig = FiguresConfig()

    @property
    def stage(self) -> Stage:
        """What is trained."""
        if self.autoencoder is not None:
            return "autoencoder"
        if self.keypoints is None:
            return "nvs"
        return "keypoints" if self.nvs is None else "joint"

    @model_validator(mode="after")
    def _something_is_trained(self) -> Self:
        if self.autoencoder is not None and (self.nvs is not None or self.keypoints is not None):
            raise ValueError("autoencoder is trained alone, before nvs and keypoints; make one of them null")
        if self.autoencoder is None and self.nvs is None and self.keypoints is None:
            raise ValueError("one of autoencoder, nvs and keypoints must be set, or nothing is trained")
        return self

    @model_validator(mode="after")
    def _views_fit_what_is_trained(self) -> Self:
        kinds = {dataset.kind for part in (self.data.train, self.data.val) for dataset in part}
        if self.nvs is not None and "images" in kinds:
            raise ValueError("nvs needs multiview data, but data has a set of kind images")
        if self.keypoints is not None and self.keypoints.multiview is not None and "images" in kinds:
            raise ValueError(
                "keypoints.multiview needs multiview data, but data has a set of kind images; set it to null"
            )
        return self

    @model_validator(mode="after")
    def _terms_have_their_inputs(self) -> Self:
        keypoints, loss = self.keypoints, self.loss
        needs = [name for name in ("point", "spread") if getattr(loss, name) > 0]
        if needs and keypoints is not None and keypoints.multiview is None:
            raise ValueError(f"loss.{needs[0]} is {getattr(loss, needs[0])}, but keypoints.multiview is null")
        if loss.temporal > 0 and self.data.frames < 2:
            raise ValueError("loss.temporal compares neighbouring frames; set data.frames to 2 or more")
        if loss.balance == "ema" and (self.nvs is None or keypoints is None):
            raise ValueError(
                "loss.balance ema brings keypoint terms to the size of the nvs term; it needs both nvs and keypoints"
            )
        return self


__all__ = ["KeypointNvsConfig", "Stage"]
