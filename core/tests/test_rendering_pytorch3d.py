"""The PyTorch3D backend against a stand-in for its rasteriser that follows its documented conventions.

The stand-in: NDC x to the left and y up, 2 units over the shorter side, pixel centres at halves; face ids count through the packed
meshes; distances are squared, negative inside. The real library, where installed, is compared in test_rendering_reference.py.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch

from posecore.rendering import edge_silhouette, rasterize, soft_silhouette

K = torch.tensor([[[30.0, 0, 11.5], [0, 30.0, 7.5], [0, 0, 1]], [[25.0, 0, 9.0], [0, 25.0, 8.5], [0, 0, 1]]])
SIZE = (16, 24)
VERTICES = torch.tensor(
    [[-0.3, -0.2, 1.0], [0.3, -0.2, 1.5], [0.0, 0.25, 2.0], [0.4, 0.3, 1.2], [0.1, 0.0, -1.0]]
).repeat(2, 1, 1)
FACES = torch.tensor([[0, 1, 4], [0, 1, 2], [1, 3, 2]])  # the first goes behind the camera


class Meshes:
    def __init__(self, verts, faces):
        self.verts, self.faces = verts, faces


def rasterize_meshes(
    meshes, image_size, blur_radius, faces_per_pixel, perspective_correct, clip_barycentric_coords, cull_backfaces
):
    """Every face at every pixel, nearest first."""
    assert perspective_correct
    assert not clip_barycentric_coords
    assert not cull_backfaces
    height, width = image_size
    half = min(image_size) / 2
    x = -(torch.arange(width) + 0.5 - width / 2) / half
    y = -(torch.arange(height) + 0.5 - height / 2) / half
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[:, :, None]  # (h w 1 2)
    outputs, first = [], 0
    for verts, faces in zip(meshes.verts, meshes.faces, strict=True):
        outputs.append(_one(verts[faces], points, blur_radius, faces_per_pixel, first))
        first += len(faces)
    return tuple(torch.stack(parts) for parts in zip(*outputs, strict=True))


def _one(corners, points, blur_radius, faces_per_pixel, first):
    start, end = corners[..., :2], corners[..., :2].roll(-1, 1)  # (f 3 2)
    direction, offset = end - start, points[..., None, :] - start
    along = ((offset * direction).sum(-1) / direction.square().sum(-1)).clamp(0, 1)
    distance = (offset - along[..., None] * direction).square().sum(-1).amin(-1)  # (h w f)
    sides = direction[..., 0] * offset[..., 1] - direction[..., 1] * offset[..., 0]
    inside = (sides > 0).all(-1) | (sides < 0).all(-1)
    weights = sides.roll(-1, -1) / corners[..., 2]
    weights = weights / weights.sum(-1, keepdim=True)
    depth = (weights * corners[..., 2]).sum(-1)
    counts = inside | (distance < blur_radius)
    order = torch.where(counts, depth, float("inf")).argsort(-1)[..., :faces_per_pixel]
    chosen = counts.gather(-1, order)

    def pick(values):
        return torch.where(chosen, values.gather(-1, order), -1)

    barycentrics = torch.stack([pick(weights[..., i]) for i in range(3)], dim=-1)
    ids = torch.where(chosen, order + first, -1)
    return ids, pick(depth), barycentrics, pick(torch.where(inside, -distance, distance))


@pytest.fixture
def stand_in(monkeypatch):
    for name in ("pytorch3d", "pytorch3d.structures", "pytorch3d.renderer", "pytorch3d.renderer.mesh"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["pytorch3d.structures"].Meshes = Meshes
    sys.modules["pytorch3d.renderer.mesh"].rasterize_meshes = rasterize_meshes


def test_its_face_numbers_depth_and_barycentrics_are_ours(stand_in):
    theirs, ours = (rasterize(VERTICES, FACES, K, SIZE, backend) for backend in ("pytorch3d", "torch"))
    assert set(ours.face_ids.unique().tolist()) == {-1, 1, 2}
    assert torch.equal(theirs.face_ids, ours.face_ids)
    torch.testing.assert_close(theirs.depth, ours.depth)
    torch.testing.assert_close(theirs.barycentrics, ours.barycentrics, rtol=0, atol=1e-4)


@pytest.mark.parametrize("silhouette", [soft_silhouette, edge_silhouette])
def test_its_silhouettes_and_their_gradients_are_ours(stand_in, silhouette):
    results = []
    for backend in ("pytorch3d", "torch"):
        vertices = VERTICES.clone().requires_grad_()
        alpha = silhouette(vertices, FACES, K, SIZE, backend=backend)
        (alpha * torch.linspace(-1, 1, SIZE[1])).sum().backward()
        results.append((alpha.detach(), vertices.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-3)
    assert results[1][1].abs().max() > 1
