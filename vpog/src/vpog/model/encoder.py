"""What the network needs of an image encoder."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """Pictures in, one token a patch out, row by row."""

    width: int
    """d, of its tokens."""
    patch_size: int
    """Side of a patch, px."""
    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self,
        width: int,
        patch_size: int,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.width, self.patch_size = width, patch_size
        self.register_buffer("image_mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("image_std", torch.tensor(std)[:, None, None], persistent=False)

    def normalised(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """RGB 0..1 as the encoder was trained with."""
        return (images - self.image_mean) / self.image_std

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p d"]:
        """Of normalised pictures whose sides are multiples of the patch size."""
        raise NotImplementedError
