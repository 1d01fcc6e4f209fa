"""What the networks are told about the input view, against the released pipeline."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from keypoint_nvs.model.conditioning import initial_ramp, prepare_condition, ramp_prompt


def _picture(height, width):
    """Smooth colours with an edge, 8 bits."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    channels = [0.5 + 0.4 * np.sin(5 * x + 3 * y), x, (x + y > 0.7) * 0.8]
    return np.round(np.stack(channels, -1) * 255).astype(np.uint8)


def test_the_ramp_adds_the_embedding_to_the_prompt_as_the_reference(reference):
    vectors = {name: torch.from_numpy(values) for name, values in reference("z123_ramp").items()}
    context = ramp_prompt(vectors["prompt_embeds"], vectors["image_embeds"], vectors["ramping_coefficients"])
    torch.testing.assert_close(context, vectors["encoder_hidden_states"], rtol=0, atol=1e-6)


def test_an_untrained_ramp_rises_from_zero():
    ramp = initial_ramp()
    assert len(ramp) == 77
    assert ramp[0] == 0
    torch.testing.assert_close(ramp.diff(), torch.full((76,), 1 / 77), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(96, 96), (40, 40), (64, 90), (91, 64)])
def test_both_inputs_are_the_released_processors_but_for_the_rounding_of_bytes(height, width):
    pixels = _picture(height, width)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    prepared = prepare_condition(image, 64, 48)
    clip = CLIPImageProcessorPil(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48}, resample=3)
    vae = CLIPImageProcessorPil(
        size={"shortest_edge": 64},
        crop_size={"height": 64, "width": 64},
        resample=2,
        image_mean=[0.5] * 3,
        image_std=[0.8] * 3,
    )
    for ours, processor in ((prepared.autoencoder, vae), (prepared.vision, clip)):
        theirs = processor(Image.fromarray(pixels), return_tensors="np")["pixel_values"]
        deviation = min(processor.image_std)
        assert np.abs(ours.numpy() - theirs).max() < 1.5 / 255 / deviation


def test_grey_is_zero_for_the_autoencoder_whatever_the_size():
    prepared = prepare_condition(torch.full((1, 3, 20, 20), 0.5), 32, 32)
    assert prepared.autoencoder.abs().max() < 1e-6
