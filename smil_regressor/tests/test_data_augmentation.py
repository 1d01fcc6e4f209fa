"""Augmentation on the device: geometry follows pictures, and draws belong to samples."""

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from posecore.data.counter_random import normals, uniforms
from smil_regressor.config import Augmentation
from smil_regressor.data.augmentation import Augmenter, blur, warp
from smil_regressor.data.sample import collate

EVERYTHING = Augmentation(
    enabled=True, geometric_enabled=True, gaussian_blur_prob=0.7, random_erasing_prob=0.7, crop_jitter_fraction=0.1
)
QUIET = Augmentation(enabled=True, color_jitter_brightness=0, color_jitter_contrast=0, color_jitter_saturation=0,
                     gaussian_noise_std=0, gaussian_blur_prob=0, random_erasing_prob=0)  # fmt: skip


@pytest.fixture
def batch(make_sample):
    return collate([make_sample(seed=seed, augment_seed=1000 + seed) for seed in range(4)])


def rows(batch, chosen):
    """The batch of the chosen samples."""
    return replace(batch, **{
        f.name: tuple(getattr(batch, f.name)[i] for i in chosen) if isinstance(getattr(batch, f.name), tuple)
        else getattr(batch, f.name)[chosen]
        for f in fields(batch)
    })  # fmt: skip


def projected(batch):
    R, t = batch.cam_from_world[..., :3, :3], batch.cam_from_world[..., :3, 3]
    points = torch.einsum("bvij,bnj->bvni", R, batch.keypoints_world) + t[:, :, None]
    pixels = torch.einsum("bvij,bvnj->bvni", batch.K, points)
    return pixels[..., :2] / pixels[..., 2:]


@settings(max_examples=20)
@given(zoom=st.floats(0.5, 2), dx=st.floats(-0.4, 0.4), dy=st.floats(-0.4, 0.4))
def test_projecting_after_augmentation_is_augmenting_the_projection(make_sample, zoom, dx, dy):
    batch = collate([make_sample(seed=3)])
    moved = warp(replace(batch, images=batch.images.float() / 255), torch.tensor([zoom]),
                 torch.tensor([dx, dy]).expand(1, 3, 2))  # fmt: skip
    torch.testing.assert_close(projected(moved), moved.keypoints_px, rtol=1e-4, atol=2e-3)


def test_a_drawn_dot_and_its_mask_move_with_its_keypoint(make_sample):
    place, side = np.array([20.0, 26.0]), 48
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    squared = (x - place[0]) ** 2 + (y - place[1]) ** 2
    image = np.repeat((250 * np.exp(-squared / 18))[..., None], 3, -1).astype(np.uint8)
    sample = make_sample(views=1, resolution=side, images=image[None], masks=(squared < 49)[None],
                         keypoints_px=np.tile(place, (1, 5, 1)).astype(np.float32))  # fmt: skip
    batch = collate([sample])
    moved = warp(replace(batch, images=batch.images.float() / 255), torch.tensor([1.2]), torch.tensor([[[0.1, -0.07]]]))
    grey = moved.images[0, 0].mean(-1).numpy()
    mask = moved.masks[0, 0].numpy().astype(float)
    for weight, tolerance in ((np.where(grey > 0.05, grey, 0), 0.05), (mask, 0.3)):  # a mask has whole pixels
        centre = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()
        np.testing.assert_allclose(moved.keypoints_px[0, 0, 0].numpy(), centre, atol=tolerance)
    np.testing.assert_allclose(grey.max(), 250 / 255, atol=0.02)


def test_zoom_one_without_shift_changes_nothing(batch):
    as_float = replace(batch, images=batch.images.float() / 255)
    same = warp(as_float, torch.ones(4), torch.zeros(4, 3, 2))
    torch.testing.assert_close(same.images, as_float.images, rtol=0, atol=1e-5)
    torch.testing.assert_close(same.K, batch.K)
    assert torch.equal(same.masks, batch.masks)


def test_joints_that_leave_the_picture_are_hidden(batch):
    moved = warp(replace(batch, images=batch.images.float() / 255), torch.full((4,), 4.0), torch.zeros(4, 3, 2))
    inside = ((moved.keypoints_px >= -0.5) & (moved.keypoints_px < 31.5)).all(-1)
    assert not inside.all()
    torch.testing.assert_close(moved.visibility, inside.float())


def test_uncalibrated_views_keep_their_placeholder_intrinsics(make_sample):
    sample = make_sample(has_camera=np.array([True, False, True]), K=np.tile(np.eye(3, dtype=np.float32), (3, 1, 1)))
    moved = Augmenter(EVERYTHING)(collate([replace(sample, augment_seed=5)]))
    torch.testing.assert_close(moved.K[0, 1], torch.eye(3))


def test_a_sample_is_augmented_alike_in_any_batch(batch):
    augment = Augmenter(EVERYTHING)
    whole, part = augment(batch), augment(rows(batch, [2, 0]))
    for field in fields(whole):
        left, right = getattr(rows(whole, [2, 0]), field.name), getattr(part, field.name)
        if isinstance(left, torch.Tensor):
            torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


def test_another_seed_augments_differently(batch):
    first = Augmenter(EVERYTHING)(batch)
    second = Augmenter(EVERYTHING)(replace(batch, augment_seed=batch.augment_seed + 1))
    assert (first.images - second.images).abs().mean() > 0.01
    assert not torch.allclose(first.K, second.K)


def test_pictures_stay_in_range_and_absent_views_stay_black(make_sample):
    sample = make_sample(view_mask=np.array([True, True, False]), augment_seed=7)
    images = Augmenter(EVERYTHING)(collate([sample])).images
    assert images.min() >= 0
    assert images.max() <= 1
    assert not images[0, 2].any()


def test_when_disabled_only_the_type_changes(batch):
    done = Augmenter(Augmentation(enabled=False))(batch)
    torch.testing.assert_close(done.images, batch.images.float() / 255)
    assert torch.equal(done.K, batch.K)


def test_photometric_changes_leave_geometry_alone(batch):
    done = Augmenter(EVERYTHING.model_copy(update={"geometric_enabled": False}))(batch)
    assert torch.equal(done.K, batch.K)
    assert torch.equal(done.keypoints_px, batch.keypoints_px)
    assert torch.equal(done.visibility, batch.visibility)


def test_views_of_a_sample_share_their_colours(make_sample):
    images = np.full((3, 32, 32, 3), (120, 90, 60), np.uint8)
    wanted = EVERYTHING.model_copy(update={"geometric_enabled": False, "gaussian_noise_std": 0.0})
    done = Augmenter(wanted)(collate([make_sample(images=images, augment_seed=s) for s in (3, 4)]))
    torch.testing.assert_close(done.images[:, :1].expand(-1, 3, -1, -1, -1), done.images)
    assert not torch.allclose(done.images[0], done.images[1])


def test_noise_differs_between_views(batch):
    wanted = QUIET.model_copy(update={"gaussian_noise_std": 0.02})
    grey = replace(batch, images=torch.full_like(batch.images, 128))
    noise = Augmenter(wanted)(grey).images - 128 / 255
    assert not torch.allclose(noise[0, 0], noise[0, 1])
    assert noise.std().item() == pytest.approx(0.02, rel=0.02)


def test_brightness_contrast_and_saturation_are_bounded_by_their_settings(make_sample):
    batch = collate([make_sample(seed=0, augment_seed=s) for s in range(64)])
    grey = replace(batch, images=torch.full_like(batch.images, 128))
    bright = Augmenter(QUIET.model_copy(update={"color_jitter_brightness": 0.2}))(grey).images.mean((1, 2, 3, 4))
    offsets = bright - 128 / 255
    assert offsets.abs().max() <= 0.2 + 1e-6
    assert offsets.max() > 0.15
    assert offsets.min() < -0.15
    spread = batch.images[:, 0].float().std((1, 2, 3)) / 255
    contrast = Augmenter(QUIET.model_copy(update={"color_jitter_contrast": 0.1}))(batch).images[:, 0].std((1, 2, 3))
    ratio = (contrast / spread).numpy()
    assert ratio.min() > 0.89
    assert ratio.max() < 1.11


def test_the_erased_rectangle_covers_the_wanted_share_in_all_views_alike(make_sample):
    wanted = QUIET.model_copy(update={"random_erasing_prob": 1.0, "random_erasing_scale_range": (0.1, 0.1)})
    batch = collate([make_sample(seed=0, resolution=64, augment_seed=s) for s in range(16)])
    changed = (Augmenter(wanted)(batch).images - batch.images.float() / 255).abs().amax(-1) > 1e-3
    shares = changed[:, 0].float().mean((1, 2))
    assert shares.median().item() == pytest.approx(0.1, abs=0.015)
    overlap = (changed[:, 0] & changed[:, 1]).sum() / changed[:, 0].sum()
    assert overlap > 0.9, "only pixels of the mean colour itself can differ"


def test_blur_agrees_with_opencv():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 1, (20, 24, 3)).astype(np.float32)
    kernel = torch.from_numpy(cv2.getGaussianKernel(5, 0).T.astype(np.float32))
    found = blur(torch.from_numpy(image)[None, None], kernel)[0, 0].numpy()
    expected = cv2.GaussianBlur(image, (5, 5), 0, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_blurred_samples_have_kernels_of_the_wanted_sizes(make_sample):
    wanted = QUIET.model_copy(update={"gaussian_blur_prob": 1.0, "gaussian_blur_kernel_range": (3, 5)})
    dot = np.zeros((3, 32, 32, 3), np.uint8)
    dot[:, 16, 16] = 255
    batch = collate([make_sample(seed=0, images=dot, augment_seed=s) for s in range(16)])
    widths = {int((row > 1e-4).sum()) for row in Augmenter(wanted)(batch).images[:, 0, 16, :, 0]}
    assert widths == {3, 5}


def test_counter_based_numbers_are_uniform_normal_and_independent():
    seeds = torch.arange(200, dtype=torch.int64)
    flat = uniforms(seeds, 0, 500)
    assert kstest(flat.flatten().numpy(), "uniform").pvalue > 1e-3
    assert kstest(normals(seeds, 1, 501).flatten().numpy(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(flat[:-1].flatten(), flat[1:].flatten())[0, 1]) < 0.01
    assert abs(np.corrcoef(uniforms(seeds, 1, 500).flatten(), flat.flatten())[0, 1]) < 0.01


def test_counter_based_numbers_never_change():
    """Resuming a run of an earlier version must augment as it did."""
    torch.testing.assert_close(uniforms(torch.tensor([12345]), 2, 3), GOLDEN, rtol=0, atol=0)


GOLDEN = torch.tensor([[4818505, 6607816, 12753718]]) * 2.0**-24


def test_a_batch_without_seeds_is_refused(batch):
    with pytest.raises(ValueError, match="no augment_seed"):
        Augmenter(EVERYTHING)(replace(batch, augment_seed=None))
