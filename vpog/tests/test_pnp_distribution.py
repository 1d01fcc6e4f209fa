"""Densities, adaptive importance sampling and the losses of the pose distribution."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from vpog.losses.pose import distribution_term
from vpog.pnp.cost import adaptive_delta, pose_costs
from vpog.pnp.densities import (
    acg_log_density,
    acg_samples,
    cholesky_with_jitter,
    student_t_log_density,
    student_t_samples,
)
from vpog.pnp.derivative import pose_after_step, rotation_error, translation_error
from vpog.pnp.lm import solve_lm
from vpog.pnp.monte_carlo import (
    Proposal,
    first_proposal,
    monte_carlo_loss,
    pose_distribution,
    proposal_samples,
    sampled_distribution,
)
from vpog.pnp.records import Correspondences
from vpog.pnp.settings import LmSettings, MonteCarloSettings, PnpSettings

Z_MIN = 0.1


@pytest.fixture(scope="module")
def vectors(reference):
    return {name: torch.from_numpy(np.asarray(array)) for name, array in reference("epropnp").items()}


def pairs_of(vectors):
    return Correspondences(vectors["x3d"], vectors["x2d"], vectors["w2d"], vectors["K"])


def test_log_densities_equal_the_reference_and_scipy(vectors):
    tril = vectors["mvt/scale_tril"]
    ours = student_t_log_density(vectors["mvt/x"], torch.zeros(3, dtype=torch.float64), tril)
    torch.testing.assert_close(ours, vectors["mvt/logp"], rtol=0, atol=1e-9)
    theirs = scipy.stats.multivariate_t(np.zeros(3), (tril @ tril.mT).numpy(), df=3).logpdf(vectors["mvt/x"].numpy())
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-9)
    acg = acg_log_density(vectors["acg/x"], vectors["acg/scale_tril"])
    torch.testing.assert_close(acg, vectors["acg/logp"], rtol=0, atol=1e-9)


def test_the_density_of_rotations_integrates_to_one(vectors):
    uniform = torch.nn.functional.normalize(
        torch.randn(200_000, 4, generator=torch.Generator().manual_seed(0)).double(), dim=-1
    )
    mean = acg_log_density(uniform, vectors["acg/scale_tril"]).exp().mean().item()
    assert mean * 2 * math.pi**2 == pytest.approx(1.0, abs=0.02)


def test_draws_follow_their_densities(vectors):
    """Importance weights of draws from themselves are 1; against SciPy's quantiles for the translations."""
    generator = torch.Generator().manual_seed(1)
    n = [torch.randn(1, 40_000, k, generator=generator).double() for k in (3, 3, 4)]
    tril = vectors["mvt/scale_tril"][None]
    x = student_t_samples(n[0], n[1], torch.tensor([[1.0, 2.0, 3.0]]).double(), tril)[0]
    white = torch.linalg.solve_triangular(tril[0], (x - torch.tensor([1.0, 2.0, 3.0]).double()).mT, upper=False)
    for row in white:
        assert scipy.stats.kstest(row.numpy(), scipy.stats.t(df=3).cdf).pvalue > 1e-3
    rot_tril = vectors["acg/scale_tril"]
    q = acg_samples(n[2], rot_tril[None])[0]
    inverse_density = (-acg_log_density(q, rot_tril)).exp().mean().item()
    assert inverse_density == pytest.approx(2 * math.pi**2, rel=0.05)


def replayed(vectors, pairs):
    """The distribution from the recorded draws."""
    first = first_proposal(vectors["mc/pose_opt"], vectors["lm30/cov"], 1e-3)
    draws = vectors["mc/samples"].reshape(4, 32, 4, 7)
    delta = adaptive_delta(pairs)
    return sampled_distribution(
        first,
        lambda _, i: draws[i].transpose(0, 1),
        lambda poses: pose_costs(pairs, poses, delta, Z_MIN),
        MonteCarloSettings(num_samples=128),
    )


def test_proposals_weights_and_losses_equal_the_reference(vectors):
    leaves = {name: vectors[name].clone().requires_grad_() for name in ("x3d", "x2d", "w2d")}
    pairs = Correspondences(leaves["x3d"], leaves["x2d"], leaves["w2d"], vectors["K"])
    found = replayed(vectors, pairs)
    assert found.num_fallbacks == 0
    for name in ("trans_mode", "trans_tril", "rot_tril"):
        ours = torch.stack([getattr(proposal, name) for proposal in found.proposals])
        torch.testing.assert_close(
            ours, vectors[f"mc/{name}"], rtol=0, atol=1e-7
        )  # the recorded covariance's last digits
    torch.testing.assert_close(found.log_weights.T, vectors["mc/logweights"], rtol=0, atol=1e-6)
    delta = adaptive_delta(pairs)
    truth = vectors["pose_gt"]
    loss = (
        monte_carlo_loss(pose_costs(pairs, truth[:, None], delta, Z_MIN)[:, 0], found).mean()
        / vectors["mc/norm_factor"]
    )
    after = pose_after_step(pairs, vectors["mc/pose_opt"], delta, Z_MIN)
    torch.testing.assert_close(after, vectors["mc/pose_opt_plus"], rtol=0, atol=1e-9)
    trans, rot = translation_error(after, truth).mean(), rotation_error(after, truth).mean()
    total = loss + 0.1 * trans + 0.1 * rot
    for name, value in {"loss": loss, "loss_t": trans, "loss_r": rot, "total": total}.items():
        torch.testing.assert_close(value, vectors[f"mc/{name}"], rtol=0, atol=1e-7)
    total.backward()
    for name, leaf in leaves.items():
        wanted = vectors[f"mc/grad_{name}"]
        torch.testing.assert_close(leaf.grad, wanted, rtol=1e-7, atol=1e-7 * wanted.abs().max().item())


def test_the_normaliser_is_that_of_a_very_large_sample(vectors):
    pairs = pairs_of(vectors)
    best = solve_lm(pairs, vectors["pose_gt"], LmSettings(num_iterations=30))
    settings = MonteCarloSettings(num_samples=16_384)
    seeds = torch.arange(4)
    found = pose_distribution(pairs, adaptive_delta(pairs), Z_MIN, best.pose, best.covariance, seeds, settings)
    log_normaliser = found.log_weights.logsumexp(-1) - math.log(16_384)
    spread = 5 * vectors["mc_big/log_normaliser_std"] * 2 + 0.02  # a quarter of the draws: twice the spread
    assert ((log_normaliser - vectors["mc_big/log_normaliser_mean"]).abs() < spread).all()


def test_an_objects_draws_do_not_depend_on_its_neighbours(vectors):
    pairs = pairs_of(vectors)
    best = solve_lm(pairs, vectors["pose_gt"], LmSettings())
    seeds, settings = torch.tensor([5, 6, 7, 8]), MonteCarloSettings(num_samples=64)
    args = (adaptive_delta(pairs), Z_MIN, best.pose, best.covariance)
    together = pose_distribution(pairs, *args, seeds, settings)
    one = Correspondences(*(values[2:3] for values in vars(pairs).values()))
    alone = pose_distribution(one, args[0][2:3], Z_MIN, best.pose[2:3], best.covariance[2:3], seeds[2:3], settings)
    torch.testing.assert_close(alone.poses, together.poses[2:3])
    torch.testing.assert_close(alone.log_weights, together.log_weights[2:3])
    assert not torch.allclose(together.poses[0, 0], proposal_samples(together.proposals[0], seeds + 1, 7001, 1)[0, 0])


def test_a_matrix_that_is_not_positive_definite_is_mended_and_counted():
    flat = torch.diag(torch.tensor([1.0, 1.0, -1e-9])).double()
    good = torch.tensor([[4.0, 2.0, 0], [2.0, 3.0, 0], [0, 0, 1.0]]).double()
    hopeless = torch.diag(torch.tensor([1.0, -5.0, 1.0])).double()
    factor, fell_back = cholesky_with_jitter(torch.stack([good, flat, hopeless, flat * torch.nan]))
    assert fell_back.tolist() == [False, True, True, True]
    torch.testing.assert_close(factor[0], torch.linalg.cholesky(good))
    assert factor.isfinite().all()
    assert (factor.diagonal(dim1=-2, dim2=-1) > 0).all()
    proposal = first_proposal(torch.tensor([[0.0, 0, 1, 1, 0, 0, 0]]).double(), -torch.eye(6).double()[None], 1e-3)
    assert isinstance(proposal, Proposal)
    assert proposal.num_fallbacks > 0


def test_the_derivative_losses_are_zero_at_the_truth_and_grow_with_the_error():
    truth = torch.tensor([[0.1, 0.2, 3.0, 1.0, 0, 0, 0]]).double()
    assert translation_error(truth, truth) == 0
    assert rotation_error(truth, -truth) == 0  # q and -q are the same rotation
    half = math.radians(30) / 2
    turned = torch.tensor([[0.1, 0.2, 5.0, math.cos(half), math.sin(half), 0, 0]]).double()
    assert translation_error(turned, truth).item() == pytest.approx(2 - 0.5)
    assert rotation_error(turned, truth).item() == pytest.approx(2 * math.sin(half) ** 2)


def test_the_step_after_the_optimum_has_the_gradient_of_its_numbers(vectors):
    pairs = pairs_of(vectors)
    one = Correspondences(*(values[:1, :8] if values.shape[1] > 3 else values[:1] for values in vars(pairs).values()))
    pose, delta = vectors["mc/pose_opt"][:1], adaptive_delta(one)

    def after(pixels, weights):
        return pose_after_step(Correspondences(one.points_obj, pixels, weights, one.K), pose, delta, Z_MIN)

    inputs = tuple(values.clone().requires_grad_() for values in (one.pixels, one.weights))
    assert torch.autograd.gradcheck(after, inputs, atol=1e-6)


def test_poses_alone_teach_which_pairs_are_wrong(vectors):
    """A quarter of the pixels is shifted; only the weights can learn, and only the true poses are known."""
    truth, wrong = vectors["pose_gt"].float(), slice(0, 10)
    pixels = vectors["uv_exact"].float().clone()
    pixels[:, wrong] += 25 * torch.randn(4, 10, 2, generator=torch.Generator().manual_seed(0)).sign()
    logits = torch.zeros(4, 40, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    settings = PnpSettings(monte_carlo=MonteCarloSettings(num_samples=128))

    def pairs():
        shares = logits.softmax(-1)[..., None] * 30.0
        return Correspondences(vectors["x3d"].float(), pixels, shares.expand(4, 40, 2), vectors["K"].float())

    def distance():
        found = solve_lm(pairs(), truth, settings.lm).pose
        return (found[:, :3] - truth[:, :3]).norm(dim=-1)

    before = distance()
    for step in range(15):
        seeds = torch.arange(4) + 10 * step
        term = distribution_term(pairs(), truth, seeds, settings, torch.tensor(1.0), torch.ones(4)).term
        optimiser.zero_grad()
        term.mean().backward()
        optimiser.step()
    share = logits.softmax(-1)
    assert share[:, wrong].max() < share[:, 10:].mean() / 3
    assert (distance() < before / 3).all()
