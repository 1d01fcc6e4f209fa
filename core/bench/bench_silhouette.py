"""Silhouettes and pictures: the Warp kernels beside the same formulas in PyTorch, and PyTorch3D where it is installed.

Batch 4, 224 x 224 pixels, a bumpy sphere of 10 240 faces; times are a forward and backward pass, except for the hard
raster.
"""

import importlib.util
from collections.abc import Callable
from functools import partial

import torch
from _measure import NO_TARGET, Result, Target, compare, json_argument, report
from torch import Tensor

from posecore.rendering import Backend, edge_silhouette, rasterize, shade, soft_silhouette

SIZE = (224, 224)
BATCH = 4
OTHERS: tuple[Backend, ...] = ("torch", "pytorch3d") if importlib.util.find_spec("pytorch3d") else ("torch",)


def bumpy_sphere(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Vertices (v 3) around (0, 0, 3) and faces (2 rows columns, 3)."""
    polar = torch.linspace(0.02, torch.pi - 0.02, rows + 1)[:, None]
    azimuth = torch.arange(columns)[None] * (2 * torch.pi / columns)
    radius = 1 + 0.15 * torch.sin(5 * azimuth) * torch.sin(4 * polar)
    x, y, z = polar.sin() * azimuth.cos(), polar.cos().expand(-1, columns), polar.sin() * azimuth.sin()
    vertices = (radius[..., None] * torch.stack([x, y, z], dim=-1)).reshape(-1, 3) + torch.tensor([0.0, 0.0, 3.0])
    corner = torch.arange(rows * columns).reshape(rows, columns)
    right = corner.roll(-1, 1)
    quads = torch.stack([corner, right, right + columns, corner, right + columns, corner + columns], dim=-1)
    return vertices, quads.reshape(-1, 3)


VERTICES, FACES = bumpy_sphere(64, 80)
SHIFTS = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.0, 0.3], [-0.2, 0.1, 0.5], [0.0, -0.2, 1.0]])
SCENE = VERTICES + SHIFTS[:, None]
K = torch.tensor([[260.0, 0.0, 111.5], [0.0, 260.0, 111.5], [0.0, 0.0, 1.0]]).expand(BATCH, 3, 3)
COLORS = torch.rand(1, len(VERTICES), 3, generator=torch.Generator().manual_seed(0))


def forward_backward(draw: Callable[..., Tensor], backend: Backend) -> None:
    vertices = SCENE.clone().requires_grad_()
    draw(vertices, FACES, K, SIZE, backend=backend).square().mean().backward()


def hard(backend: Backend) -> None:
    rasterize(SCENE, FACES, K, SIZE, backend)


def picture(backend: Backend) -> None:
    shade(SCENE, FACES, K, SIZE, COLORS, backend=backend)


def race(name: str, run: Callable[[Backend], None], runs: int, target: Target = NO_TARGET) -> Result:
    return compare(name, partial(run, "warp"), {other: partial(run, other) for other in OTHERS}, runs, target)


def main() -> None:
    path = json_argument(__doc__)
    results = [
        race("soft silhouette, forward + backward", partial(forward_backward, soft_silhouette), 5, Target(ratio=8)),
        race("edge silhouette, forward + backward", partial(forward_backward, edge_silhouette), 7),
        race("hard raster", hard, 7),
        race("shaded picture", picture, 7),
    ]
    report(results, path)


if __name__ == "__main__":
    main()
