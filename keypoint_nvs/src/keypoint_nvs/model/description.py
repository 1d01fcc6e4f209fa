"""What a diffusion model is made of, as plain numbers: enough to rebuild it without the folder that it came from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from keypoint_nvs.model.architectures import Architecture, Kind, Settings
from keypoint_nvs.model.folder_description import FolderDescription
from keypoint_nvs.model.folder_files import UNET, VAE, VISION


@dataclass(frozen=True)
class ModelDescription:
    """Configurations of the parts, and constants of the latents and the noise."""

    name: str
    """Of the architecture, or the folder's."""
    kind: Kind
    unet: Settings
    vae: Settings
    vision: Settings | None
    cond_px: int
    vision_px: int | None
    latent_shift: float
    latent_scale: float
    beta_schedule: str
    prediction_type: str

    @classmethod
    def of_architecture(cls, arch: Architecture) -> "ModelDescription":
        return cls(
            name=arch.name,
            kind=arch.kind,
            unet=arch.unet,
            vae=arch.vae,
            vision=arch.vision,
            cond_px=arch.cond_px,
            vision_px=arch.vision_px,
            latent_shift=arch.latent_shift,
            latent_scale=arch.latent_scale,
            beta_schedule=arch.scheduler["beta_schedule"],
            prediction_type=arch.scheduler["prediction_type"],
        )

    @classmethod
    def of_folder(cls, folder: FolderDescription) -> "ModelDescription":
        vision = folder.settings.get(VISION)
        return cls(
            name=folder.folder.name,
            kind=folder.kind,
            unet=folder.settings[UNET],
            vae=folder.settings[VAE],
            vision=vision,
            cond_px=folder.cond_px,
            vision_px=None if vision is None else vision["image_size"],
            latent_shift=folder.latent_shift,
            latent_scale=folder.latent_scale,
            beta_schedule=folder.schedule.beta_schedule,
            prediction_type=folder.schedule.prediction_type,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelDescription":
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
