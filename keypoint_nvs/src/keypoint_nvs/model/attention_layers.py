"""Which cross-attentions of a UNet show keypoints."""

from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention

from posecore.errors import InputError

NUM_LAYERS, LARGEST_SIDE = 4, 32
"""The first four cross-attentions of the up blocks with at most 32 x 32 queries (StableKeypoints)."""


def cross_attentions(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """All of them in the order in which they run; a name ends in .transformer_blocks.i only where there are several."""
    found: dict[str, Attention] = {}
    for path, module in unet.named_modules():
        if isinstance(module, Attention) and path.endswith(".attn2"):
            block = path.removesuffix(".attn2")
            name, _, index = block.rpartition(".transformer_blocks.")
            several = f"{name}.transformer_blocks.1.attn2" in found or int(index) > 0
            if several and name in found:
                found[f"{name}.transformer_blocks.0"] = found.pop(name)
            found[block if several else name] = module
    return dict(sorted(found.items(), key=lambda item: ("down", "mid", "up").index(item[0].split("_")[0])))


def default_layers(unet: UNet2DConditionModel, latent_px: int | None = None) -> list[str]:
    """StableKeypoints' choice for latents of side `latent_px` (null: those that the UNet was trained with)."""
    config: Any = unet.config
    side, num_blocks = latent_px or config.sample_size, len(unet.up_blocks)
    chosen = []
    for name in cross_attentions(unet):
        if name.startswith("up_blocks."):
            block = int(name.split(".")[1])
            if side / 2 ** (num_blocks - 1 - block) <= LARGEST_SIDE:
                chosen.append(name)
    if len(chosen) < NUM_LAYERS:
        raise InputError(
            f"keypoints.layers: the up blocks have {len(chosen)} cross-attentions with at most 32 x 32 queries, "
            f"{NUM_LAYERS} are captured by default; name the layers, of {', '.join(cross_attentions(unet))}"
        )
    return chosen[:NUM_LAYERS]


def checked_layers(unet: UNet2DConditionModel, layers: list[str]) -> dict[str, Attention]:
    """The named layers in the UNet's own order; refuses those whose queries do not commute with resizing."""
    known = cross_attentions(unet)
    if not layers:
        raise InputError("keypoints.layers is empty; name at least one cross-attention, or null for the usual ones")
    if unknown := [name for name in layers if name not in known]:
        raise InputError(f"keypoints.layers: the UNet has no cross-attention {unknown[0]}; it has {', '.join(known)}")
    for name, attn in known.items():
        if name in layers and attn.to_q.bias is not None:
            raise InputError(
                f"keypoints.layers: {name} has a query bias; resizing scores instead of hidden states is only exact without"
            )
        norms = ("norm_q", "norm_k", "norm_cross", "group_norm", "spatial_norm")
        if present := [norm for norm in norms if getattr(attn, norm) is not None]:
            raise InputError(
                f"UNet: cross-attention {name} has a {present[0]}; keypoints need plain cross-attention, as in Stable Diffusion"
            )
    return {name: module for name, module in known.items() if name in layers}
