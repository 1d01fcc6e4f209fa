"""DINOv2 through timm, with the same interface as the CroCo encoder. Oquab et al., "DINOv2", 2023."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from vpog.model.encoder import Encoder


class DinoEncoder(Encoder):
    """Class and register tokens serve inside and are dropped at the end."""

    def __init__(
        self, trunk: Any, width: int, patch_size: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__(width, patch_size, mean, std)
        self.trunk: nn.Module = trunk
        self.num_prefix_tokens = int(trunk.num_prefix_tokens)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p d"]:
        tokens: Tensor = self.trunk.forward_features(images)  # type: ignore[operator]
        return tokens[:, self.num_prefix_tokens :]
