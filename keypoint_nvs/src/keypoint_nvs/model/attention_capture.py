"""Runs a UNet on pictures with learnable tokens as context, and keeps what makes the tokens' attention maps."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import Transformer2DModel, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from keypoint_nvs.model.attention_layers import checked_layers, cross_attentions
from keypoint_nvs.model.token_scores import LayerScores, TokenScores


class _AllCaptured(Exception):
    """What lies behind the last captured layer is not needed."""


class AttentionCapture:
    """Cross-attention of tokens in some layers of a UNet.

    Outside `__call__` the UNet is as it was: processors are put in for a pass and taken out again, so novel views that the
    same UNet makes stay the same to the bit. Self-attentions and their processors are not touched.
    """

    def __init__(self, unet: UNet2DConditionModel, layers: list[str], size: int) -> None:
        """`layers` as `cross_attentions` names them; `size`: side of the maps in pixels.

        Raises InputError for an unknown layer and for one with a query bias or norm.
        """
        self.unet, self.size = unet, size
        self._captured = list(checked_layers(unet, layers).values())
        self._all = list(cross_attentions(unet).values())
        self.layers = list(checked_layers(unet, layers))
        """In the order in which the UNet runs them."""

    def __call__(
        self,
        sample: Float[Tensor, "n c hh ww"],
        t: Int[Tensor, ""] | int,
        context: Float[Tensor, "1 m e"],
        train_unet: bool = False,
    ) -> TokenScores:
        """Scores of square latents at timestep `t`; the UNet stops behind the last captured layer.

        Gradients go to `context` (also through the hidden states, which depend on it), to `sample`, and to the UNet only
        with `train_unet`.
        """
        found: list[LayerScores] = []
        with self._ready(found, train_unet), _stop_here():
            self.unet(sample, t, encoder_hidden_states=context)
        return TokenScores(tuple(found), self.size)

    @contextmanager
    def _ready(self, found: list[LayerScores], train_unet: bool) -> Iterator[None]:
        """The UNet as a pass needs it; checkpointed parts need it so again in the backward pass."""
        processors = {id(attn): TokenAttention() for attn in self._all}
        for attn in self._captured:
            processors[id(attn)] = TokenAttention(found, len(self._captured))
        inside = partial(self._inside, processors, train_unet)
        with inside(), _checkpoints(self.unet, self._captured, inside):
            yield

    @contextmanager
    def _inside(self, processors: dict[int, "TokenAttention"], train_unet: bool) -> Iterator[None]:
        before = [attn.processor for attn in self._all]
        with ExitStack() as undo:
            for attn, processor in zip(self._all, before, strict=True):
                undo.callback(setattr, attn, "processor", processor)
                attn.processor = processors[id(attn)]
            undo.enter_context(nullcontext() if train_unet else frozen(self.unet))
            yield


class TokenAttention:
    """Cross-attention whose context is the same for all pictures, so its keys and values are computed once."""

    def __init__(self, found: list[LayerScores] | None = None, wanted: int = 0) -> None:
        """`found`: takes this layer's scores; at the `wanted`-th the pass stops."""
        self.found, self.wanted = found, wanted

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "n p f"],
        encoder_hidden_states: Float[Tensor, "1 m e"],
        attention_mask: None = None,
        temb: Tensor | None = None,
    ) -> Float[Tensor, "n p f"]:
        """Called by the attention layer."""
        if self.found is not None:
            self.found.append(_layer_scores(attn, hidden_states, encoder_hidden_states))
            if len(self.found) == self.wanted:
                raise _AllCaptured
        query = attn.to_q(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        key, value = (
            project(encoder_hidden_states)
            .unflatten(-1, (attn.heads, -1))
            .transpose(1, 2)
            .expand(len(query), -1, -1, -1)
            for project in (attn.to_k, attn.to_v)
        )
        attended = F.scaled_dot_product_attention(query, key, value, scale=attn.scale)
        projected: Tensor = attn.to_out[1](attn.to_out[0](attended.transpose(1, 2).flatten(2)))
        return projected.div(attn.rescale_output_factor)


def _layer_scores(attn: Attention, hidden_states: Tensor, context: Tensor) -> LayerScores:
    """Always in the weights' own precision, then float32: half precision does not converge."""
    side = round(hidden_states.shape[1] ** 0.5)
    if side * side != hidden_states.shape[1]:
        raise ValueError(f"{hidden_states.shape[1]} queries are no square; keypoints need square pictures")
    dtype = attn.to_q.weight.dtype
    with torch.autocast(hidden_states.device.type, enabled=False):
        query = attn.to_q(hidden_states.to(dtype)).float() * attn.scale
        key = attn.to_k(context.to(dtype)).float()
    query = query.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
    return LayerScores(query.unflatten(2, (side, side)), key[0].unflatten(-1, (attn.heads, -1)).transpose(0, 1))


@contextmanager
def _stop_here() -> Iterator[None]:
    try:
        yield
    except _AllCaptured:
        return
    raise AssertionError("the UNet ended before all captured layers ran")


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """What runs inside gives no gradient to the network's parameters, though it may pass gradients through it."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _checkpoints(unet: UNet2DConditionModel, captured: list[Attention], inside: Any) -> Iterator[None]:
    """Where the UNet uses gradient checkpointing: recompute with the pass's own processors.

    Transformers with captured layers keep their activations, for what they give away must exist when they are left.
    """

    def recomputable(module: Any, *args: Any) -> Any:
        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), inside()

        return checkpoint(module, *args, use_reentrant=False, context_fn=contexts)

    modules: list[Any] = [m for m in unet.modules() if getattr(m, "gradient_checkpointing", False)]
    attentions = {id(attn) for attn in captured}
    kept = [
        m for m in modules if isinstance(m, Transformer2DModel) and any(id(part) in attentions for part in m.modules())
    ]
    with ExitStack() as undo:
        for module in modules:
            undo.callback(setattr, module, "_gradient_checkpointing_func", module._gradient_checkpointing_func)
            module._gradient_checkpointing_func = recomputable
        for module in kept:
            undo.callback(setattr, module, "gradient_checkpointing", True)
            module.gradient_checkpointing = False
        yield
