"""RANSAC, and what it says where there is no pose."""

import numpy as np
import pytest
import torch

from posecore.rotations import geodesic_distance
from vpog.pnp.poses import pose_to_matrix
from vpog.pnp.ransac import ransac
from vpog.pnp.records import Correspondences, Failure
from vpog.pnp.settings import LmSettings, RansacSettings


@pytest.fixture(scope="module")
def vectors(reference):
    return {name: torch.from_numpy(np.asarray(array)) for name, array in reference("epropnp").items()}


def pairs_of(vectors, copies=1):
    points, pixels = vectors["ransac/pts3d"], vectors["ransac/pts2d"]
    one = (points, pixels, torch.ones_like(pixels), vectors["ransac/K"])
    return Correspondences(*(values.expand(copies, *values.shape).clone() for values in one))


@pytest.mark.parametrize("minimal_solver", ["epnp", "sqpnp", "p3p"])
def test_a_pose_is_found_among_outliers(vectors, minimal_solver):
    found = ransac(pairs_of(vectors), RansacSettings(minimal_solver=minimal_solver), LmSettings())
    matrix = pose_to_matrix(found.poses.pose, torch.ones(1, dtype=torch.float64))[0]
    assert torch.rad2deg(geodesic_distance(matrix[:3, :3], vectors["ransac/R"])) < 0.5
    assert (matrix[:3, 3] - vectors["ransac/t"]).norm() < 5
    assert found.inliers.sum() >= 130
    assert not found.inliers[0, vectors["ransac/outliers"]].any()


def test_each_failure_is_told_and_the_others_are_solved(vectors):
    pairs = pairs_of(vectors, 6)
    pairs.weights[1, 5:] = 0
    pairs.points_obj[2] = torch.linspace(-50, 50, 200, dtype=torch.float64)[:, None] * torch.tensor([1.0, 2.0, -1.0])
    pairs.pixels[3, 7] = torch.inf
    pairs.pixels[4] = 600 * torch.rand(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs.weights[5, ::2] = 0
    found = ransac(pairs, RansacSettings(min_inliers=40), LmSettings())
    wanted = [
        Failure.NONE,
        Failure.TOO_FEW_PAIRS,
        Failure.DEGENERATE,
        Failure.NOT_FINITE,
        Failure.NO_CONSENSUS,
        Failure.NONE,
    ]
    assert found.poses.failure.tolist() == wanted
    assert found.poses.reasons()[4] == "no pose explains enough of the pairs"
    failed = torch.tensor([1, 2, 3, 4])
    assert found.poses.pose[failed].isnan().all()
    assert not found.inliers[failed].any()
    assert not found.inliers[5, ::2].any()  # padding is no inlier
    assert (found.poses.pose[5, :3] - vectors["ransac/t"]).norm() < 5


def test_a_threshold_can_belong_to_each_object(vectors):
    found = ransac(pairs_of(vectors, 2), RansacSettings(), LmSettings(), torch.tensor([1.0, 8.0]))
    assert found.inliers[0].sum() < found.inliers[1].sum()
