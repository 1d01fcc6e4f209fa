"""The renderer against PyTorch3D's own numbers."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from posecore.rendering import rasterize, soft_silhouette

HAS_PYTORCH3D = importlib.util.find_spec("pytorch3d") is not None
BACKENDS = [
    "warp",
    "torch",
    pytest.param("pytorch3d", marks=pytest.mark.skipif(not HAS_PYTORCH3D, reason="pytorch3d is not installed")),
]
SCENES = ["icosphere", "quadruped", "quadruped_wide"]
STICK = Path(__file__).parents[3] / "shared" / "data" / "smil" / "models" / "SMILy_STICK.pkl"


@pytest.fixture(params=SCENES)
def scene(request, reference):
    arrays = {key: torch.from_numpy(value) for key, value in reference(f"core/raster_{request.param}").items()}
    arrays["faces"] = arrays["faces"].long()
    arrays["size"] = tuple(arrays["image_size"].tolist())
    return arrays


@pytest.mark.parametrize("backend", BACKENDS)
def test_face_numbers_depth_and_barycentrics_are_pytorch3ds(scene, backend):
    face_ids, barycentrics, depth = rasterize(scene["verts_cam"], scene["faces"], scene["K"], scene["size"], backend)
    same = face_ids == scene["pix_to_face"]
    assert same.float().mean() >= 0.999
    assert ((face_ids >= 0) == scene["hard_mask"]).float().mean() >= 0.999
    torch.testing.assert_close(depth[same], scene["zbuf"][same], rtol=0, atol=1e-5)
    torch.testing.assert_close(barycentrics[same], scene["bary"][same], rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_soft_silhouette_and_its_gradient_are_pytorch3ds(scene, backend):
    vertices = scene["verts_cam"].clone().requires_grad_()
    alpha = soft_silhouette(vertices, scene["faces"], scene["K"], scene["size"], float(scene["sigma"]), backend)
    torch.testing.assert_close(alpha, scene["alpha"], rtol=0, atol=5e-5)
    loss = (alpha - scene["target"]).square().mean()
    loss.backward()
    assert loss.item() == pytest.approx(scene["loss"].item(), abs=1e-6)
    expected = scene["grad_verts_cam"]
    assert (vertices.grad - expected).abs().max() <= 1e-3 * expected.abs().max()
    assert torch.cosine_similarity(vertices.grad.flatten(), expected.flatten(), dim=0) >= 0.9999


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_reach_the_vertices_in_the_world_through_the_camera(scene, backend):
    vertices = scene["verts"].repeat(len(scene["R"]), 1, 1).requires_grad_()
    vertices_cam = vertices @ scene["R"].mT + scene["t"][:, None]
    alpha = soft_silhouette(vertices_cam, scene["faces"], scene["K"], scene["size"], float(scene["sigma"]), backend)
    (alpha - scene["target"]).square().mean().backward()
    expected = scene["grad_verts"]
    assert (vertices.grad - expected).abs().max() <= 1e-3 * expected.abs().max()


def in_opencv(vertices, R, T):
    """PyTorch3D view coordinates (row vectors, x left, y up) to OpenCV's."""
    return (torch.as_tensor(vertices) @ R + T) * torch.tensor([-1.0, -1.0, 1.0])


def fov_intrinsics(fov_deg, size, aspect=1.0):
    focal = size / 2 / math.tan(math.radians(fov_deg) / 2)
    return torch.tensor([[focal / aspect, 0, size / 2 - 0.5], [0, focal, size / 2 - 0.5], [0, 0, 1]])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "sigma"), [("tri_s1e-4", 1e-4), ("tri_s1e-2", 1e-2)])
def test_one_triangle_is_blurred_as_in_smil(reference, backend, name, sigma):
    data, size = reference("smil_regressor/silhouette"), 24
    vertices = torch.from_numpy(data["tri_verts"])[None].requires_grad_()
    vertices_cam = in_opencv(vertices, torch.eye(3), torch.zeros(3))
    K = fov_intrinsics(float(data["tri_fov"]), size)[None]
    alpha = soft_silhouette(vertices_cam, torch.tensor([[0, 1, 2]]), K, (size, size), sigma, backend)
    row, column = np.mgrid[:size, :size]
    (alpha[0] * torch.from_numpy(np.sin(0.3 * row + 0.7 * column)).float()).sum().backward()
    expected = torch.from_numpy(data[f"{name}_grad_verts"])
    torch.testing.assert_close(alpha[0], torch.from_numpy(data[f"{name}_alpha"]), rtol=0, atol=2e-5)
    torch.testing.assert_close(vertices.grad[0], expected, rtol=0, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_octahedra_in_cameras_with_an_aspect_ratio_are_blurred_as_in_smil(reference, backend):
    data, size = reference("smil_regressor/silhouette"), 48
    vertices = torch.from_numpy(data["octa_verts"]).requires_grad_()
    vertices_cam = in_opencv(vertices, torch.from_numpy(data["octa_R"]), torch.from_numpy(data["octa_T"])[:, None])
    cameras = zip(data["octa_fov"], data["octa_aspect"], strict=True)
    K = torch.stack([fov_intrinsics(float(fov), size, float(aspect)) for fov, aspect in cameras])
    faces = torch.from_numpy(data["octa_faces"])
    alpha = soft_silhouette(vertices_cam, faces, K, (size, size), 1e-4, backend)
    row, column = np.mgrid[:size, :size]
    (alpha * torch.from_numpy(np.cos(0.2 * row - 0.35 * column)).float()).sum().backward()
    expected = torch.from_numpy(data["octa_grad_verts"])
    torch.testing.assert_close(alpha, torch.from_numpy(data["octa_alpha"]), rtol=0, atol=2e-5)
    torch.testing.assert_close(vertices.grad, expected, rtol=0, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.skipif(not STICK.is_file(), reason=f"the licensed SMILy_STICK.pkl is not at {STICK}")
def test_the_stick_insect_is_blurred_as_in_smil_where_no_face_was_cut_off(reference):
    from posecore.bodymodel import read_model

    data, size = reference("smil_regressor/silhouette"), 96
    model = read_model(STICK)
    pose = torch.from_numpy(data["stick_pose"])
    rotations = torch.linalg.matrix_exp(_cross_matrix(pose))
    output = model(rotations, torch.from_numpy(data["stick_betas"]), torch.zeros(1, 3))
    vertices_cam = in_opencv(output.vertices, torch.from_numpy(data["stick_R"]), torch.from_numpy(data["stick_T"]))
    K = fov_intrinsics(float(data["stick_fov"]), size)[None]
    alpha = soft_silhouette(vertices_cam.float(), model.faces, K, (size, size))[0].numpy()
    difference = np.abs(alpha - data["stick_alpha"])[~data["stick_saturated"]]
    assert difference.max() <= 1e-3


def _cross_matrix(vectors):
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*vectors.shape, 3)
