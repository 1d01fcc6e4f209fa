"""Self-attention that also looks at another picture: the reference attention of Zero123++ (Shi et al. 2023, 3.2).

The same UNet runs twice. On the noisy condition latents every self-attention remembers its input (writing); on the noisy
grid each takes keys and values from its own input and from the remembered one, side by side (reading).

What is remembered belongs to one call and travels through the UNet as an argument, so gradient checkpointing, which runs
blocks again in backward, hands each block the pass that it belonged to.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from jaxtyping import Float, Num
from torch import Tensor, nn

_KEY = "reference"


@dataclass
class _Pass:
    """One run of the UNet: writes what its self-attentions see, or reads what another run wrote."""

    bank: dict[str, Tensor]
    writes: bool
    last: str | None = None
    """Writing ends at this layer, as nothing behind it is needed; None: it runs through."""
    reached: set[str] = field(default_factory=set)


class _Written(Exception):
    """No error: the way out of a UNet whose output nobody needs."""


class ReferenceSelfAttention:
    """Processor of one self-attention; without a pass it is the plain one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._plain = AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        reference: _Pass | None = None,
    ) -> Tensor:
        seen = encoder_hidden_states
        if reference is not None:
            reference.reached.add(self.name)
            if reference.writes:
                reference.bank.setdefault(self.name, hidden_states)  # a block that runs again must not replace it
                if reference.last == self.name:
                    raise _Written
            else:
                seen = torch.cat([hidden_states, reference.bank[self.name]], 1)
        result: Tensor = self._plain(attn, hidden_states, seen, attention_mask, temb)
        return result


class ReferenceUNet:
    """Velocity of a noisy grid, given a noisy condition.

    Puts its processors on the self-attentions of `unet` (those of its cross-attentions stay as they are); a plain call
    of the UNet gives what it gave before.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.unet = unet
        self._layers = [name for name in unet.attn_processors if name.endswith("attn1.processor")]
        if not self._layers:
            raise ValueError("the UNet has no self-attention (attn1) to read a reference with")
        self._last = _last_to_run(self._layers)
        unet.set_attn_processor(
            {**unet.attn_processors, **{name: ReferenceSelfAttention(name) for name in self._layers}}
        )
        for name, module in unet.named_modules():
            if name.endswith("attn2"):
                _keep_to_itself(module)

    def __call__(
        self,
        sample: Float[Tensor, "b 4 h w"],
        t: Num[Tensor, "*b"],
        context: Float[Tensor, "b tokens d"],
        noisy_condition: Float[Tensor, "b 4 hc wc"],
    ) -> Float[Tensor, "b 4 h w"]:
        """`sample` and `noisy_condition` at the noise level of t (one, or one a row); `context` for both passes."""
        bank = self._written(noisy_condition, t, context)
        reading = _Pass(bank, writes=False)
        result: Tensor = self.unet(sample, t, context, cross_attention_kwargs={_KEY: reading}, return_dict=False)[0]
        self._check(reading)
        return result

    def _written(self, noisy_condition: Tensor, t: Tensor, context: Tensor) -> dict[str, Tensor]:
        """Inputs of all self-attentions."""
        writing = _Pass({}, writes=True, last=self._last if self._may_stop() else None)
        with suppress(_Written):
            self.unet(noisy_condition, t, context, cross_attention_kwargs={_KEY: writing}, return_dict=False)
        self._check(writing)
        return writing.bank

    def _may_stop(self) -> bool:
        """A checkpointed block must end, and a compiled one cannot raise."""
        recomputes = self.unet.is_gradient_checkpointing and torch.is_grad_enabled()
        return not recomputes and not torch.compiler.is_compiling()

    def _check(self, done: _Pass) -> None:
        """Someone who replaces the processors gets no views without a condition."""
        missed = [name for name in self._layers if name not in done.reached]
        if missed:
            raise RuntimeError(f"{missed[0]} did not take part in the reference attention: its processor was replaced")


def _last_to_run(names: list[str]) -> str:
    """Up blocks run last; they are not the last to be listed."""
    order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    return max(enumerate(names), key=lambda item: (order[item[1].split(".")[0]], item[0]))[1]


def _keep_to_itself(cross_attention: nn.Module) -> None:
    """diffusers hands a block's extra arguments to both of its attentions; the second has no use for ours."""
    if _drop_reference not in cross_attention._forward_pre_hooks.values():
        cross_attention.register_forward_pre_hook(_drop_reference, with_kwargs=True)


def _drop_reference(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, {name: value for name, value in kwargs.items() if name != _KEY}
