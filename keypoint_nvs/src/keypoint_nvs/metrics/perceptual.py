"""LPIPS (Zhang et al. 2018, version 0.1): distance of two pictures in the features of a network for classification.

Its weights are in two files, of which none is fetched: the network's, as torchvision publishes it, and the heads', as the
package `lpips` ships them (`lpips/weights/v0.1/alex.pth`).
"""

import importlib.util
from pathlib import Path
from typing import Literal

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from posecore.errors import InputError

Network = Literal["alex", "vgg"]
TRUNK_FILES = {
    "alex": ("alexnet-owt-7be5be79.pth", "alexnet-owt-4df8aa71.pth"),
    "vgg": ("vgg16-397923af.pth",),
}
TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
"""Layers of `features` after which the features are compared: the ReLUs before each pooling and the last two (alex)."""
WIDTHS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation, for pictures in -1..1."""
EPSILON = 1e-10


class Lpips(nn.Module):
    """Distances; 0 for equal pictures. Frozen.

    Args:
        trunk: State dict of torchvision's network; only `features.*` is used.
        heads: State dict of the package's file: `lin0.model.1.weight` (1, c, 1, 1), ...
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: dict[str, Tensor], heads: dict[str, Tensor], network: Network = "alex") -> None:
        super().__init__()
        build = {"alex": torchvision.models.alexnet, "vgg": torchvision.models.vgg16}[network]
        with torch.device("meta"):
            self.features = build(weights=None).features[: TAPS[network][-1] + 1]
        own = self.features.state_dict()
        given = {key.removeprefix("features."): value for key, value in trunk.items() if key.startswith("features.")}
        missing = sorted(set(own) - set(given))
        if missing:
            raise InputError(f"weights of {network}: features.{missing[0]} is missing; expected torchvision's file")
        self.features.load_state_dict({key: given[key] for key in own}, assign=True)
        self.heads = nn.ParameterList(_heads(heads, network))
        self.taps = TAPS[network]
        for name, values in (("shift", SHIFT), ("scale", SCALE)):
            self.register_buffer(name, torch.tensor(values)[:, None, None])
        self.requires_grad_(False).eval()
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # the layer before is compared too where they follow each other

    @classmethod
    def from_folder(cls, folder: Path, network: Network = "alex") -> "Lpips":
        """
        Args:
            folder: Holds torchvision's file, and the heads' unless the package `lpips` is installed.
            network: alex (what papers report), or vgg.

        Raises:
            InputError: A file is missing or of another layout.
        """
        trunk = next((folder / name for name in TRUNK_FILES[network] if (folder / name).is_file()), None)
        if trunk is None:
            raise InputError(
                f"{folder}: has no {' or '.join(TRUNK_FILES[network])}; LPIPS needs the weights of {network} that "
                "torchvision publishes (its documentation links them; torchvision.models fetches them into torch's hub folder)"
            )
        return cls(_state_dict(trunk), _state_dict(_heads_file(folder, network)), network)

    @torch.no_grad()
    def forward(self, a: Float[Tensor, "*n 3 h w"], b: Float[Tensor, "*n 3 h w"]) -> Float[Tensor, "*n"]:
        """Distances of pictures 0..1, at least 31 px a side."""
        total: Tensor | float = 0.0
        for head, one, other in zip(self.heads, self._compared(a), self._compared(b), strict=True):
            total = total + ((one - other).square() * head).sum(1).mean((-2, -1))
        assert isinstance(total, Tensor)
        return total.reshape(a.shape[:-3])

    def _compared(self, images: Tensor) -> list[Tensor]:
        """Features of unit length at each pixel."""
        x = (2 * images.reshape(-1, *images.shape[-3:]) - 1 - self.shift) / self.scale
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                found.append(x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + EPSILON))
        return found


def _heads(state: dict[str, Tensor], network: Network) -> list[nn.Parameter]:
    heads = []
    for index, width in enumerate(WIDTHS[network]):
        key = f"lin{index}.model.1.weight"
        if key not in state or state[key].shape != (1, width, 1, 1):
            found = "is missing" if key not in state else f"has shape {tuple(state[key].shape)}"
            raise InputError(f"heads of LPIPS ({network}): {key} {found}; expected (1, {width}, 1, 1)")
        heads.append(nn.Parameter(state[key][0], requires_grad=False))
    return heads


def _heads_file(folder: Path, network: Network) -> Path:
    name = f"{network}.pth"
    if (folder / name).is_file():
        return folder / name
    package = importlib.util.find_spec("lpips")
    if package is not None and package.origin is not None:
        installed = Path(package.origin).parent / "weights" / "v0.1" / name
        if installed.is_file():
            return installed
    raise InputError(
        f"{folder}: has no {name}, and the package lpips is not installed; pip install lpips, or copy "
        f"lpips/weights/v0.1/{name} from it"
    )


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what the damaged file leads it to
        raise InputError(f"{path}: cannot be read as a state dict: {type(error).__name__}: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: is no state dict")
    return content
