"""What both silhouettes promise: gradients, agreement of the backends, repeatability, fits that end well."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posecore.rendering import edge_silhouette, rasterize, soft_silhouette

BACKENDS = ["warp", "torch"]
SILHOUETTES = [soft_silhouette, edge_silhouette]
K = torch.tensor([[[40.0, 0, 15.5], [0, 40.0, 11.5], [0, 0, 1]]])
SIZE = (24, 32)
TRIANGLE = torch.tensor([[[-0.3, -0.2, 1.0], [0.3, -0.2, 1.5], [0.0, 0.25, 2.0]]])
ONE_FACE = torch.tensor([[0, 1, 2]])
SQUARE_FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])


@pytest.fixture
def quadruped(reference):
    arrays = {key: torch.from_numpy(value) for key, value in reference("core/raster_quadruped").items()}
    return arrays | {"faces": arrays["faces"].long(), "size": tuple(arrays["image_size"].tolist())}


def alpha_and_gradient(silhouette, scene, backend):
    vertices = scene["verts_cam"].clone().requires_grad_()
    K = scene["K"].clone().requires_grad_()
    alpha = silhouette(vertices, scene["faces"], K, scene["size"], backend=backend)
    (alpha - scene["target"]).square().mean().backward()
    return alpha.detach(), vertices.grad, K.grad


@pytest.mark.parametrize("silhouette", SILHOUETTES)
def test_the_backends_agree_on_values_and_gradients(quadruped, silhouette):
    warp, torch_ = (alpha_and_gradient(silhouette, quadruped, backend) for backend in BACKENDS)
    for ours, oracle in zip(warp, torch_, strict=True):
        torch.testing.assert_close(ours, oracle, rtol=0, atol=2e-5 * max(1e-3, float(oracle.abs().max())) + 1e-6)


@pytest.mark.parametrize("silhouette", SILHOUETTES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_repeated_runs_give_the_same_bits_and_warp_for_any_number_of_threads(quadruped, silhouette, backend):
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 1) if backend == "warp" else (1, 1):
            torch.set_num_threads(threads)
            results.append(alpha_and_gradient(silhouette, quadruped, backend)[:2])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("silhouette", SILHOUETTES)
def test_gradients_are_exact_in_float64(silhouette):
    extra = {"sigma": 3e-3} if silhouette is soft_silhouette else {}

    def alpha(vertices, camera):
        return silhouette(vertices, ONE_FACE, camera, (10, 12), backend="torch", **extra)

    camera = torch.tensor([[[15.0, 0, 5.6], [0, 15.0, 4.3], [0, 0, 1]]], dtype=torch.float64)
    assert torch.autograd.gradcheck(alpha, (TRIANGLE.double().requires_grad_(), camera.requires_grad_()))


@pytest.mark.parametrize("silhouette", SILHOUETTES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_scenes_with_nothing_to_draw_are_empty_with_finite_zero_gradients(silhouette, backend):
    behind, flat = TRIANGLE * torch.tensor([1.0, 1.0, -1.0]), TRIANGLE[:, [0, 0, 1]]
    at_camera = TRIANGLE * torch.tensor([1.0, 1.0, 0.0])
    for vertices in (behind, flat, at_camera, TRIANGLE + torch.tensor([9.0, 0.0, 0.0])):
        vertices = vertices.clone().requires_grad_()
        alpha = silhouette(vertices, ONE_FACE, K, SIZE, backend=backend)
        alpha.sum().backward()
        assert (alpha == 0).all()
        assert (vertices.grad == 0).all()


@pytest.mark.parametrize("silhouette", SILHOUETTES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_faces_and_no_batch_give_empty_alphas(silhouette, backend):
    nothing = torch.zeros(0, 3, dtype=torch.int64)
    for batch in (0, 2):
        vertices = torch.ones(batch, 4, 3, requires_grad=True)
        alpha = silhouette(vertices, nothing, K.expand(batch, -1, -1), SIZE, backend=backend)
        assert alpha.shape == (batch, *SIZE)
        assert (alpha == 0).all()
        alpha.sum().backward()


@pytest.mark.parametrize("silhouette", SILHOUETTES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_vertex_that_is_not_a_number_makes_its_whole_picture_nan_and_no_other(silhouette, backend):
    vertices = TRIANGLE.repeat(2, 1, 1)
    vertices[1, 0, 0] = float("nan")
    alpha = silhouette(vertices, ONE_FACE, K.expand(2, -1, -1), SIZE, backend=backend)
    assert alpha[0].isfinite().all()
    assert alpha[1].isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_face_through_the_near_plane_is_left_out_and_its_neighbour_is_drawn(backend):
    vertices = torch.cat([TRIANGLE, torch.tensor([[[0.4, 0.25, -1.0]]])], dim=1)
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])
    for silhouette in SILHOUETTES:
        both, one = (silhouette(vertices, f, K, SIZE, backend=backend) for f in (faces, ONE_FACE))
        torch.testing.assert_close(both, one)


def square(left, right, top, bottom, angle=0.0):
    """Corners (1 4 3) of a rectangle at depth 1 with these pixel borders, turned about the picture's centre."""
    corners = torch.tensor([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=torch.float64)
    centre = K[0, :2, 2].double()
    turn = torch.tensor([[0.0, -angle], [angle, 0.0]], dtype=torch.float64).matrix_exp()
    flat = ((corners - centre) @ turn.T) / 40.0
    return torch.cat([flat, torch.ones(4, 1, dtype=torch.float64)], dim=1)[None]


@pytest.mark.parametrize("backend", BACKENDS)
@given(left=st.floats(2, 8), right=st.floats(12, 29), top=st.floats(2, 6), bottom=st.floats(12, 21))
def test_rows_and_columns_of_a_rectangle_sum_to_its_width_and_height(backend, left, right, top, bottom):
    dtype = torch.float32 if backend == "warp" else torch.float64
    vertices = square(left, right, top, bottom).to(dtype)
    alpha = edge_silhouette(vertices, SQUARE_FACES, K.to(dtype), SIZE, backend=backend)
    assert alpha[0, 9].sum().item() == pytest.approx(right - left, abs=1e-4)
    assert alpha[0, :, 10].sum().item() == pytest.approx(bottom - top, abs=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@given(angle=st.floats(-3.2, 3.2))
def test_a_turned_squares_alpha_sums_to_its_area(backend, angle):
    vertices = square(9.5, 21.5, 5.5, 17.5, angle).float()
    alpha = edge_silhouette(vertices, SQUARE_FACES, K, SIZE, backend=backend)
    # Corners are rounded off by a fraction of a pixel each; the hard mask is off by up to 4 pixels here.
    assert alpha.sum().item() == pytest.approx(144.0, abs=1.5)


def test_edge_antialiasing_is_coverage_five_times_closer_than_the_hard_mask(quadruped):
    vertices, faces, size = quadruped["verts_cam"], quadruped["faces"], quadruped["size"]
    fine = quadruped["K"].clone()
    fine[:, :2] *= 8
    fine[:, :2, 2] += 3.5  # (c + .5) 8 - .5
    covered = rasterize(vertices, faces, fine, (size[0] * 8, size[1] * 8)).face_ids >= 0
    coverage = torch.nn.functional.avg_pool2d(covered[:, None].float(), 8)[:, 0]
    edge_error = (edge_silhouette(vertices, faces, quadruped["K"], size) - coverage).abs().mean()
    hard_error = (quadruped["hard_mask"].float() - coverage).abs().mean()
    assert edge_error < 0.0025
    assert hard_error > 5 * edge_error


def test_a_face_split_in_two_along_a_shared_edge_keeps_its_edge_silhouette():
    corners = square(8.3, 22.6, 6.2, 17.4, 0.3).float()
    one_way, other_way = SQUARE_FACES, torch.tensor([[1, 2, 3], [1, 3, 0]])
    flipped = SQUARE_FACES[:, [0, 2, 1]]  # the winding of a face is of no account
    mixed = torch.cat([SQUARE_FACES[:1], flipped[1:]])
    alphas = [edge_silhouette(corners, faces, K, SIZE) for faces in (one_way, other_way, flipped, mixed)]
    for alpha in alphas[1:]:
        torch.testing.assert_close(alpha, alphas[0], rtol=0, atol=1e-5)


def test_the_soft_silhouette_refuses_a_sigma_of_zero():
    with pytest.raises(ValueError, match="sigma is 0"):
        soft_silhouette(TRIANGLE, ONE_FACE, K, SIZE, sigma=0.0)


def rotation(vector):
    x, y, z = vector
    zero = x * 0
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3).matrix_exp()


def test_fitting_the_edge_silhouette_finds_the_turn_and_the_shift_of_a_quadruped(quadruped):
    faces, camera, size = quadruped["faces"], quadruped["K"][:1], quadruped["size"]
    truth = quadruped["verts_cam"][:1]
    centre = truth.mean(dim=1, keepdim=True)
    target = (rasterize(truth, faces, camera, size).face_ids >= 0).float()
    turn = torch.tensor([0.15, -0.25, 0.2], requires_grad=True)
    shift = torch.tensor([0.15, -0.1, 0.2], requires_grad=True)
    optimizer = torch.optim.Adam([turn, shift], lr=0.02)

    def placed():
        return (truth - centre) @ rotation(turn).T + centre + shift

    def overlap():
        mask = rasterize(placed(), faces, camera, size).face_ids >= 0
        return float((mask & (target > 0)).sum() / (mask | (target > 0)).sum())

    assert overlap() < 0.8
    for _ in range(150):
        optimizer.zero_grad()
        (edge_silhouette(placed(), faces, camera, size) - target).square().mean().backward()
        optimizer.step()
    assert overlap() >= 0.98
