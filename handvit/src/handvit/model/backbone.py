"""Image encoders of transformers: normalised patches in, tokens out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from handvit.config.backbones import BackboneKind
from handvit.model.fusion import LayerFusion


@dataclass(frozen=True)
class TrunkLayout:
    """What is known of an encoder without running it."""

    kind: BackboneKind
    width: int
    """D, of its last layers."""
    stride: int
    """Pixels per side of a token."""
    num_layers: int
    """Hidden states are numbered 0 to this."""

    @property
    def has_cls(self) -> bool:
        return self.kind != "swinv2"


class Backbone(LayerFusion):
    """`backbone` is the model of transformers; fused layers, if any, are its hidden states before the final norm.

    Parameters that no output depends on (mask token; with fusion the final norm and what lies behind the last fused
    layer) have no gradient, so that data-parallel training needs no search for them.
    """

    def __init__(
        self,
        trunk: nn.Module,
        layout: TrunkLayout,
        img_size: int,
        infusion_layer: Sequence[int] | None = None,
        drop_cls: bool = False,
    ) -> None:
        self.layers = None if infusion_layer is None else tuple(infusion_layer)
        self.layout, self.grid, self.width = layout, img_size // layout.stride, layout.width
        self.has_cls = layout.has_cls and not drop_cls
        if self.layers is None:
            nn.Module.__init__(self)
        else:
            super().__init__(layout.width, len(self.layers), self.has_cls)
        self.backbone = trunk
        self._stop_unused()

    @property
    def num_tokens(self) -> int:
        return self.grid * self.grid + int(self.has_cls)

    def forward(self, images: Float[Tensor, "n 3 p p"]) -> Float[Tensor, "n tokens d"]:
        """Normalised images of the size that the encoder was built for. The class token, where there is one, is first."""
        out = self._run(images)
        if self.layers is None:
            last: Tensor = out.last_hidden_state
            return last[:, 1:] if self.layout.has_cls and not self.has_cls else last
        chosen = [out.hidden_states[layer] for layer in self.layers]
        first_patch = int(self.layout.has_cls)
        maps = [h[:, first_patch:].transpose(1, 2).unflatten(2, (self.grid, self.grid)) for h in chosen]
        return self.fuse([h[:, 0] for h in chosen] if self.has_cls else None, maps)

    def _run(self, images: Tensor) -> Any:
        options: dict[str, Any] = {"output_hidden_states": self.layers is not None}
        if self.layout.kind == "vit_mae":
            # Patches are shuffled by the order of this noise, also with nothing masked: a rising one leaves them.
            order = torch.linspace(0.0, 1.0, self.grid**2, device=images.device)
            options["noise"] = order.expand(images.shape[0], -1)
        return self.backbone(images, **options)

    def _stop_unused(self) -> None:
        for name, parameter in self.backbone.named_parameters():
            parts = name.split(".")
            is_unused = "mask_token" in parts or (self.layers is not None and self._lies_behind(parts))
            if is_unused:
                parameter.requires_grad_(False)

    def _lies_behind(self, parts: list[str]) -> bool:
        """Of a parameter's name: it acts on the last fused hidden state, or on what comes of it."""
        assert self.layers is not None
        if parts[0] == "layernorm":
            return True
        is_block = parts[:2] == ["encoder", "layer"] or "layers" in parts[:2]
        index = next((int(part) for part in parts if part.isdigit()), -1)
        return is_block and index >= self.layers[-1]
