"""Which parameters of a UNet are trained: all, the attention of the published first phase, or low-rank updates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from torch import nn

from posecore.errors import InputError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

Mode = Literal["all", "attention", "lora"]
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def set_trainable(
    unet: "UNet2DConditionModel",
    mode: Mode,
    *,
    lora_rank: int = 16,
    lora_alpha: float = 16.0,
    lora_targets: Sequence[str] = LORA_TARGETS,
) -> list[str]:
    """Set `requires_grad` everywhere in the UNet; with lora, add the layers (which begin as no change at all).

    Args:
        mode: all; attention: self-attention (attn1) and to_k, to_v of cross-attention (attn2), as published phase 1; lora.
        lora_alpha: The update is scaled by alpha / rank.
        lora_targets: Ends of module names.

    Returns:
        Names of the trained parameters.

    Raises:
        InputError: A target is the end of no module's name.
    """
    unet.requires_grad_(mode == "all")
    if mode == "attention":
        for name, parameter in unet.named_parameters():
            parameter.requires_grad_(is_phase1(name))
    elif mode == "lora":
        add_lora(unet, lora_rank, lora_alpha, lora_targets)
    return [name for name, parameter in unet.named_parameters() if parameter.requires_grad]


def is_phase1(name: str) -> bool:
    """Whether the published first phase trains a parameter of this name."""
    return ".attn1." in name or ".attn2.to_k." in name or ".attn2.to_v." in name


def add_lora(unet: "UNet2DConditionModel", rank: int, alpha: float, targets: Sequence[str]) -> None:
    """Add low-rank layers; only they have gradients then, among the layers of attention.

    Raises:
        InputError: A target is the end of no module's name, or of one that cannot have such a layer.
    """
    from peft import LoraConfig

    modules = dict(unet.named_modules())
    problems = []
    for target in targets:
        found = [module for name, module in modules.items() if name == target or name.endswith(f".{target}")]
        if not found:
            problems.append(f"lora.targets: {target!r} is the end of no module's name in the UNet")
        elif not all(isinstance(module, nn.Linear | nn.Conv2d) for module in found):
            problems.append(
                f"lora.targets: {target!r} is a {type(found[0]).__name__}, must be a linear layer or convolution"
            )
    if problems:
        raise InputError(problems)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights=True))


def merge_lora(unet: "UNet2DConditionModel") -> None:
    """Make the low-rank layers part of the weights, in place; the names are then those of a UNet without LoRA."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(unet.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            parent, _, leaf = name.rpartition(".")
            setattr(unet.get_submodule(parent), leaf, module.get_base_layer())
    if hasattr(unet, "peft_config"):
        del unet.peft_config
    unet._hf_peft_config_loaded = False


def has_lora(unet: nn.Module) -> bool:
    """Whether there are low-rank layers that are not merged."""
    return any("lora_" in name for name, _ in unet.named_parameters())
