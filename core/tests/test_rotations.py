"""Rotations against SciPy, roma and the reference vectors, and at the places where formulas break."""

import math

import numpy as np
import pytest
import roma
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posecore.rotations import (
    axis_angle_to_matrix,
    euler_to_matrix,
    geodesic_distance,
    matrix_to_axis_angle,
    matrix_to_euler,
    matrix_to_quaternion_wxyz,
    matrix_to_rotation_6d,
    project_to_so3,
    quaternion_wxyz_to_matrix,
    rotation_6d_to_matrix,
)

LAYOUTS = ("rows", "columns", "interleaved")
INTRINSIC = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX", "XYX", "XZX", "YXY", "YZY", "ZXZ", "ZYZ")
ORDERS = INTRINSIC + tuple(order.lower() for order in INTRINSIC)
ANGLES = (
    0.0,
    1e-20,
    1e-12,
    1e-8,
    1e-6,
    1e-4,
    0.03,
    0.04,
    1.0,
    math.pi - 1e-4,
    math.pi - 1e-7,
    math.pi,
    4.0,
    2 * math.pi,
)
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}


def random_axis_angles(n, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(Rotation.random(n, random_state=rng).as_rotvec()).to(dtype)


def awkward_axis_angles(dtype):
    """Every awkward angle about coordinate axes, diagonals and random axes."""
    rng = np.random.default_rng(1)
    axes = np.concatenate([np.eye(3), -np.eye(3), [[1, 1, 0], [1, 1, 1], [-1, 1, 0]], rng.normal(size=(8, 3))])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return torch.from_numpy((np.array(ANGLES)[:, None, None] * axes).reshape(-1, 3)).to(dtype)


def assert_rotations(R, tolerance):
    eye = torch.eye(3, dtype=R.dtype).expand_as(R)
    torch.testing.assert_close(R @ R.mT, eye, rtol=0, atol=tolerance)
    assert (torch.linalg.det(R) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_axis_angle_and_quaternion_matrices_are_those_of_scipy_at_every_angle(dtype):
    vectors = torch.cat([random_axis_angles(1000, dtype), awkward_axis_angles(dtype)])
    oracle = Rotation.from_rotvec(vectors.double().numpy())
    R = axis_angle_to_matrix(vectors)
    torch.testing.assert_close(R.double(), torch.from_numpy(oracle.as_matrix()), rtol=0, atol=TOLERANCE[dtype])
    quat_wxyz = torch.from_numpy(oracle.as_quat()[:, [3, 0, 1, 2]]).to(dtype)
    torch.testing.assert_close(quaternion_wxyz_to_matrix(3 * quat_wxyz), R, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("through", ["axis_angle", "quaternion", *LAYOUTS, "XYZ", "zxz"])
def test_a_hundred_thousand_float32_rotations_survive_the_round_trip(through):
    R = axis_angle_to_matrix(random_axis_angles(100_000, torch.float32))
    if through == "axis_angle":
        back = axis_angle_to_matrix(matrix_to_axis_angle(R))
    elif through == "quaternion":
        back = quaternion_wxyz_to_matrix(matrix_to_quaternion_wxyz(R))
    elif through in LAYOUTS:
        back = rotation_6d_to_matrix(matrix_to_rotation_6d(R, through), through)
    else:
        back = euler_to_matrix(matrix_to_euler(R, through), through)
    torch.testing.assert_close(back, R, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_logarithm_is_that_of_scipy_and_inverts_the_exponential_near_zero_and_pi(dtype):
    vectors = torch.cat([random_axis_angles(1000, dtype), awkward_axis_angles(dtype)])
    R = axis_angle_to_matrix(vectors)
    log = matrix_to_axis_angle(R)
    assert (log.norm(dim=-1) <= math.pi + 1e-6).all()
    torch.testing.assert_close(axis_angle_to_matrix(log), R, rtol=0, atol=2 * TOLERANCE[dtype])
    generic = log.norm(dim=-1) < 3.1  # at pi the axis has two signs
    oracle = torch.from_numpy(Rotation.from_matrix(R.double().numpy()).as_rotvec()).to(dtype)
    torch.testing.assert_close(log[generic], oracle[generic], rtol=0, atol=20 * TOLERANCE[dtype])


def test_small_axis_angles_keep_their_digits_through_the_matrix():
    vectors = torch.tensor([[1e-20, 0, 0], [0, 3e-12, 1e-12], [1e-7, -2e-7, 0]], dtype=torch.float64)
    torch.testing.assert_close(matrix_to_axis_angle(axis_angle_to_matrix(vectors)), vectors, rtol=1e-12, atol=0)


def test_quaternions_have_a_real_part_that_is_not_negative_and_unit_length():
    R = axis_angle_to_matrix(torch.cat([random_axis_angles(1000, torch.float64), awkward_axis_angles(torch.float64)]))
    quat_wxyz = matrix_to_quaternion_wxyz(R)
    assert (quat_wxyz[:, 0] >= 0).all()
    torch.testing.assert_close(quat_wxyz.norm(dim=-1), torch.ones(len(R), dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_zero_quaternion_is_the_identity_with_zero_gradient():
    q = torch.zeros(4, requires_grad=True)
    R = quaternion_wxyz_to_matrix(q)
    R.sum().backward()
    assert torch.equal(R.detach(), torch.eye(3))
    assert torch.equal(q.grad, torch.zeros(4))


def to_axis_angle_and_back(a):
    return matrix_to_axis_angle(axis_angle_to_matrix(a))


FROM_VECTORS = {
    "exponential": axis_angle_to_matrix,
    "logarithm": to_axis_angle_and_back,
    "quaternion": lambda a: matrix_to_quaternion_wxyz(axis_angle_to_matrix(a)),
    "6d": lambda a: matrix_to_rotation_6d(axis_angle_to_matrix(a), "rows"),
    "distance": lambda a: geodesic_distance(axis_angle_to_matrix(a), torch.eye(3, dtype=a.dtype).expand(len(a), 3, 3)),
    "nearest": lambda a: project_to_so3(axis_angle_to_matrix(a)),
    "XYZ": lambda a: matrix_to_euler(axis_angle_to_matrix(a), "XYZ"),
    "ZXZ": lambda a: matrix_to_euler(axis_angle_to_matrix(a), "ZXZ"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FROM_VECTORS)
def test_values_and_gradients_are_finite_at_zero_and_pi_and_between(name, dtype):
    vectors = awkward_axis_angles(dtype).requires_grad_()
    out = FROM_VECTORS[name](vectors)
    weights = torch.linspace(-1, 1, out.numel(), dtype=dtype).reshape(out.shape)
    (out * weights).sum().backward()
    assert out.isfinite().all()
    assert vectors.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_logarithm_has_the_identity_as_its_derivative_at_zero_and_a_bounded_one_up_to_pi(dtype):
    zero = torch.zeros(3, dtype=dtype)
    jacobian = torch.autograd.functional.jacobian(to_axis_angle_and_back, zero)
    torch.testing.assert_close(jacobian, torch.eye(3, dtype=dtype), rtol=0, atol=1e-6)
    for angle in (1e-8, 1e-4, 0.0316, 0.0317, 1.0, 3.1, math.pi - 1e-3):
        a = torch.tensor([angle, 0, 0], dtype=dtype)
        jacobian = torch.autograd.functional.jacobian(to_axis_angle_and_back, a)
        torch.testing.assert_close(jacobian, torch.eye(3, dtype=dtype), rtol=0, atol=5e-3 if angle > 3.1 else 1e-5)


def test_gradients_are_those_of_finite_differences():
    a = torch.cat([random_axis_angles(5, torch.float64), torch.tensor([[0.01, 0.02, 0.02], [0.05, 0, 0.01]])]).double()
    R = axis_angle_to_matrix(a)
    general = R + 0.1 * torch.randn(R.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    check = torch.autograd.gradcheck
    assert check(axis_angle_to_matrix, a.clone().requires_grad_())
    assert check(to_axis_angle_and_back, a.clone().requires_grad_())
    assert check(quaternion_wxyz_to_matrix, (2 * matrix_to_quaternion_wxyz(R)).requires_grad_())
    assert check(matrix_to_quaternion_wxyz, general.clone().requires_grad_())
    assert check(geodesic_distance, (R[1:].clone().requires_grad_(), R[:-1].clone().requires_grad_()))
    assert check(project_to_so3, general.clone().requires_grad_())
    assert check(project_to_so3, (-general).clone().requires_grad_())
    for order in ("XYZ", "zyx", "ZXZ", "yxy"):
        assert check(lambda M, order=order: matrix_to_euler(M, order), R.clone().requires_grad_())
        assert check(lambda e, order=order: euler_to_matrix(e, order), a.clone().requires_grad_())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_of_6d_is_that_of_finite_differences(layout):
    d = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: rotation_6d_to_matrix(v, layout), d)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_6d_vector_gives_a_rotation_with_finite_gradients(layout, dtype):
    a = np.array([[1.0, 2, -3], [0, 0, 1], [1, 0, 0], [0, 0, 0], [1e-30, 0, 0]])
    b = np.array([[2.0, 4, -6], [0, 0, -5], [1 + 1e-7, 1e-7, 0], [0, 0, 0], [0, 1, 0], [1, 1e-4, 0], [1e8, 0, 3]])
    pairs = np.stack([np.stack([x, y]) for x in a for y in b])
    flat = (pairs.transpose(0, 2, 1) if layout == "interleaved" else pairs).reshape(-1, 6)
    d = torch.from_numpy(flat).to(dtype).requires_grad_()
    R = rotation_6d_to_matrix(d, layout)
    assert_rotations(R, 4 * TOLERANCE[dtype])
    (R * torch.arange(9, dtype=dtype).reshape(3, 3)).sum().backward()
    assert d.grad.isfinite().all()


@pytest.mark.parametrize(
    ("layout", "identity"),
    [("rows", [1, 0, 0, 0, 1, 0]), ("columns", [1, 0, 0, 0, 1, 0]), ("interleaved", [1, 0, 0, 1, 0, 0])],
)
def test_the_identity_is_written_as_documented_and_zero_is_the_identity(layout, identity):
    eye = torch.eye(3)
    assert matrix_to_rotation_6d(eye, layout).tolist() == identity
    assert torch.equal(rotation_6d_to_matrix(torch.tensor(identity).float(), layout), eye)
    assert torch.equal(rotation_6d_to_matrix(torch.zeros(6), layout), eye)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_layout_or_order_is_refused_by_name():
    with pytest.raises(ValueError, match="'hmr' is none of"):
        rotation_6d_to_matrix(torch.zeros(6), "hmr")
    with pytest.raises(ValueError, match="'hmr' is none of"):
        matrix_to_rotation_6d(torch.eye(3), "hmr")
    for order in ("XXY", "XYx", "XY", "ABC", "XYZX"):
        with pytest.raises(ValueError, match="is no Euler order"):
            euler_to_matrix(torch.zeros(3), order)


@pytest.mark.parametrize("order", ORDERS)
def test_euler_angles_are_those_of_scipy_and_give_their_matrix_back_in_gimbal_lock(order):
    angles = np.random.default_rng(4).uniform(-math.pi, math.pi, size=(200, 3))
    R = euler_to_matrix(torch.from_numpy(angles), order)
    oracle = Rotation.from_euler(order, angles)
    torch.testing.assert_close(R, torch.from_numpy(oracle.as_matrix()), rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix_to_euler(R, order), torch.from_numpy(oracle.as_euler(order)), rtol=0, atol=1e-9)
    offsets = np.array([0, 1e-16, 1e-9, 1e-7, 1e-6, 1e-4])
    for lock in (0, math.pi / 2, math.pi, -math.pi / 2):
        near = np.stack([angles[:6, 0], lock + offsets, angles[:6, 2]], -1)
        for dtype in (torch.float32, torch.float64):
            R = euler_to_matrix(torch.from_numpy(near).to(dtype), order)
            back = euler_to_matrix(matrix_to_euler(R, order), order)
            torch.testing.assert_close(back, R, rtol=0, atol=2 * TOLERANCE[dtype])


@given(
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda a: math.hypot(*a) > 0.1),
    exponent=st.floats(-9, 0),
    side=st.sampled_from([0.0, math.pi]),
)
def test_the_geodesic_distance_is_the_angle_of_the_turn_between(axis, exponent, side):
    angle = abs(side - 3.0 * 10**exponent)
    unit = torch.tensor(axis, dtype=torch.float64) / math.hypot(*axis)
    base = axis_angle_to_matrix(torch.tensor([0.3, -1.2, 0.4], dtype=torch.float64))
    turned = base @ axis_angle_to_matrix(angle * unit)
    assert abs(geodesic_distance(base, turned).item() - angle) < 1e-14
    assert abs(geodesic_distance(turned.float(), base.float()).item() - angle) < 1e-6


def test_the_gradient_of_the_distance_is_bounded_by_one_half_root_two_an_entry():
    R = axis_angle_to_matrix(awkward_axis_angles(torch.float64)).requires_grad_()
    geodesic_distance(R, torch.eye(3, dtype=torch.float64).expand_as(R)).sum().backward()
    assert (R.grad.flatten(1).norm(dim=1) < 1.0).all()


def test_the_nearest_rotation_is_that_of_roma_and_no_random_rotation_is_nearer():
    generator = torch.Generator().manual_seed(5)
    M = torch.randn(200, 3, 3, dtype=torch.float64, generator=generator)
    R = project_to_so3(M)
    assert_rotations(R, 1e-12)
    torch.testing.assert_close(R, roma.special_procrustes(M), rtol=0, atol=1e-9)
    others = axis_angle_to_matrix(random_axis_angles(500, torch.float64))
    distance = (others[:, None] - M).flatten(2).norm(dim=-1).min(0).values
    assert ((R - M).flatten(1).norm(dim=-1) <= distance + 1e-12).all()


def test_a_rotation_is_its_own_nearest_rotation_and_passes_only_turning_gradients():
    R = axis_angle_to_matrix(random_axis_angles(20, torch.float64)).requires_grad_()
    nearest = project_to_so3(R)
    torch.testing.assert_close(nearest, R, rtol=0, atol=1e-12)
    weights = torch.randn(R.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    (nearest * weights).sum().backward()
    turning = R.detach().mT @ weights
    expected = R.detach() @ (turning - turning.mT) / 2
    torch.testing.assert_close(R.grad, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("diagonal", [(0, 0, 0), (1, 0, 0), (1, 1, -1), (2, 1, -1)])
def test_a_matrix_without_one_nearest_rotation_gives_a_rotation_and_finite_gradients(diagonal):
    M = torch.diag(torch.tensor(diagonal, dtype=torch.float64)).requires_grad_()
    R = project_to_so3(M)
    assert_rotations(R, 1e-12)
    (R * torch.arange(9).reshape(3, 3)).sum().backward()
    assert M.grad.isfinite().all()


def test_the_core_reference_vectors_are_met(reference):
    arrays = reference("core/rotations")
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items() if value.dtype.kind == "f"}

    def close(actual, key, atol=1e-12):
        torch.testing.assert_close(actual, tensors[key], rtol=0, atol=atol)

    vectors = tensors["axis_angle"].clone().requires_grad_()
    R = axis_angle_to_matrix(vectors)
    close(R.detach(), "matrix")
    (R * tensors["grad_weight"]).sum().backward()
    close(vectors.grad, "grad_axis_angle", atol=1e-9)
    close(axis_angle_to_matrix(matrix_to_axis_angle(tensors["matrix"])), "matrix")
    inside = tensors["rotvec_back"].norm(dim=-1) < math.pi - 1e-6
    torch.testing.assert_close(
        matrix_to_axis_angle(tensors["matrix"])[inside], tensors["rotvec_back"][inside], rtol=0, atol=1e-9
    )
    off_pi = tensors["quat_wxyz"][:, 0] > 1e-6
    torch.testing.assert_close(
        matrix_to_quaternion_wxyz(tensors["matrix"])[off_pi], tensors["quat_wxyz"][off_pi], rtol=0, atol=1e-12
    )
    close(quaternion_wxyz_to_matrix(tensors["quat_wxyz"]), "matrix")
    close(quaternion_wxyz_to_matrix(tensors["quat2_wxyz"]), "quat2_matrix")
    close(rotation_6d_to_matrix(tensors["d6"], "rows"), "d6_rows_matrix")
    close(rotation_6d_to_matrix(tensors["d6"], "columns"), "d6_columns_matrix")
    close(rotation_6d_to_matrix(tensors["d6_interleaved"], "interleaved"), "d6_interleaved_matrix")
    close(geodesic_distance(tensors["geo_R1"], tensors["geo_R2"]), "geo_angle")
    close(project_to_so3(tensors["so3_in"]), "so3_out", atol=1e-10)
    for order in ("XYZ", "ZYX", "ZXZ"):
        close(euler_to_matrix(tensors[f"euler_{order}"], order), f"euler_p3d_matrix_{order}", atol=1e-9)
        close(euler_to_matrix(matrix_to_euler(tensors["matrix"], order), order), "matrix")


def test_the_original_conventions_of_6d_are_met(reference):
    arrays = reference("smil_regressor/rotations")
    raw = torch.from_numpy(arrays["raw6d"]).requires_grad_()
    for layout in LAYOUTS:
        expected = torch.from_numpy(arrays[f"matrix_{layout}_convention"])
        torch.testing.assert_close(rotation_6d_to_matrix(raw, layout).detach(), expected, rtol=0, atol=1e-12)
    (rotation_6d_to_matrix(raw, "rows") * torch.from_numpy(arrays["grad_weight"])).sum().backward()
    torch.testing.assert_close(raw.grad, torch.from_numpy(arrays["grad_raw6d"]), rtol=1e-9, atol=1e-9)
    matrix = torch.from_numpy(arrays["matrix"])
    torch.testing.assert_close(axis_angle_to_matrix(torch.from_numpy(arrays["axis_angle"])), matrix, rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix_to_rotation_6d(matrix, "rows"), torch.from_numpy(arrays["rot6d_rows"]))
