"""Loss terms against the public implementations' own numbers."""

import numpy as np
import pytest
import torch
from torch import Tensor

from keypoint_nvs.losses import denoising, equivariance, multiview_point, sharpening, temporal
from keypoint_nvs.losses.denoising import denoising_term
from keypoint_nvs.losses.equivariance import pixels_that_come_back
from keypoint_nvs.losses.temporal import TemporalKind


@pytest.fixture(scope="module")
def sk(reference) -> dict[str, Tensor]:
    return tensors(reference("sk_losses"))


@pytest.fixture(scope="module")
def skel(reference) -> dict[str, Tensor]:
    return tensors(reference("skel_losses"))


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


@pytest.mark.parametrize(
    ("sigma", "subjects", "name"), [(2.0, 1, "sharpening_sigma2"), (1.0, 2, "sharpening_sigma1_two_subjects")]
)
def test_sharpening_and_its_gradient_are_upstreams(sk, sigma, subjects, name):
    maps = sk["maps"].clone().requires_grad_()
    loss = sharpening(maps, sigma, subjects)
    loss.backward()
    torch.testing.assert_close(loss.detach(), sk[name], rtol=0, atol=1e-6)
    torch.testing.assert_close(maps.grad, sk[f"{name}_grad"], rtol=0, atol=1e-6)


def test_equivariance_and_its_gradients_are_upstreams(sk):
    for i, expected in enumerate(sk["equivariance"]):
        maps, warped = (sk[name][None].clone().requires_grad_() for name in ("maps", "maps_transformed"))
        loss = equivariance(maps, warped, sk["theta"][i : i + 1], mask_outside=False)
        torch.testing.assert_close(loss.detach(), expected, rtol=0, atol=1e-6)
        if i == 0:
            loss.backward()
            torch.testing.assert_close(maps.grad[0], sk["equivariance_grad_maps"], rtol=0, atol=1e-6)
            torch.testing.assert_close(warped.grad[0], sk["equivariance_grad_transformed"], rtol=0, atol=1e-6)


def test_pixels_that_come_back_are_those_of_upstreams_ones_but_for_the_rim_that_the_first_warp_has_blurred(sk):
    reached = sk["ones_back"][:, 0] >= 0.99  # upstream's ones are warped back only
    found = pixels_that_come_back(sk["theta"], (24, 24))
    assert not (found & ~reached).any()
    assert torch.equal(found[:, 2:-2, 2:-2], reached[:, 2:-2, 2:-2])
    assert found.flatten(1).any(1).all()
    assert not found.flatten(1).all(1).any()


@pytest.mark.parametrize(
    ("kind", "name"), [("l2", "temporal_l2"), ("kl", "temporal_kl"), ("weighted", "temporal_adaptive")]
)
def test_temporal_differences_are_upstreams(skel, kind: TemporalKind, name):
    found = temporal(skel["maps"], skel["maps_next"], kind)
    torch.testing.assert_close(found, skel[name], rtol=1e-5, atol=1e-9)


def test_temporal_difference_with_weights_of_tokens_is_upstreams(skel):
    found = temporal(skel["maps"], skel["maps_next"], "l2", skel["mask"])
    torch.testing.assert_close(found, skel["temporal_l2_masked"], rtol=1e-5, atol=1e-9)


def test_the_points_loss_of_each_keypoint_is_the_references(reference):
    arrays = tensors(reference("geometry"))
    projected, observed = (arrays[name].transpose(0, 1) for name in ("reprojected_uv", "observed_uv"))
    found = multiview_point(projected, observed, arrays["weights"].T, float(arrays["huber_delta"]))
    torch.testing.assert_close(found, arrays["consistency_loss_per_keypoint"], rtol=0, atol=1e-9)
    torch.testing.assert_close(found.mean(), arrays["consistency_loss"], rtol=0, atol=1e-9)


def test_denoising_is_the_references_and_weights_multiply_each_samples_own(reference):
    arrays = tensors(reference("z123_schedule"))
    v_pred, v = arrays["v_pred"], arrays["v_target"]
    torch.testing.assert_close(denoising(v_pred, v), arrays["nvs_loss"], rtol=1e-5, atol=0)
    weights = torch.tensor([0.0, 0.5, 2.0, 1.0])
    each = torch.stack([denoising(v_pred[i : i + 1], v[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(denoising(v_pred, v, weights), (each * weights).mean())
    term = denoising_term(v_pred[:3], v[:3], weights[:3])
    assert float(term.count) == 3
    assert denoising_term(v_pred.bfloat16(), v.bfloat16()).total.dtype == torch.float32
