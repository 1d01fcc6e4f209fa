"""The parts that a training step of a SMIL network repeats, at its sizes, with the times that they are meant to take.

    PYTHONPATH=core/bench python smil_regressor/bench/bench_smil.py --json build/bench/bench_smil.json

The body is made up: 4000 vertices, 55 joints, as the published insects have them. `+backward` is forward and backward.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import torch
from _measure import Result, Target, compare, json_argument, report
from bench_silhouette import bumpy_sphere
from bench_skinning import Rival, random_arrays
from torch import Tensor, nn

from posecore.bodymodel import BodyModel
from posecore.rendering import soft_silhouette
from posecore.rotations import rotation_6d_to_matrix
from smil_regressor.data.insect import insect_body
from smil_regressor.data.multiview_file import MultiViewFile
from smil_regressor.data.synthesis import synthesise_file
from smil_regressor.model.camera_head import CameraHeads

BATCH = 16
VIEWS, RESOLUTION, SAMPLES = 6, 512, 4
HEAD_BATCH, HEAD_VIEWS, FEATURES, HIDDEN = 8, 18, 1024, 256  # features of a ViT-L
SILHOUETTE_SIZE = (224, 224)


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], object]:
    weights = torch.randn_like(function(*inputs).detach())
    return lambda: torch.autograd.grad((function(*inputs) * weights).sum(), inputs)


def body() -> list[Result]:
    model = BodyModel(random_arrays(4000, 55, 5, False))
    rival = Rival(model)
    rotations = torch.linalg.qr(torch.randn(BATCH, 55, 3, 3))[0].contiguous().requires_grad_()
    betas, origin = torch.randn(BATCH, 5, requires_grad=True), torch.zeros(BATCH, 3)
    limbs = [(0.1 * torch.randn(BATCH, 55, 3)).requires_grad_() for _ in range(2)]

    def keypoints(betas: Tensor, rotations: Tensor, *limbs: Tensor) -> Tensor:
        return model.keypoints(rotations, betas, origin, *limbs)

    def mesh(betas: Tensor, rotations: Tensor, *limbs: Tensor) -> Tensor:
        return model(rotations, betas, origin, *limbs).vertices

    def race(name: str, ours: Callable[..., Tensor], other: Callable[..., Tensor], ms: float) -> list[Result]:
        others = {other.__name__: gradients(other, betas, rotations)}
        return [
            compare(f"{name} +backward", gradients(ours, betas, rotations), others, target=Target(ms=ms)),
            compare(f"{name}, limbs +backward", gradients(ours, betas, rotations, *limbs), {}, target=Target(ms=ms)),
        ]

    return race("keypoints, batch 16", keypoints, rival.sequential_chain, 4) + race(
        "mesh, batch 16", mesh, rival.smplx, 12
    )


def silhouette() -> list[Result]:
    """Four pictures of 6000 faces."""
    vertices, faces = bumpy_sphere(40, 75)
    scene = vertices.expand(4, -1, -1).clone().requires_grad_()
    K = torch.tensor([[260.0, 0.0, 111.5], [0.0, 260.0, 111.5], [0.0, 0.0, 1.0]]).expand(4, 3, 3)

    def drawn(backend: str) -> Callable[[], object]:
        return gradients(lambda points: soft_silhouette(points, faces, K, SILHOUETTE_SIZE, backend=backend), scene)

    name = "soft silhouette, 4 pictures +backward"
    return [compare(name, drawn("warp"), {"torch": drawn("torch")}, runs=5, target=Target(ms=400))]


def dataset(folder: Path) -> list[Result]:
    """A sample of six pictures, beside the bare decoding of the same six."""
    path = folder / "frames.h5"
    synthesise_file(path, insect_body(), samples=SAMPLES, views=VIEWS, resolution=RESOLUTION, seed=0)
    file, views = MultiViewFile(path), np.arange(VIEWS)
    turn = iter(range(10**9))

    def plain() -> np.ndarray:
        sample = next(turn) % SAMPLES
        with h5py.File(path) as h5:
            coded = [h5[f"multiview_images/image_jpeg_view_{view}"][sample] for view in views]
        return np.stack([cv2.cvtColor(cv2.imdecode(code, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB) for code in coded])

    def ours() -> object:
        return file.read(next(turn) % SAMPLES, views, RESOLUTION, masks=False)

    def with_masks() -> object:
        return file.read(next(turn) % SAMPLES, views, RESOLUTION)

    name = f"sample of {VIEWS} views, {RESOLUTION} px"
    return [
        compare(name, ours, {"pictures alone, h5py": plain}, target=Target(ms=8)),
        compare(f"{name}, masks", with_masks, {}),
    ]


class HeadPerView(nn.Module):
    """The published form: a network for each view, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(self._head() for _ in range(HEAD_VIEWS))

    @staticmethod
    def _head() -> nn.Module:
        half = HIDDEN // 2
        return nn.Sequential(
            *(nn.Linear(FEATURES, HIDDEN), nn.LayerNorm(HIDDEN), nn.ReLU(), nn.Dropout(0.1)),
            *(nn.Linear(HIDDEN, half), nn.LayerNorm(half), nn.ReLU(), nn.Dropout(0.1), nn.Linear(half, 10)),
        )

    def forward(self, features: Tensor) -> Tensor:
        raw = [head(features[:, view]) for view, head in enumerate(self.heads)]
        cameras = [
            torch.cat(
                [
                    5 + 115 * row[:, :1].sigmoid(),
                    rotation_6d_to_matrix(row[:, 1:7] + row.new_tensor([1.0, 0, 0, 0, 1, 0]), "columns").flatten(1),
                    5 * row[:, 7:].tanh(),
                ],
                dim=1,
            )
            for row in raw
        ]
        return torch.stack(cameras, dim=1)


def camera_heads() -> list[Result]:
    heads, rival = CameraHeads(HEAD_VIEWS, FEATURES, HIDDEN).eval(), HeadPerView().eval()
    features = torch.randn(HEAD_BATCH, HEAD_VIEWS, FEATURES)
    slots = torch.arange(HEAD_VIEWS).expand(HEAD_BATCH, -1).contiguous()
    present = torch.ones_like(slots, dtype=torch.bool)

    def ours() -> Tensor:
        cameras = heads(features, slots, present)
        return torch.cat([cameras.fov_deg[..., None], cameras.R.flatten(2), cameras.T], dim=2)

    def forward(function: Callable[[], Tensor]) -> Callable[[], object]:
        return torch.no_grad()(function)

    def backward(function: Callable[[], Tensor], module: nn.Module) -> Callable[[], object]:
        return lambda: torch.autograd.grad(function().square().sum(), list(module.parameters()))

    def theirs() -> Tensor:
        return rival(features)

    name = f"camera heads, {HEAD_BATCH} x {HEAD_VIEWS} views"
    return [
        compare(name, forward(ours), {"a head a view": forward(theirs)}, target=Target(ms=4)),
        compare(f"{name} +backward", backward(ours, heads), {"a head a view": backward(theirs, rival)}),
    ]


def main() -> None:
    json_path = json_argument(__doc__)
    torch.manual_seed(0)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        report([*body(), *silhouette(), *dataset(Path(folder)), *camera_heads()], json_path)


if __name__ == "__main__":
    main()
