"""Tokens in a whole model: what depends on what, and that they learn."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from keypoint_nvs.affine import warp
from keypoint_nvs.inference.ensemble import average_unwarped, ensemble_maps, keypoints_of_images
from keypoint_nvs.losses.sharpening import sharpening
from keypoint_nvs.model.architectures import architecture, build_unet, build_vae
from keypoint_nvs.model.keypoint_model import KeypointModel, WarpRange
from keypoint_nvs.model.latent_scaling import LatentScaling, scaling_of_views
from keypoint_nvs.model.schedule import alphas_cumprod
from keypoint_nvs.model.token_choice import ChoiceRule
from keypoint_nvs.model.zero123plus import Zero123Plus
from keypoint_nvs.peaks import argmax_peaks, centre_of_mass
from keypoint_nvs.rig import zero123plus_rig
from keypoint_nvs.selection import select_tokens_of_views
from posecore.errors import InputError

RULE = ChoiceRule(num_keypoints=3, candidates=6, sigma=1.5)


def tiny_model(shared: bool = False, **options) -> KeypointModel:
    torch.manual_seed(0)
    arch = architecture("tiny")
    scaling = LatentScaling.zero123plus(0.5, shift=0.1, scale=2.0)
    arguments = {"num_tokens": 16, "map_px": 16, "image_px": 32, "choice": RULE} | options
    return KeypointModel(
        build_unet(arch), build_vae(arch), scaling, alphas_cumprod("linear"), shared=shared, **arguments
    )


def pictures(*shape: int) -> Tensor:
    return torch.rand(*shape, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def test_tokens_learn_a_sharper_map_in_a_few_steps():
    model = tiny_model()
    views, seeds = pictures(2, 1), torch.tensor([5, 6])
    optimiser = torch.optim.Adam([model.tokens], lr=0.1)
    losses = []
    for _ in range(15):
        loss = sharpening(model.keypoint_pass(views, seeds, torch.arange(3)).maps, RULE.sigma)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_only_tokens_get_gradients_and_networks_of_ones_own_are_never_trained():
    model = tiny_model()
    model.train()
    model.keypoint_pass(pictures(1, 2), torch.tensor([1])).maps.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["tokens"]
    assert not model.unet.training
    with pytest.raises(InputError, match="never trained"):
        tiny_model(train_unet=True)


def test_shared_networks_are_not_saved_twice_and_train_only_if_asked_to():
    for train_unet in (False, True):
        model = tiny_model(shared=True, train_unet=train_unet)
        assert set(model.state_dict()) == {"tokens"}
        model.keypoint_pass(pictures(1, 2), torch.tensor([1])).maps.square().sum().backward()
        assert (model.unet.conv_in.weight.grad is not None) == train_unet
        assert model.vae.encoder.conv_in.weight.grad is None


def test_a_copy_has_networks_of_its_own():
    model = tiny_model()
    other = copy.deepcopy(model)
    assert other.capture.unet is other.unet is not model.unet


def test_an_object_has_the_same_maps_in_any_batch():
    model = tiny_model()
    views, seeds = pictures(3, 2), torch.tensor([11, 12, 13])
    whole, alone = model.keypoint_pass(views, seeds), model.keypoint_pass(views[1:2], seeds[1:2])
    assert torch.equal(whole.selected[1:2], alone.selected)
    assert torch.equal(whole.theta[1:2], alone.theta)
    torch.testing.assert_close(whole.maps[1:2], alone.maps, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(whole.warped_maps[1:2], alone.warped_maps, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("fps_on", ["transformed", "original"])
@pytest.mark.parametrize("ranking", ["kl", "entropy", "first"])
def test_tokens_are_those_chosen_from_the_maps_of_all_of_them(fps_on, ranking):
    model = tiny_model(choice=ChoiceRule(3, 6, 1.5, ranking, fps_on))
    views, seeds = pictures(2, 2), torch.tensor([4, 5])
    out = model.keypoint_pass(views, seeds)
    every = model.keypoint_pass(views, seeds, torch.arange(16))
    expected = select_tokens_of_views(
        every.maps.detach(),
        3,
        6,
        1.5,
        ranking,
        distance_maps=every.warped_maps.detach() if fps_on == "transformed" else None,
    )
    assert torch.equal(out.selected, expected)
    for b in range(2):
        torch.testing.assert_close(out.maps[b], every.maps[b][:, expected[b]])
        torch.testing.assert_close(out.warped_maps[b], every.warped_maps[b][:, expected[b]])


def test_warped_maps_are_those_of_the_warped_pictures():
    model = tiny_model(noise_t=0)
    model._spread = 0.0  # the noise of a picture and of its copy differ
    views, seeds = pictures(1, 2), torch.tensor([4])
    out = model.keypoint_pass(views, seeds, torch.arange(4))
    copies = warp(views[0], out.theta[0])
    torch.testing.assert_close(model.scores(copies, seeds.expand(2)).maps(torch.arange(4)), out.warped_maps[0])


def test_a_model_of_novel_views_gives_its_own_scaling_as_it_is_now():
    arch = architecture("tiny")
    torch.manual_seed(0)
    unet, vae = build_unet(arch), build_vae(arch)
    width = unet.config["cross_attention_dim"]
    views = Zero123Plus(unet, vae, None, torch.zeros(1, 77, width), torch.zeros(77), zero123plus_rig("v1.2"))
    scaling = partial(scaling_of_views, views)
    model = KeypointModel(
        unet, vae, scaling, alphas_cumprod("linear"), shared=True, num_tokens=8, map_px=8, image_px=32, choice=RULE
    )
    views.set_latent_scaling(0.5, 3.0)
    mean = vae.encode((pictures(1) - 0.5) / 0.8).latent_dist.mean * vae.config["scaling_factor"]
    torch.testing.assert_close(model.scaling.encode(vae, pictures(1)), (mean - 0.5) * 3.0)


def test_latents_are_scaled_as_the_unet_was_trained():
    model, picture = tiny_model(), pictures(2)
    mean = model.vae.encode((picture - 0.5) / 0.8).latent_dist.mean
    torch.testing.assert_close(model.scaling.encode(model.vae, picture), (mean * 0.5 - 0.1) * 2.0)
    usual = LatentScaling(0.18215).encode(model.vae, picture)
    torch.testing.assert_close(usual, model.vae.encode(2 * picture - 1).latent_dist.mean * 0.18215)


def test_averaged_maps_are_upstreams(reference):
    arrays = reference("sk_ensemble")
    maps, theta = (torch.from_numpy(arrays[name])[None] for name in ("attention_per_augmentation", "theta"))
    averaged = average_unwarped(maps, theta)
    np.testing.assert_allclose(averaged[0], arrays["ensembled"], atol=1e-5)
    np.testing.assert_array_equal(argmax_peaks(averaged)[0], arrays["keypoints_rc_unit"])
    np.testing.assert_allclose(centre_of_mass(averaged, 5.0)[0], arrays["keypoints_wavg_rc_unit"], atol=1e-5)


def test_without_motion_warped_copies_of_one_noise_give_the_pictures_own_maps():
    model = tiny_model(warps=WarpRange(0.0, (1.0, 1.0), 0.0))
    model._spread = 0.0
    seeds, tokens = torch.tensor([1, 2]), torch.tensor([3, 9])
    alone = ensemble_maps(model, pictures(2), tokens, 0, seeds, 24)
    torch.testing.assert_close(ensemble_maps(model, pictures(2), tokens, 3, seeds, 24), alone, rtol=1e-3, atol=1e-5)


def test_keypoints_are_pixels_of_the_given_picture_at_the_highest_place_of_the_map():
    model = tiny_model()
    images = torch.nn.functional.interpolate(pictures(2), (64, 64))
    found = keypoints_of_images(model, images, torch.tensor([3, 9]), 2, torch.tensor([1, 2]), map_px=32)
    x, y = ((found.xy_px + 0.5) / 2 - 0.5).round().long().unbind(-1)
    at = found.maps.flatten(2).gather(2, (y * 32 + x)[..., None])[..., 0]
    assert torch.equal(at, found.confidence)
    assert torch.equal(found.confidence, found.maps.flatten(2).amax(2))


def test_a_size_that_the_autoencoder_cannot_take_is_refused():
    with pytest.raises(InputError, match="image_px: 30 is not a multiple of 4"):
        tiny_model(image_px=30)
