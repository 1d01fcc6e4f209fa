"""Pictures for the two encoders of Zero123++, equal to the released pipeline's to the bit.

That pipeline resizes with PIL; transformers 5's default processors resize with torchvision and are off by up to 0.005
(autoencoder) and 0.015 (CLIP), so its PIL ones are named here. Training resizes on the device instead.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from keypoint_nvs.model.conditioning import PreparedCondition
from keypoint_nvs.model.folder_files import FEATURES_CLIP, FEATURES_VAE, read_json
from posecore.errors import InputError

if TYPE_CHECKING:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)
BILINEAR: Final = 2
BICUBIC: Final = 3
GREY: Final = (127, 127, 127)
FILE: Final = "preprocessor_config.json"


class Preprocessor:
    """Square pictures -> inputs of autoencoder and vision encoder."""

    def __init__(self, vae: dict[str, Any], clip: dict[str, Any]) -> None:
        """Settings as preprocessor_config.json has them."""
        self._vae = _processor(vae)
        self._clip = _processor(clip)

    @classmethod
    def of_sizes(cls, cond_px: int = 512, vision_px: int = 224) -> "Preprocessor":
        """With Zero123++'s settings."""
        return cls(vae_settings(cond_px), clip_settings(vision_px))

    @classmethod
    def of_folder(cls, folder: Path) -> "Preprocessor":
        """With the settings of a folder in the layout of diffusers.

        Raises:
            InputError: One of the files is missing or damaged.
        """
        vae, clip = (read_json(folder / name / FILE, f"the {name}") for name in (FEATURES_VAE, FEATURES_CLIP))
        return cls(vae, clip)

    def __call__(self, pictures: Sequence[Image.Image], names: Sequence[str]) -> PreparedCondition:
        """Transparent pixels show grey (127).

        Args:
            names: What to call the pictures in messages.

        Raises:
            InputError: A picture is not square.
        """
        opaque = [on_grey(picture, name) for picture, name in zip(pictures, names, strict=True)]
        return PreparedCondition(_apply(self._vae, opaque), _apply(self._clip, opaque))


def on_grey(picture: Image.Image, name: str) -> Image.Image:
    """RGB, with PIL's own rounding of transparency.

    Raises:
        InputError: It is not square; the model has only seen square ones, and cutting is not ours to decide.
    """
    if picture.width != picture.height:
        raise InputError(f"{name}: {picture.width} x {picture.height} pixels; must be square, cut or pad it first")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    rgba = picture.convert("RGBA")
    ground = Image.new("RGB", rgba.size, GREY)
    ground.paste(rgba, mask=rgba.getchannel("A"))
    return ground


def vae_settings(side: int) -> dict[str, Any]:
    """Of the autoencoder's input: (p - 0.5) / 0.8, bilinear."""
    return _settings(side, (0.5, 0.5, 0.5), (0.8, 0.8, 0.8), BILINEAR)


def clip_settings(side: int) -> dict[str, Any]:
    """Of the vision encoder's input: CLIP's mean and deviation, bicubic."""
    return _settings(side, CLIP_MEAN, CLIP_STD, BICUBIC)


def _settings(side: int, mean: Sequence[float], std: Sequence[float], resample: int) -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": side, "width": side},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        "resample": resample,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": side},
    }


def _processor(settings: dict[str, Any]) -> "CLIPImageProcessorPil":
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    kind = ("image_processor_type", "feature_extractor_type", "processor_class")
    return CLIPImageProcessorPil(**{key: value for key, value in settings.items() if key not in kind})


def _apply(processor: "CLIPImageProcessorPil", pictures: list[Image.Image]) -> Float[Tensor, "n 3 s s"]:
    arrays = processor(pictures, return_tensors="np")["pixel_values"]
    return torch.from_numpy(np.ascontiguousarray(arrays, dtype=np.float32))
