"""Sizes of the networks, against the released files' counts."""

import pytest
import torch

from keypoint_nvs.model.architectures import (
    architecture,
    build_text,
    build_unet,
    build_vae,
    build_vision,
)
from posecore.errors import InputError

RELEASED = {  # keys and parameters of the public files
    "sd15": (686, 859_520_964, 248, 83_653_863, 123_060_480, None),
    "sd21": (686, 865_910_724, 248, 83_653_863, 340_387_840, None),
    "zero123plus": (686, 865_910_724, 248, 83_653_863, 340_387_840, 632_076_800),
}


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", RELEASED)
def test_keys_and_parameters_are_those_of_the_released_files(name):
    arch = architecture(name)
    with torch.device("meta"):
        unet, vae, text, vision = build_unet(arch), build_vae(arch), build_text(arch), build_vision(arch)
    counts = (len(unet.state_dict()), count(unet), len(vae.state_dict()), count(vae), count(text))
    assert (*counts, None if vision is None else count(vision)) == RELEASED[name]


def test_the_tiny_networks_are_as_small_as_promised():
    arch = architecture("tiny")
    with torch.device("meta"):
        unet, vae = build_unet(arch), build_vae(arch)
    assert round(count(unet) / 1e6, 2) == 1.49
    assert round(count(vae) / 1e6, 1) == 0.3


def test_the_tiny_autoencoder_makes_latents_of_a_quarter():
    arch = architecture("tiny")
    latents = build_vae(arch).encode(torch.zeros(1, 3, 32, 32)).latent_dist.mean
    assert latents.shape == (1, 4, 8, 8)


def test_the_empty_prompt_is_padded_with_the_end_in_sd1_and_with_zero_elsewhere():
    assert architecture("sd15").empty_prompt == (49406, 49407, *[49407] * 75)
    assert architecture("sd21").empty_prompt == (49406, 49407, *[0] * 75)
    assert architecture("zero123plus").empty_prompt == architecture("sd21").empty_prompt
    assert architecture("tiny").empty_prompt == (62, 63, *[0] * 75)


def test_an_unknown_architecture_lists_those_that_exist():
    with pytest.raises(InputError, match=r"'sdxl': no such architecture; there are tiny, sd15, sd21, zero123plus"):
        architecture("sdxl")
