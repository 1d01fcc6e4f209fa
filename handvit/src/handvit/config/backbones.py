"""Image encoders: which kinds are known, and the architectures behind the public hub names.

The sizes are those of the `config.json` files that the hub serves; with them a network is built, checked and restored
from a checkpoint without any access to the hub.
"""

from typing import Any, Literal, TypeAlias

BackboneKind: TypeAlias = Literal["dinov2", "vit_mae", "swinv2"]
KINDS: tuple[BackboneKind, ...] = ("dinov2", "vit_mae", "swinv2")


def _dinov2(width: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {"model_type": "dinov2", "patch_size": 14, "image_size": 518, "mlp_ratio": 4} | sizes | more


def _mae(width: int, layers: int, heads: int, patch: int = 16) -> dict[str, Any]:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {"model_type": "vit_mae", "intermediate_size": 4 * width, "patch_size": patch, "image_size": 224} | sizes


def _swinv2(width: int, third: int, heads: int, window: int, image: int) -> dict[str, Any]:
    return {
        "model_type": "swinv2",
        "embed_dim": width,
        "depths": [2, 2, third, 2],
        "num_heads": [heads, 2 * heads, 4 * heads, 8 * heads],
        "window_size": window,
        "image_size": image,
        "patch_size": 4,
        "encoder_stride": 32,
    }


PUBLIC: dict[str, dict[str, Any]] = {
    "facebook/dinov2-small": _dinov2(384, 12, 6),
    "facebook/dinov2-base": _dinov2(768, 12, 12),
    "facebook/dinov2-large": _dinov2(1024, 24, 16),
    "facebook/dinov2-giant": _dinov2(1536, 40, 24, use_swiglu_ffn=True),
    "facebook/vit-mae-base": _mae(768, 12, 12),
    "facebook/vit-mae-large": _mae(1024, 24, 16),
    "facebook/vit-mae-huge": _mae(1280, 32, 16, patch=14),
    "microsoft/swinv2-tiny-patch4-window8-256": _swinv2(96, 6, 3, 8, 256),
    "microsoft/swinv2-small-patch4-window8-256": _swinv2(96, 18, 3, 8, 256),
    "microsoft/swinv2-base-patch4-window8-256": _swinv2(128, 18, 4, 8, 256),
    "microsoft/swinv2-base-patch4-window12-192-22k": _swinv2(128, 18, 4, 12, 192),
    "microsoft/swinv2-large-patch4-window12-192-22k": _swinv2(192, 18, 6, 12, 192),
}
"""What follows from these names; everything else in the files is transformers' default."""


def known_architecture(backbone_str: str, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """The architecture, as far as it follows from the configuration alone: a public name, or a kind with its kwargs."""
    if backbone_str in KINDS:
        return {"model_type": backbone_str} | kwargs
    return PUBLIC[backbone_str] | kwargs if backbone_str in PUBLIC else None
