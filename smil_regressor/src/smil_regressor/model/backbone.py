"""Image encoders: pixels in, one global feature and a set of tokens per image out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from smil_regressor.model.necks import Features, GridNeck, TokenNeck, UNetNeck
from smil_regressor.model.pretrained import create_timm

HALF = (0.5, 0.5, 0.5)
TINY_VIT = {"patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 4}


class Backbone(nn.Module):
    """A trunk (timm network) with a neck that turns its output into features.

    Normalises with the trunk's own mean and std. Batch norms always use their stored statistics, so that a result
    depends neither on the chunk nor on the other images of the batch. A frozen trunk has no gradient and no dropout.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        trunk: nn.Module,
        neck: nn.Module,
        resolution: int,
        widths: tuple[int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        chunk_size: int | None,
    ) -> None:
        super().__init__()
        self.name, self.trunk, self.neck = name, trunk, neck
        self.resolution, self.chunk_size = resolution, chunk_size
        self.feature_dim, self.token_dim = widths
        self.is_frozen = False
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)
        self.train()

    def freeze(self, frozen: bool = True) -> None:
        """Stop the trunk's learning (or let it go on); a decoder on top of it learns in any case."""
        self.is_frozen = frozen
        self.trunk.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        if self.is_frozen:
            self.trunk.eval()
        for module in self.trunk.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def forward(self, images: UInt8[Tensor, "n h w 3"] | Float[Tensor, "n h w 3"]) -> Features:
        """RGB images, uint8 or 0..1, of exactly the backbone's resolution."""
        if images.shape[1:] != (self.resolution, self.resolution, 3):
            expected = f"(n, {self.resolution}, {self.resolution}, 3)"
            raise ValueError(f"backbone {self.name} takes images of shape {expected}, got {tuple(images.shape)}")
        if self.chunk_size is None:
            return self._encode(images)
        parts = [self._encode(chunk) for chunk in torch.split(images, self.chunk_size)]
        return Features(torch.cat([p.pooled for p in parts]), torch.cat([p.tokens for p in parts]))

    def _encode(self, images: Tensor) -> Features:
        scaled = images.float() / 255 if images.dtype == torch.uint8 else images
        normalised = ((scaled - self.mean) / self.std).permute(0, 3, 1, 2).contiguous()
        run: Callable[[Tensor], Any] = self.trunk if isinstance(self.neck, UNetNeck) else self.trunk.forward_features  # type: ignore[assignment]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            out = run(normalised)
        features: Features = self.neck(out)
        return features


def create_backbone(
    name: str,
    resolution: int,
    pretrained: bool = False,
    weights: Path | None = None,
    chunk_size: int | None = None,
) -> Backbone:
    """A backbone by name: any timm model, `unet_<timm encoder>`, or `tiny_vit`.

    `pretrained` fetches timm's weights from the hub; `weights` is a local file, or a hub folder, instead.
    `resolution`: pixels per side. `chunk_size`: at most so many images at once.
    """
    if name.startswith("unet_"):
        return _unet(name, pretrained, weights, resolution, chunk_size)
    trunk = _tiny_vit(resolution) if name == "tiny_vit" else _timm(name, pretrained, weights, resolution)
    width = int(trunk.num_features)  # type: ignore[arg-type]
    is_transformer = hasattr(trunk, "num_prefix_tokens")
    neck: nn.Module
    if is_transformer:
        neck = TokenNeck(int(trunk.num_prefix_tokens))  # type: ignore[arg-type]
    else:
        neck = GridNeck(channels_last=getattr(trunk, "output_fmt", "NCHW") == "NHWC")
    return Backbone(name, trunk, neck, resolution, (width, width), *_mean_std(trunk), chunk_size)


def _timm(name: str, pretrained: bool, weights: Path | None, resolution: int) -> nn.Module:
    import timm

    found = timm.get_pretrained_cfg(name.split("/")[-1]) if "/" not in name else None
    other_size = found is not None and found.fixed_input_size and found.input_size[-1] != resolution
    options = {"img_size": resolution} if other_size else {}
    return create_timm(name, pretrained, weights, False, **options)


def _tiny_vit(resolution: int) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    trunk = VisionTransformer(img_size=resolution, num_classes=0, **TINY_VIT)
    with torch.no_grad():
        trunk.pos_embed[0, 1:] = _sine_positions(resolution // TINY_VIT["patch_size"], TINY_VIT["embed_dim"])
    tiny: nn.Module = trunk
    return tiny


def _sine_positions(side: int, width: int) -> Float[Tensor, "p d"]:
    """Sines and cosines of row and column of each patch, strong enough to be read from the first step on.

    With timm's usual noise of 0.02 a small network trained from nothing spends its first epochs on finding places.
    """
    frequency = torch.pi / side * 0.5 * 1.35 ** torch.arange(width // 4)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequency for axis in (columns, rows)]
    return 0.7 * torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


def _unet(name: str, pretrained: bool, weights: Path | None, resolution: int, chunk_size: int | None) -> Backbone:
    encoder = name.removeprefix("unet_")
    trunk = create_timm(encoder, pretrained, weights, True)
    width = 256 if "mobilenet" in encoder else 512
    neck = UNetNeck(trunk.feature_info.channels(), width)  # type: ignore[union-attr,operator]
    return Backbone(name, trunk, neck, resolution, (width, width), *_mean_std(trunk), chunk_size)


def _mean_std(trunk: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    stored: Any = getattr(trunk, "pretrained_cfg", None) or {}
    return tuple(map(float, stored.get("mean", HALF))), tuple(map(float, stored.get("std", HALF)))
