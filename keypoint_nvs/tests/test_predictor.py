"""The Predictor: arrays in, typed results out, the same whatever is asked together."""

import dataclasses

import numpy as np
import pytest
import torch

from keypoint_nvs.data.store import MultiviewStore
from keypoint_nvs.predictor import Predictor
from keypoint_nvs.rig import rig_of
from posecore.errors import InputError


@pytest.fixture(scope="module")
def pictures(stores) -> list[np.ndarray]:
    store = MultiviewStore(stores / "val.h5")
    return [store.read(index).cond_imgs for index in range(3)]


@pytest.fixture(scope="module")
def predictor(trained) -> Predictor:
    return Predictor.load(trained("joint"), "cpu")


def test_keypoints_do_not_depend_on_what_is_asked_together(predictor, pictures):
    together = predictor.keypoints(pictures)
    for picture, found in zip(pictures, together, strict=True):
        (alone,) = predictor.keypoints([picture])
        np.testing.assert_allclose(alone.maps, found.maps, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(alone.confidence, found.confidence, rtol=1e-4)


def test_keypoints_are_pixels_of_the_picture_with_the_maps_peaks(predictor, pictures):
    (found,) = predictor.keypoints(pictures[:1])
    assert found.xy_px.shape == (4, 2)
    assert found.maps.shape == (4, 32, 32)
    rows, cols = np.unravel_index(found.maps.reshape(4, -1).argmax(1), (32, 32))
    np.testing.assert_allclose(found.xy_px, np.stack([cols, rows], 1), atol=1e-4)
    np.testing.assert_allclose(found.confidence, found.maps.max((1, 2)))


def test_a_picture_at_twice_the_size_has_its_keypoints_at_twice_the_pixels(predictor, pictures):
    """Of a picture without detail, so that enlarging it loses nothing: centres lie at integers."""
    plain = np.full((4, 32, 32), 255, np.uint8)
    plain[:3, :16, :16] = 40
    large = plain.repeat(2, 1).repeat(2, 2)
    small, big = predictor.keypoints([plain])[0], predictor.keypoints([large])[0]
    np.testing.assert_allclose(big.maps, small.maps, atol=2e-3)
    same = np.abs((big.xy_px + 0.5) / 2 - 0.5 - small.xy_px).max(1) < 1e-3
    assert same.mean() >= 0.75, "argmax may change where two pixels are nearly equal"


def test_transparent_pixels_show_the_configured_background(predictor, pictures):
    hidden = pictures[0].copy()
    hidden[:3, hidden[3] == 0] = 200
    assert not np.array_equal(hidden, pictures[0])
    first, other = predictor.keypoints([pictures[0]])[0], predictor.keypoints([hidden])[0]
    assert np.array_equal(first.maps, other.maps)
    assert np.array_equal(predictor.novel_views([pictures[0]]), predictor.novel_views([hidden]))


def test_an_object_has_views_keypoints_in_them_and_points_in_space(predictor, pictures):
    (found,) = predictor.objects(pictures[:1])
    assert found.views.shape == (6, 32, 32, 3)
    assert found.views.dtype == np.uint8
    assert len(found.view_keypoints) == 6
    assert found.rig == rig_of("zero123plus-v1.2")
    assert found.points_world.shape == (4, 3)
    cameras, K = found.rig.cam_from_world(), found.rig.K(32)
    for view, keypoints in enumerate(found.view_keypoints):
        cam = found.points_world @ cameras[view, :3, :3].T + cameras[view, :3, 3]
        px = cam @ K.T
        errors = np.linalg.norm(px[:, :2] / px[:, 2:] - keypoints.xy_px, axis=1)
        np.testing.assert_allclose(errors, found.reprojection_px[view], rtol=1e-3, atol=1e-3)


def test_seeds_steps_and_guidance_change_views_and_the_same_ones_repeat_them(trained, pictures):
    def views(**changes):
        return Predictor.load(trained("joint"), "cpu", changes).novel_views(pictures[:1])

    first = views()
    assert first.shape == (1, 6, 3, 32, 32)
    assert torch.equal(first, views(seed=0, guidance=None))
    for changes in ({"seed": 1}, {"sampling_steps": 3}, {"guidance": 1.0}):
        assert not torch.equal(first, views(**changes)), changes


def test_values_that_cannot_be_are_told(trained):
    with pytest.raises(InputError, match="inference: guidance: input should be greater than or equal to 1"):
        Predictor.load(trained("joint"), "cpu", {"guidance": 0.0})


def test_pictures_must_be_square_and_of_one_size(predictor):
    square, oblong = np.zeros((4, 8, 8), np.uint8), np.zeros((4, 8, 16), np.uint8)
    for wrong in ([oblong], [square, np.zeros((4, 16, 16), np.uint8)]):
        with pytest.raises(InputError, match="must be square and of one size"):
            predictor.keypoints(wrong)


def test_runs_of_other_stages_say_what_they_lack(trained, pictures):
    views_only = Predictor.load(trained("nvs"), "cpu")
    assert views_only.has_views
    assert not views_only.has_keypoints
    with pytest.raises(InputError, match="learnt no keypoints"):
        views_only.keypoints(pictures[:1])
    autoencoder = Predictor.load(trained("autoencoder"), "cpu")
    assert not autoencoder.has_views
    with pytest.raises(InputError, match="cannot make novel views"):
        autoencoder.novel_views(pictures[:1])


def test_tokens_without_a_vote_are_told(predictor):
    config = predictor.loaded.config
    keypoints = config.keypoints.model_copy(update={"num_keypoints": 17})
    more = dataclasses.replace(predictor.loaded, config=config.model_copy(update={"keypoints": keypoints}))
    with pytest.raises(InputError, match=r"17 tokens are to be kept, but only .* train it first"):
        _ = Predictor(more, predictor.inference).tokens
