"""Noise levels, velocity and Euler's method, against the released schedule and diffusers' own scheduler."""

import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from keypoint_nvs.model.sampling import ancestral_step, guided, network_input, sampling_steps
from keypoint_nvs.model.schedule import NoiseSchedule, alphas_cumprod

SCHEDULE = NoiseSchedule(alphas_cumprod("linear"))


@pytest.fixture(scope="module")
def vectors(reference):
    return {name: torch.from_numpy(values) for name, values in reference("z123_schedule").items()}


@pytest.mark.parametrize("kind", ["linear", "scaled_linear"])
def test_signal_shares_are_the_released_ones(vectors, kind):
    torch.testing.assert_close(alphas_cumprod(kind), vectors[f"alphas_cumprod_{kind}"], rtol=1e-5, atol=1e-6)


def test_noise_velocity_and_its_loss_are_the_references(vectors):
    x0, noise, t, v_pred = (vectors[name] for name in ("x0", "noise", "t", "v_pred"))
    noisy = SCHEDULE.add_noise(x0, noise, t)
    torch.testing.assert_close(noisy, vectors["noisy"], rtol=1e-5, atol=1e-5)
    velocity = SCHEDULE.velocity(x0, noise, t)
    torch.testing.assert_close(velocity, vectors["v_target"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close((v_pred - velocity).square().mean(), vectors["nvs_loss"], rtol=1e-5, atol=1e-5)


@given(t=st.integers(0, 999), seed=st.integers(0, 10))
def test_noisy_latents_and_their_velocity_give_the_latents_back(t, seed):
    x0, noise = torch.randn(2, 1, 4, 2, 2, generator=torch.Generator().manual_seed(seed))
    times = torch.tensor([t])
    noisy, velocity = SCHEDULE.add_noise(x0, noise, times), SCHEDULE.velocity(x0, noise, times)
    signal, spread = SCHEDULE.alphas_cumprod[t].sqrt(), (1 - SCHEDULE.alphas_cumprod[t]).sqrt()
    torch.testing.assert_close(signal * noisy - spread * velocity, x0, rtol=1e-4, atol=1e-5)


def test_min_snr_weights_fall_on_both_sides_of_their_bound():
    t = torch.arange(1000)
    weights, snr = SCHEDULE.min_snr_weights(t, 5.0), SCHEDULE.snr(t)
    torch.testing.assert_close(weights, torch.minimum(snr, torch.tensor(5.0)) / (snr + 1))
    assert abs(snr[weights.argmax()] - 5) < 0.2
    assert weights[0] < 0.01
    assert weights[-1] < 0.01


@pytest.mark.parametrize("steps", [28, 75])
def test_visited_timesteps_and_noise_levels_are_the_released_ones(vectors, steps):
    plan = sampling_steps(SCHEDULE.alphas_cumprod, steps)
    np.testing.assert_array_equal(plan.t.numpy(), vectors[f"euler{steps}_timesteps"].numpy())
    torch.testing.assert_close(plan.sigmas.float(), vectors[f"euler{steps}_sigmas"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plan.sigmas[0].float(), vectors[f"euler{steps}_init_sigma"], rtol=1e-5, atol=1e-5)


def test_the_networks_input_is_noised_and_divided_as_the_reference(vectors):
    plan = sampling_steps(SCHEDULE.alphas_cumprod, 28)
    assert plan.t[5] == vectors["euler_step5_t"][0]
    sigma = plan.sigmas[5].item()
    noisy = vectors["x0"][:1] + sigma * vectors["noise"][:1]
    torch.testing.assert_close(noisy, vectors["euler_step5_noisy"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network_input(noisy, sigma), vectors["euler_step5_model_input"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 7, 28])
def test_sampling_walks_as_diffusers_own_scheduler(steps):
    scheduler = EulerAncestralDiscreteScheduler(
        1000, 0.00085, 0.012, "linear", prediction_type="v_prediction", timestep_spacing="trailing", steps_offset=1
    )
    scheduler.set_timesteps(steps)
    plan = sampling_steps(SCHEDULE.alphas_cumprod, steps)
    theirs, ours = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    x = y = torch.randn(1, 4, 3, 2, generator=torch.Generator().manual_seed(1)) * scheduler.init_noise_sigma
    sigmas = plan.sigmas.tolist()
    for step, t in enumerate(scheduler.timesteps):
        assert t == plan.t[step]
        x_in = scheduler.scale_model_input(x, t)
        y_in = network_input(y, sigmas[step])
        torch.testing.assert_close(y_in, x_in, rtol=1e-4, atol=1e-5)
        x = scheduler.step(torch.tanh(2 * x_in), t, x, generator=theirs).prev_sample
        noise = torch.randn(y.shape, generator=ours)
        y = ancestral_step(y, torch.tanh(2 * y_in), sigmas[step], sigmas[step + 1], noise)
    torch.testing.assert_close(y, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_number_of_steps_that_cannot_be_walked_is_refused(steps):
    with pytest.raises(ValueError, match=f"{steps} sampling steps: 1 to 1000"):
        sampling_steps(SCHEDULE.alphas_cumprod, steps)


def test_guidance_leads_away_from_the_first_half():
    v = torch.tensor([[1.0], [3.0]])[:, :, None, None]
    assert guided(v, 1.0).item() == 3.0
    assert guided(v, 4.0).item() == 9.0
