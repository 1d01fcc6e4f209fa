"""The four network families as configurations of diffusers and transformers, and modules with random weights.

Sizes of the public models are those of their released files; `tiny` is our own, for a CPU. The heavy libraries come in
only where a module is built, so reading a configuration costs nothing.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from posecore.errors import InputError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection

Settings = dict[str, Any]
Kind = Literal["zero123plus", "stable-diffusion"]

PROMPT_LENGTH = 77
"""Positions of a CLIP prompt, and so of the ramp of the image prompt."""
LATENT_SHIFT = 0.22
LATENT_SCALE = 0.75
"""Of Zero123++: scaled = (latent - shift) * scale."""

_CROSS_DOWN = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
_CROSS_UP = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")


@dataclass(frozen=True)
class Architecture:
    """Configurations of the parts; sizes in pixels."""

    name: str
    kind: Kind
    """What its folder would be: zero123plus has a vision encoder and a ramp."""
    unet: Settings
    """Of `UNet2DConditionModel`; attention_head_dim there means the number of heads."""
    vae: Settings
    """Of `AutoencoderKL`."""
    text: Settings
    """Of `CLIPTextConfig`."""
    vision: Settings | None
    """Of `CLIPVisionConfig`; None: the model has no image prompt."""
    scheduler: Settings
    """As scheduler_config.json has it."""
    view_px: int
    """Side of one view of the grid, or of the only picture."""
    cond_px: int
    """Side of the input view for the autoencoder."""
    vision_px: int | None
    """Side of the input view for the vision encoder."""
    ramp_length: int = PROMPT_LENGTH
    latent_shift: float = LATENT_SHIFT
    latent_scale: float = LATENT_SCALE
    """Of the grid's latents. The tiny model needs none: its autoencoder's latents are normalised after training."""

    @property
    def empty_prompt(self) -> tuple[int, ...]:
        """Token ids of the empty prompt."""
        return empty_prompt_ids(self.text)


def architecture(name: str) -> Architecture:
    """One of tiny, sd15, sd21, zero123plus.

    Raises:
        InputError: There is none of that name.
    """
    if name not in ARCHITECTURES:
        raise InputError(f"architecture {name!r}: no such architecture; there are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def empty_prompt_ids(text: Settings) -> tuple[int, ...]:
    """Token ids of the empty prompt, by the text encoder's configuration; no tokenizer is needed.

    The last two words of a CLIP vocabulary begin and end the text (49406 and 49407 of 49408; 62 and 63 of the tiny 64).
    OpenAI's encoder (quick_gelu, SD 1.x) is padded with the end, OpenCLIP's (gelu, SD 2.x, Zero123++) with 0.
    """
    begin, end = text["vocab_size"] - 2, text["vocab_size"] - 1
    pad = end if text["hidden_act"] == "quick_gelu" else 0
    return (begin, end, *[pad] * (PROMPT_LENGTH - 2))


def build_unet(arch: Architecture) -> "UNet2DConditionModel":
    """With random weights, on the current default device (`with torch.device("meta")` costs no memory)."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**arch.unet)


def build_vae(arch: Architecture) -> "AutoencoderKL":
    """With random weights."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(**arch.vae)


def build_text(arch: Architecture) -> "CLIPTextModel":
    """With random weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**arch.text))


def build_vision(arch: Architecture) -> "CLIPVisionModelWithProjection | None":
    """With random weights; None where the architecture has no image prompt."""
    if arch.vision is None:
        return None
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(CLIPVisionConfig(**arch.vision))


def _sd_unet(cross_attention_dim: int, heads: int | list[int], linear: bool, sample_size: int) -> Settings:
    return {
        "sample_size": sample_size,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": _CROSS_DOWN,
        "up_block_types": _CROSS_UP,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": cross_attention_dim,
        "attention_head_dim": heads,
        "use_linear_projection": linear,
        "norm_num_groups": 32,
    }


def _sd_vae(sample_size: int) -> Settings:
    return {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "sample_size": sample_size,
        "scaling_factor": 0.18215,
    }


def _text(width: int, layers: int, heads: int, act: str, vocab: int, inner: int) -> Settings:
    return {
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": PROMPT_LENGTH,
        "hidden_act": act,
        "bos_token_id": vocab - 2,
        "eos_token_id": vocab - 1,
        "pad_token_id": vocab - 1 if act == "quick_gelu" else 0,
    }


def _schedule(kind: str, beta_schedule: str, prediction_type: str, **others: Any) -> Settings:
    return {
        "_class_name": kind,
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": beta_schedule,
        "prediction_type": prediction_type,
        "steps_offset": 1,
        **others,
    }


_ZERO123PLUS_SCHEDULE = _schedule(
    "EulerAncestralDiscreteScheduler", "linear", "v_prediction", timestep_spacing="trailing"
)

ARCHITECTURES: dict[str, Architecture] = {
    "tiny": Architecture(
        name="tiny",
        kind="zero123plus",
        unet={
            "sample_size": 8,
            "in_channels": 4,
            "out_channels": 4,
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            "block_out_channels": (32, 64, 64),
            "layers_per_block": 1,
            "cross_attention_dim": 64,
            "attention_head_dim": [2, 4, 4],
            "use_linear_projection": True,
            "norm_num_groups": 8,
        },
        vae={
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 4,
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
            "block_out_channels": (24, 32, 32),
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "sample_size": 32,
            "scaling_factor": 0.18215,  # its latents are brought to these proportions after training (rescale_latents)
        },
        text=_text(64, 1, 4, "gelu", 64, 256),
        vision={
            "hidden_size": 64,
            "intermediate_size": 256,
            "projection_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
            "hidden_act": "gelu",
        },
        scheduler=_ZERO123PLUS_SCHEDULE,
        view_px=32,
        cond_px=32,
        vision_px=32,
        latent_shift=0.0,
        latent_scale=1.0,
    ),
    "sd15": Architecture(
        name="sd15",
        kind="stable-diffusion",
        unet=_sd_unet(768, 8, linear=False, sample_size=64),
        vae=_sd_vae(512),
        text=_text(768, 12, 12, "quick_gelu", 49408, 3072),
        vision=None,
        scheduler=_schedule("PNDMScheduler", "scaled_linear", "epsilon", set_alpha_to_one=False, skip_prk_steps=True),
        view_px=512,
        cond_px=512,
        vision_px=None,
    ),
    "sd21": Architecture(
        name="sd21",
        kind="stable-diffusion",
        unet=_sd_unet(1024, [5, 10, 20, 20], linear=True, sample_size=96),
        vae=_sd_vae(768),
        text=_text(1024, 23, 16, "gelu", 49408, 4096),
        vision=None,
        scheduler=_schedule("DDIMScheduler", "scaled_linear", "v_prediction", set_alpha_to_one=False),
        view_px=512,
        cond_px=512,
        vision_px=None,
    ),
    "zero123plus": Architecture(
        name="zero123plus",
        kind="zero123plus",
        unet=_sd_unet(1024, [5, 10, 20, 20], linear=True, sample_size=64),
        vae=_sd_vae(768),
        text=_text(1024, 23, 16, "gelu", 49408, 4096),
        vision={
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "projection_dim": 1024,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "image_size": 224,
            "patch_size": 14,
            "hidden_act": "gelu",
        },
        scheduler=_ZERO123PLUS_SCHEDULE,
        view_px=320,
        cond_px=512,
        vision_px=224,
    ),
}
