"""Inputs of the encoders equal what PIL and a formula make of a picture."""

import json

import numpy as np
import pytest
from PIL import Image

from keypoint_nvs.model.preprocessing import (
    CLIP_MEAN,
    CLIP_STD,
    Preprocessor,
    clip_settings,
    on_grey,
    vae_settings,
)
from posecore.errors import InputError


def picture(side: int = 100, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def resized(image: Image.Image, side: int, resample: Image.Resampling) -> np.ndarray:
    """0..1, channel first."""
    return np.moveaxis(np.asarray(image.resize((side, side), resample)), -1, 0) * (1 / 255)


@pytest.mark.parametrize("side", [20, 48, 700])
def test_inputs_are_those_of_pil_to_the_rounding_of_float32(side):
    image = picture(side)
    found = Preprocessor.of_sizes(64, 32)([image], ["a.png"])
    vae = (resized(image, 64, Image.Resampling.BILINEAR) - 0.5) / 0.8
    mean, std = (np.array(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    clip = (resized(image, 32, Image.Resampling.BICUBIC) - mean) / std
    np.testing.assert_allclose(found.autoencoder[0], vae, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.vision[0], clip, rtol=0, atol=2e-6)


def test_default_sizes_are_those_of_zero123plus():
    found = Preprocessor.of_sizes()([picture(), picture(seed=1)], ["a.png", "b.png"])
    assert found.autoencoder.shape == (2, 3, 512, 512)
    assert found.vision.shape == (2, 3, 224, 224)


def test_the_settings_of_a_folder_are_used(tmp_path):
    for name, settings in (("feature_extractor_vae", vae_settings(40)), ("feature_extractor_clip", clip_settings(24))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "preprocessor_config.json").write_text(json.dumps(settings))
    found = Preprocessor.of_folder(tmp_path)([picture()], ["a.png"])
    wanted = Preprocessor.of_sizes(40, 24)([picture()], ["a.png"])
    np.testing.assert_array_equal(found.autoencoder, wanted.autoencoder)
    np.testing.assert_array_equal(found.vision, wanted.vision)


def test_a_folder_without_settings_says_which_file_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"feature_extractor_vae/preprocessor_config.json: missing"):
        Preprocessor.of_folder(tmp_path)


def test_a_picture_that_is_not_square_is_refused_with_its_size():
    with pytest.raises(InputError, match=r"long.png: 40 x 30 pixels; must be square"):
        Preprocessor.of_sizes(64, 32)([Image.new("RGB", (40, 30))], ["long.png"])


def test_transparency_lies_on_grey_with_the_rounding_of_the_released_pipeline(reference):
    arrays = reference("z123_scaling")
    rgba = arrays["rgba"]
    side = min(rgba.shape[:2])
    found = on_grey(Image.fromarray(rgba[:side, :side]), "a.png")
    np.testing.assert_array_equal(np.asarray(found), arrays["rgb_on_grey"][:side, :side])


def test_a_palette_with_a_transparent_colour_lies_on_grey_too():
    image = Image.new("P", (2, 2), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 1)
    image.info["transparency"] = 1
    found = np.asarray(on_grey(image, "a.gif"))
    assert found[0, 0].tolist() == [127, 127, 127]
    assert found[1, 1].tolist() == [255, 0, 0]
