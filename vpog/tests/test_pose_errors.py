"""Errors of single pairs of poses: the public toolkit's numbers, and laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vpog.metrics.models import EvaluationModel
from vpog.metrics.pose_errors import (
    add_errors_mm,
    add_s_errors_mm,
    projection_errors_px,
    rotation_errors_deg,
    translation_errors_mm,
)
from vpog.metrics.symmetric_errors import mspd_errors_px, mssd_errors_mm, symmetric_rotation_errors_deg
from vpog.metrics.vsd import distances_of_depth, visible_estimate, visible_truth, vsd_errors

seeds = st.integers(0, 2**32 - 1)


def transforms(rotations, translations):
    out = np.tile(np.eye(4), (len(rotations), 1, 1))
    out[:, :3, :3], out[:, :3, 3] = rotations, translations
    return out


def random_poses(rng, count):
    rotations = Rotation.from_quat(rng.normal(size=(count, 4))).as_matrix()
    return transforms(rotations, rng.normal(0, 40, (count, 3)) + np.array([0, 0, 600]))


def turns(count):
    return transforms(Rotation.from_euler("z", 2 * np.pi / count * np.arange(count)[:, None]).as_matrix(), 0)


@pytest.fixture(scope="module")
def vectors(reference):
    return reference("pose_errors")


@pytest.fixture(scope="module")
def poses(vectors):
    estimated, true = (transforms(vectors[f"R_{name}"], vectors[f"t_{name}"]) for name in ("est", "gt"))
    return estimated, true, np.tile(vectors["K"], (len(true), 1, 1))


def test_plain_errors_are_those_of_the_public_toolkit(vectors, poses):
    estimated, true, K = poses
    points = vectors["pts"]
    found = {
        "add": add_errors_mm(estimated, true, points),
        "adi": add_s_errors_mm(estimated, true, points),
        "proj": projection_errors_px(estimated, true, points, K),
        "te": translation_errors_mm(estimated, true),
    }
    for name, errors in found.items():
        np.testing.assert_allclose(errors, vectors[f"err_{name}"], rtol=0, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(rotation_errors_deg(estimated, true), vectors["err_re"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["none", "disc", "cont", "dc"])
def test_symmetric_errors_are_those_of_the_public_toolkit(vectors, poses, kind):
    estimated, true, K = poses
    symmetries = transforms(vectors[f"syms_{kind}_R"], vectors[f"syms_{kind}_t"])
    model = EvaluationModel(vectors["pts"], float(vectors["diameter"]), symmetries)
    mssd, mspd = mssd_errors_mm(estimated, true, model), mspd_errors_px(estimated, true, model, K)
    np.testing.assert_allclose(mssd, vectors[f"err_mssd_{kind}"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(mspd, vectors[f"err_mspd_{kind}"], rtol=0, atol=1e-9)


def test_vsd_and_its_masks_are_those_of_the_public_toolkit(vectors):
    test, estimated, true = (distances_of_depth(vectors[f"vsd_depth_{n}"], vectors["K"]) for n in ("test", "est", "gt"))
    diameter, taus = float(vectors["diameter"]), vectors["vsd_taus"]
    for i in range(len(test)):
        seen = visible_truth(test[i], true[i])
        np.testing.assert_array_equal(seen, vectors["vsd_visib_gt"][i])
        np.testing.assert_array_equal(visible_estimate(test[i], estimated[i], seen), vectors["vsd_visib_est"][i])
        relative = vsd_errors(test[i], estimated[i], true[i], taus, diameter)
        np.testing.assert_allclose(relative, vectors["vsd_err"][i], rtol=0, atol=1e-12)
        absolute = vsd_errors(test[i], estimated[i], true[i], taus * diameter, None)
        np.testing.assert_allclose(absolute, vectors["vsd_err_abs"][i], rtol=0, atol=1e-12)


@given(seed=seeds, count=st.sampled_from([2, 7, 60]))
def test_bounds_leave_out_no_symmetry_that_is_better(seed, count):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(40, 3)) * [30, 20, 50]
    model = EvaluationModel(points, 150.0, turns(count))
    estimated, true = random_poses(rng, 3), random_poses(rng, 3)
    estimated[0] = true[0] @ model.symmetries[-1]
    K = np.tile([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]], (3, 1, 1))
    homogeneous = np.concatenate([points, np.ones((40, 1))], 1).T
    in_estimate = (estimated[:, None] @ homogeneous)[..., :3, :]
    in_truth = (true[:, None] @ model.symmetries @ homogeneous)[..., :3, :]
    all_mssd = np.linalg.norm(in_estimate - in_truth, axis=-2).max(-1).min(-1)
    a, b = (K[:, None] @ side for side in (in_estimate, in_truth))
    all_mspd = np.linalg.norm(a[..., :2, :] / a[..., 2:, :] - b[..., :2, :] / b[..., 2:, :], axis=-2).max(-1).min(-1)
    np.testing.assert_allclose(mssd_errors_mm(estimated, true, model), all_mssd, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mspd_errors_px(estimated, true, model, K), all_mspd, rtol=1e-9, atol=1e-9)


@given(seed=seeds)
def test_an_estimate_turned_by_a_symmetry_is_as_good(seed):
    rng = np.random.default_rng(seed)
    model = EvaluationModel(rng.normal(size=(20, 3)) * 40, 150.0, turns(6))
    estimated, true = random_poses(rng, 4), random_poses(rng, 4)
    turned = estimated @ model.symmetries[rng.integers(6)]
    points = np.einsum("sij,vj->svi", model.symmetries[:, :3, :3], model.points_mm).reshape(-1, 3)
    symmetric = EvaluationModel(points, 150.0, model.symmetries)
    for error in (mssd_errors_mm, symmetric_rotation_errors_deg):
        np.testing.assert_allclose(error(turned, true, symmetric), error(estimated, true, symmetric), rtol=0, atol=1e-6)


@given(degrees=st.floats(0, 180), seed=seeds)
def test_the_rotation_error_is_the_angle_of_the_turn_even_near_0_and_180(degrees, seed):
    rng = np.random.default_rng(seed)
    true = random_poses(rng, 1)
    axis = rng.normal(size=3)
    turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.radians(degrees)).as_matrix()
    estimated = true.copy()
    estimated[0, :3, :3] = true[0, :3, :3] @ turn
    # products of matrices are right to 1e-16, and near 180 degrees an angle is as uncertain as its square root
    np.testing.assert_allclose(rotation_errors_deg(estimated, true), degrees, rtol=0, atol=1e-5)
    if degrees < 170:
        np.testing.assert_allclose(rotation_errors_deg(estimated, true), degrees, rtol=0, atol=1e-11)


@given(seed=seeds)
def test_add_s_is_at_most_add_which_is_at_most_mssd(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(30, 3)) * 40
    estimated, true = random_poses(rng, 5), random_poses(rng, 5)
    add, add_s = add_errors_mm(estimated, true, points), add_s_errors_mm(estimated, true, points)
    assert (add_s <= add + 1e-9).all()
    assert (add <= mssd_errors_mm(estimated, true, EvaluationModel(points, 1.0, np.eye(4)[None])) + 1e-9).all()


def test_vsd_without_any_visible_pixel_is_1_and_of_equal_pictures_0():
    empty, plane = np.zeros((4, 4)), np.full((4, 4), 500.0)
    taus = np.array([0.05, 0.5])
    np.testing.assert_array_equal(vsd_errors(plane, empty, empty, taus, 100.0), 1)
    np.testing.assert_array_equal(vsd_errors(plane - 100, plane, plane, taus, 100.0), 1)
    np.testing.assert_array_equal(vsd_errors(empty, plane, plane, taus, 100.0), 0)
    # 10 mm is 0.1 of the diameter: wrong at tau 0.05, right at 0.5
    np.testing.assert_array_equal(vsd_errors(plane, plane + 10, plane, taus, 100.0), [1, 0])


def test_a_flat_model_has_errors():
    points = np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0], [10, 10, 0]])
    model = EvaluationModel(points, 14.2, np.eye(4)[None])
    moved = np.eye(4)[None].copy()
    moved[0, 2, 3] = 3
    np.testing.assert_allclose(mssd_errors_mm(moved, np.eye(4)[None], model), 3)
