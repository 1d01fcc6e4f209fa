"""Procrustes: the best similarity, never a reflection, and clear words where there is none."""

import math

import numpy as np
import pytest
import roma
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.transform import Rotation

from posecore.alignment import procrustes
from posecore.rotations import axis_angle_to_matrix

F64 = torch.float64


def points(*shape, seed=0):
    return torch.randn(*shape, 3, dtype=F64, generator=torch.Generator().manual_seed(seed))


def close(actual, expected, atol=1e-9):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@given(
    axis_angle=st.tuples(*[st.floats(-3, 3)] * 3),
    shift=st.tuples(*[st.floats(-100, 100)] * 3),
    scale=st.floats(1e-3, 1e3),
    n=st.integers(3, 30),
)
def test_a_similarity_is_found_again_from_points_it_moved(axis_angle, shift, scale, n):
    source = points(n, seed=n)
    R = axis_angle_to_matrix(torch.tensor(axis_angle, dtype=F64))
    target = scale * source @ R.T + torch.tensor(shift, dtype=F64)
    found = procrustes(source, target)
    close(found.R, R, atol=1e-8)
    assert found.s.item() == pytest.approx(scale)
    close(found.apply(source), target, atol=1e-8 * max(1, scale))


def test_the_rigid_fit_is_that_of_scipy_and_of_roma_also_with_weights():
    source, target = points(40, 12, seed=1), points(40, 12, seed=2)
    weights = torch.rand(40, 12, dtype=F64, generator=torch.Generator().manual_seed(3))
    found = procrustes(source, target, weights, scale=False)
    assert torch.equal(found.s, torch.ones(40, dtype=F64))
    R, t = roma.rigid_points_registration(source, target, weights=weights)
    close(found.R, R)
    close(found.t, t)
    centred = [
        x - (weights[..., None] * x).sum(1, keepdim=True) / weights.sum(1)[:, None, None] for x in (source, target)
    ]
    for i in range(5):
        oracle, _ = Rotation.align_vectors(centred[1][i].numpy(), centred[0][i].numpy(), weights=weights[i].numpy())
        close(found.R[i], torch.from_numpy(oracle.as_matrix()), atol=1e-7)


def test_no_similarity_nearby_fits_better():
    source, target = points(12, seed=1), points(12, seed=2)
    best = procrustes(source, target)
    error = (best.apply(source) - target).square().sum()
    for i in range(50):
        turn = axis_angle_to_matrix(0.1 * points(seed=i).reshape(3))
        other = best._replace(
            R=turn @ best.R, t=best.t + 0.1 * points(seed=i + 99).reshape(3), s=best.s * (1 + 0.01 * i)
        )
        assert (other.apply(source) - target).square().sum() >= error


def test_a_mirrored_cloud_is_turned_but_never_mirrored():
    source = points(20, 15)
    found = procrustes(source, source * torch.tensor([-1.0, 1, 1], dtype=F64))
    assert (torch.linalg.det(found.R) > 0.999).all()
    assert (found.s > 0).all()


def test_with_reflections_allowed_the_fit_is_that_of_scipy():
    """As FreiHAND's `align_w_scale` computes it; of 30 unrelated pairs about half are mirrored."""
    source, target = points(30, 9, seed=1), points(30, 9, seed=2)
    found = procrustes(source, target, allow_reflection=True)
    mirrored = torch.linalg.det(found.R) < 0
    assert 0 < mirrored.sum() < 30
    for i in range(30):
        a, b = (x[i].numpy() - x[i].numpy().mean(0) for x in (source, target))
        R, singular = orthogonal_procrustes(a, b)  # of row vectors
        scale = singular / np.square(a).sum()
        close(found.R[i], torch.from_numpy(R.T))
        assert found.s[i].item() == pytest.approx(scale)
        close(found.apply(source)[i], torch.from_numpy(scale * a @ R + target[i].numpy().mean(0)))
    proper = procrustes(source, target)
    close(found.R[~mirrored], proper.R[~mirrored])


def test_a_mirrored_cloud_is_found_again_where_reflections_are_allowed_and_has_gradients():
    source = points(2, 15).requires_grad_()
    target = 3 * source.detach() * torch.tensor([-1.0, 1, 1], dtype=F64) + 1
    found = procrustes(source, target, allow_reflection=True)
    close(found.apply(source), target)
    assert (found.s > 0).all()
    assert torch.autograd.gradcheck(lambda x: tuple(procrustes(x, target, allow_reflection=True)), source)


def test_points_without_weight_do_not_matter_even_where_they_are_nan():
    source, target = points(2, 10, seed=1), points(2, 10, seed=2)
    weights = torch.ones(2, 10, dtype=F64)
    weights[:, 7:] = 0
    expected = procrustes(source[:, :7], target[:, :7])
    source[:, 8], target[:, 9] = math.nan, math.nan
    for actual, value in zip(procrustes(source, target, weights), expected, strict=True):
        close(actual, value)


def test_float32_points_are_aligned_in_float64_and_broadcast_batches_keep_their_shape():
    source, target = points(2, 3, 20, seed=1).float() + 1000, points(2, 3, 20, seed=2).float() - 500
    found = procrustes(source, target)
    assert (found.R.shape, found.t.shape, found.s.shape) == ((2, 3, 3, 3), (2, 3, 3), (2, 3))
    assert found.R.dtype == torch.float32
    close(found.R, procrustes(source.double(), target.double()).R.float(), atol=1e-6)


LINE = torch.arange(5, dtype=F64)[:, None] * torch.tensor([0.3, -1, 2], dtype=F64) + 7
DEGENERATE = {
    "a line": LINE,
    "a line in float32": LINE.float().double(),
    "one place": torch.full((5, 3), 3.0, dtype=F64),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("side", ["source", "target"])
def test_points_on_a_line_or_at_one_place_are_refused_by_batch_entry_or_give_nan(name, side):
    good, other = points(4, 5, seed=1), points(4, 5, seed=2)
    bad = good.clone()
    bad[2] = DEGENERATE[name]
    pair = (bad, other) if side == "source" else (other, bad)
    with pytest.raises(ValueError, match="batch entries 2: fewer than three points"):
        procrustes(*pair)
    found = procrustes(*pair, on_degenerate="nan")
    for part in found:
        assert part.flatten(1).isnan().all(1).tolist() == [False, False, True, False] if part.ndim > 1 else True
        assert part[2].isnan().all()
    expected = procrustes(*[x[[0, 1, 3]] for x in pair])
    close(found.R[[0, 1, 3]], expected.R)


def test_two_points_or_weights_on_two_are_refused():
    source = points(2, 3, 5)
    weights = torch.ones(2, 3, 5, dtype=F64)
    weights[1, 0, 2:] = 0
    with pytest.raises(ValueError, match=r"batch entries \(1, 0\): fewer than three points"):
        procrustes(source, source, weights)
    with pytest.raises(ValueError, match=r"^procrustes: fewer than three points"):
        procrustes(source[0, 0, :2], source[0, 0, :2])


def test_points_in_a_plane_are_enough():
    source = points(8) * torch.tensor([1.0, 1, 0], dtype=F64)
    R = axis_angle_to_matrix(torch.tensor([0.3, 2, -1], dtype=F64))
    close(procrustes(source, source @ R.T).R, R)


def test_gradients_are_those_of_finite_differences_and_exist_for_an_exact_fit():
    source, target = points(2, 6, seed=1), points(2, 6, seed=2)
    weights = torch.rand(2, 6, dtype=F64, generator=torch.Generator().manual_seed(3)) + 0.1
    inputs = tuple(x.requires_grad_() for x in (source, target, weights))
    assert torch.autograd.gradcheck(lambda *x: tuple(procrustes(*x)), inputs)
    same = points(6).requires_grad_()
    procrustes(same, same.detach()).apply(same).square().sum().backward()
    assert same.grad.isfinite().all()


def test_a_degenerate_entry_leaves_the_gradients_of_the_others_finite():
    source = torch.stack([points(5, seed=1), LINE]).requires_grad_()
    found = procrustes(source, points(2, 5, seed=2), on_degenerate="nan")
    found.R[0].sum().backward()
    assert source.grad.isfinite().all()
    assert source.grad[0].any()


@pytest.mark.usefixtures("unchecked")
def test_wrong_arguments_are_refused_with_shapes():
    with pytest.raises(ValueError, match=r"source \(5, 3\) and target \(6, 3\) differ"):
        procrustes(points(5), points(6))
    with pytest.raises(ValueError, match="'skip' is none of"):
        procrustes(points(5), points(5), on_degenerate="skip")
    with pytest.raises(ValueError, match="negative or NaN"):
        procrustes(points(5), points(5), torch.tensor([1.0, 1, 1, 1, -1]))


def test_the_reference_alignment_is_met(reference):
    arrays = reference("smil_regressor/metrics")
    pred, target = (torch.from_numpy(arrays[key]) for key in ("pred3d", "gt3d"))
    aligned = procrustes(pred, target).apply(pred)
    assert np.abs(aligned.numpy() - arrays["procrustes_aligned"]).max() < 5e-6  # theirs is float32 throughout
