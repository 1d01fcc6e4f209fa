"""The whole model of novel views, tiny."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_nvs.model import zero123plus
from keypoint_nvs.model.architectures import architecture, build_text, build_unet, build_vae, build_vision
from keypoint_nvs.model.conditioning import initial_ramp
from keypoint_nvs.model.folder_writing import FolderParts, write_folder
from keypoint_nvs.model.folders import embed_empty_prompt
from keypoint_nvs.model.zero123plus import Zero123Plus
from keypoint_nvs.rig import zero123plus_rig
from posecore.errors import InputError

TINY = architecture("tiny")


@pytest.fixture(scope="module")
def built():
    torch.manual_seed(0)
    prompt = embed_empty_prompt(build_text(TINY))
    model = Zero123Plus(
        build_unet(TINY),
        build_vae(TINY),
        build_vision(TINY),
        prompt,
        initial_ramp(),
        zero123plus_rig("v1.2"),
        view_px=32,
        autoencoder_px=32,
        vision_px=32,
        latent_shift=0.02,
        latent_scale=11.0,
    )
    return model.eval()


@pytest.fixture
def model(built):
    """One that a test may change."""
    return copy.deepcopy(built)


def _views(samples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(samples * 7, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear").reshape(samples, 7, 3, 32, 32)
    return smooth[:, 0], smooth[:, 1:]


def _seeds(*values):
    return torch.tensor(values, dtype=torch.int64)


@torch.no_grad()
def test_latents_of_the_grid_are_scaled_and_those_of_the_condition_are_not(model):
    cond, views = _views(2)
    seeds = _seeds(1, 2)
    grid, condition = model.encode_views(views, seeds), model.encode_condition(cond, seeds)
    assert grid.shape == (2, 4, 24, 16)
    assert condition.shape == (2, 4, 8, 8)
    model.set_latent_scaling(-0.3, 0.5)
    model.vae.register_to_config(scaling_factor=0.25)
    expected = ((grid / 11.0 + 0.02) / 0.18215 * 0.25 + 0.3) * 0.5
    torch.testing.assert_close(model.encode_views(views, seeds), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.encode_condition(cond, seeds), condition)


@torch.no_grad()
def test_the_autoencoder_sees_the_views_as_tiles_in_the_range_around_grey(built):
    _, views = _views(1)
    seen = []
    handle = built.vae.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    built.encode_views(views, _seeds(1))
    handle.remove()
    for view in range(6):
        row, col = divmod(view, 2)
        tile = seen[0][0, :, 32 * row : 32 * row + 32, 32 * col : 32 * col + 32]
        torch.testing.assert_close(tile, (views[0, view] - 0.5) / 0.8)


@torch.no_grad()
def test_decoding_does_not_depend_on_how_latents_are_scaled(model):
    latents = torch.randn(1, 4, 24, 16, generator=torch.Generator().manual_seed(0))
    views = model.decode_grid(latents)
    assert views.shape == (1, 6, 3, 32, 32)
    model.set_latent_scaling(0.6, 0.5)
    again = model.decode_grid((latents / 11.0 + 0.02 - 0.6) * 0.5)
    torch.testing.assert_close(again, views, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_views_of_another_size_are_resized(built):
    _, views = _views(1)
    larger = torch.nn.functional.interpolate(views[0], (64, 64), mode="nearest")[None]
    assert built.encode_views(larger, _seeds(1)).shape == (1, 4, 24, 16)


@torch.no_grad()
def test_a_training_pass_of_a_batch_is_that_of_its_samples(built):
    cond, views = _views(3)
    seeds = _seeds(5, 6, 7)
    together = built.training_pass(cond, views, seeds, 0.5)
    for i in range(3):
        alone = built.training_pass(cond[i : i + 1], views[i : i + 1], seeds[i : i + 1], 0.5)
        assert torch.equal(alone.t, together.t[i : i + 1])
        torch.testing.assert_close(alone.v[0], together.v[i], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.v_pred[0], together.v_pred[i], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_dropped_conditions_are_those_of_guidance_and_say_nothing_of_the_picture(built):
    cond, views = _views(2)
    seeds = _seeds(5, 6)
    kept = built.training_pass(cond, views, seeds)
    dropped = built.training_pass(cond, views, seeds, 1.0)
    other = built.training_pass(1 - cond, views, seeds, 1.0)
    assert torch.equal(dropped.v_pred, other.v_pred)
    assert (dropped.v_pred - kept.v_pred).abs().max() > 1e-3
    _, context = built._training_condition(built.prepare(cond), seeds, 1.0)
    assert torch.equal(context, built.negative(2))
    grey = torch.full_like(cond, 0.5)
    latents, _ = built._training_condition(built.prepare(cond), seeds, 1.0)
    torch.testing.assert_close(latents, built.encode_condition(grey, seeds))


@torch.no_grad()
def test_a_part_of_the_samples_is_dropped_as_a_whole(built):
    cond = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).expand(64, -1, -1, -1)
    seeds = torch.arange(64)
    kept, _ = built._training_condition(built.prepare(cond), seeds, 0.0)
    latents, context = built._training_condition(built.prepare(cond), seeds, 0.25)
    lost_prompt = (context == built.negative(64)).flatten(1).all(1)
    lost_picture = (latents != kept).flatten(1).any(1)
    assert torch.equal(lost_prompt, lost_picture)
    assert 6 <= lost_prompt.sum() <= 28


@settings(max_examples=5)
@given(first=st.integers(0, 2**62))
def test_timesteps_cover_the_schedule_evenly(built, first):
    t = built._timesteps(torch.arange(4000) + first)
    assert t.min() >= 0
    assert t.max() <= 999
    assert (torch.histc(t.float(), 10, 0, 1000) - 400).abs().max() < 120


def test_only_the_unet_and_the_ramp_get_gradients(model):
    cond, views = _views(2)
    output = model.training_pass(cond, views, _seeds(1, 2))
    (output.v_pred - output.v).square().mean().backward()
    with_gradient = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {"unet", "ramp"}
    assert model.ramp.grad.abs().max() > 0
    assert not output.v.requires_grad


@torch.no_grad()
def test_a_seed_gives_the_same_views_in_any_batch(built):
    cond, _ = _views(2)
    together = built.sample(cond, 3, 2.0, _seeds(11, 12))
    alone = built.sample(cond[1:], 3, 2.0, _seeds(12))
    torch.testing.assert_close(alone[0], together[1], rtol=1e-3, atol=1e-4)
    assert (built.sample(cond[1:], 3, 2.0, _seeds(13)) - alone).abs().max() > 1e-3
    assert together.shape == (2, 6, 3, 32, 32)
    assert together.min() >= 0
    assert together.max() <= 1


@torch.no_grad()
def test_without_guidance_half_the_rows_run_and_the_answer_is_that_of_hardly_any(built):
    cond, _ = _views(2)
    rows = []
    handle = built.unet.conv_in.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    none = built.sample(cond, 2, 1.0, _seeds(1, 2))
    hardly = built.sample(cond, 2, 1.0 + 1e-6, _seeds(1, 2))
    handle.remove()
    assert rows == [2] * 4 + [4] * 4
    torch.testing.assert_close(hardly, none, rtol=1e-3, atol=1e-4)
    assert (built.sample(cond, 2, 4.0, _seeds(1, 2)) - none).abs().max() > 1e-3


@torch.no_grad()
def test_prepared_pictures_give_the_same_views_and_progress_is_told(built):
    cond, _ = _views(1)
    told = []
    views = built.sample(cond, 2, 1.0, _seeds(1), progress=lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]
    prepared = built.prepare(cond)
    assert torch.equal(built.sample(prepared, 2, 1.0, _seeds(1)), views)
    changed = replace(prepared, vision=-prepared.vision)
    assert not torch.equal(built.sample(changed, 2, 1.0, _seeds(1)), views)


def test_guidance_below_one_is_refused(built):
    with pytest.raises(ValueError, match=r"guidance 0\.5: must be 1"):
        built.sample(_views(1)[0], 2, 0.5, _seeds(1))


@torch.no_grad()
def test_bfloat16_changes_the_prediction_by_its_rounding_only(built):
    cond, views = _views(2)
    exact = built.training_pass(cond, views, _seeds(1, 2))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = built.training_pass(cond, views, _seeds(1, 2))
    assert rounded.v_pred.dtype == rounded.v.dtype == torch.float32
    assert (rounded.v_pred - exact.v_pred).norm() < 0.05 * exact.v_pred.norm()


def test_a_model_without_vision_encoder_says_so(built):
    model = Zero123Plus(built.unet, built.vae, None, built.prompt_embeds, built.ramp.detach(), built.rig)
    with pytest.raises(ValueError, match="no vision encoder"):
        model.image_embeds(_views(1)[0])


@pytest.mark.parametrize(
    ("prompt", "ramp", "message"),
    [((1, 77, 32), 77, "prompt_embeds have width 32, the UNet's prompt has 64"), ((1, 77, 64), 70, "ramp has 70")],
)
def test_parts_that_do_not_fit_are_refused(built, prompt, ramp, message):
    with pytest.raises(ValueError, match=message):
        Zero123Plus(built.unet, built.vae, built.vision, torch.zeros(prompt), torch.zeros(ramp), built.rig)


def test_weights_and_measured_scaling_travel_in_the_state_and_copies_are_apart(model):
    cond, _ = _views(1)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.01)
    twin.set_latent_scaling(torch.arange(4.0).reshape(4, 1, 1), 3.0)
    expected = twin.sample(cond, 1, 1.0, _seeds(1))
    assert not torch.equal(model.sample(cond, 1, 1.0, _seeds(1)), expected)
    model.load_state_dict(twin.state_dict())
    assert torch.equal(model.sample(cond, 1, 1.0, _seeds(1)), expected)


@torch.no_grad()
def test_the_autoencoder_takes_a_large_batch_in_parts(built, monkeypatch):
    cond, views = _views(3)
    seeds = _seeds(1, 2, 3)
    latents, condition = built.encode_views(views, seeds), built.encode_condition(cond, seeds)
    decoded = built.decode_grid(latents)
    monkeypatch.setattr(zero123plus, "PIXELS_AT_ONCE", 2 * 96 * 64)
    sizes = []
    handle = built.vae.encoder.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    torch.testing.assert_close(built.encode_views(views, seeds), latents, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(built.encode_condition(cond, seeds), condition, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(built.decode_grid(latents), decoded, rtol=1e-4, atol=1e-5)
    handle.remove()
    assert sizes == [2, 1, 3]


def _parts(model, **changes):
    parts = FolderParts(
        kind="zero123plus",
        unet=model.unet,
        vae=model.vae,
        scheduler=TINY.scheduler,
        prompt_embeds=model.prompt_embeds,
        vision=model.vision,
        ramp=model.ramp.detach(),
        latent_shift=0.02,
        latent_scale=11.0,
        cond_px=32,
    )
    return replace(parts, **changes)


def test_a_written_folder_is_a_model_that_draws_the_same_views(built, tmp_path):
    read = Zero123Plus.from_pretrained(write_folder(tmp_path / "tiny", _parts(built)), view_px=32).eval()
    cond, _ = _views(1)
    assert torch.equal(read.sample(cond, 2, 2.0, _seeds(1)), built.sample(cond, 2, 2.0, _seeds(1)))


def test_a_folder_without_image_prompt_is_refused(built, tmp_path):
    scheduler = TINY.scheduler | {"_class_name": "DDIMScheduler"}
    parts = _parts(built, kind="stable-diffusion", vision=None, ramp=None, scheduler=scheduler)
    with pytest.raises(InputError, match="of kind stable-diffusion; novel views need zero123plus"):
        Zero123Plus.from_pretrained(write_folder(tmp_path / "sd", parts))


def test_two_samples_are_learned_by_heart(model):
    cond, views = _views(2)
    seeds = _seeds(1, 2)
    optimizer = torch.optim.AdamW([*model.unet.parameters(), model.ramp], lr=2e-3, betas=(0.9, 0.95))
    losses = []
    for _ in range(24):
        output = model.training_pass(cond, views, seeds)
        loss = (output.v_pred - output.v).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
