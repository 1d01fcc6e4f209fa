"""What is drawn for a clip, and what happens to its pixels."""

import kornia
import numpy as np
import pytest
import torch

from handvit.config.augmentation import (
    OPERATIONS,
    PIXEL_SETS,
    AugmentationConfig,
    ColorJitter,
    PixelConfig,
    RandomErasing,
)
from handvit.data.augmentation import draw_geometry
from handvit.data.pixel_augmentation import PixelAugmenter
from posecore.data.counter_random import uniforms
from posecore.errors import InputError

CERTAIN = {name: {"p": 1.0} for name in OPERATIONS}


def augmenter(**pixels) -> PixelAugmenter:
    return PixelAugmenter(AugmentationConfig(pixels=PixelConfig(**pixels)))


def only(name, **settings) -> PixelAugmenter:
    return augmenter(set="none", **{name: {"p": 1.0, **settings}})


def patches(b=6, t=2, size=32, seed=0):
    return torch.rand(b, t, 3, size, size, generator=torch.Generator().manual_seed(seed))


def seeds(b=6):
    return torch.arange(b) * 1_000_003 + 17


# Configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"depth_scale": [0.9, 1.1]},
            "augmentation.rigid_depth is [0.9, 1.1] and augmentation.depth_scale is [0.9, 1.1]: both change the depth; "
            "one of them must be [1, 1]",
        ),
        ({"box_scale": [1.2, 0.8]}, "augmentation.box_scale is [1.2, 0.8]; the smaller bound comes first"),
        ({"pixels": {"gaussian_blur": {"kernel_size": 4}}}, "gaussian_blur.kernel_size is 4; an odd number"),
        ({"pixels": {"motion_blur": {"kernel_size": 1}}}, "motion_blur.kernel_size is 1; a line needs at least 3"),
        ({"pixels": {"random_erasing": {"area": [0.3, 0.2]}}}, "random_erasing.area is [0.3, 0.2]; the smaller"),
        ({"pixels": {"set": "strong"}}, "pixels.set"),
    ],
)
def test_impossible_augmentation_is_told(changes, message):
    with pytest.raises(InputError) as error:
        AugmentationConfig.from_dict(changes)
    assert message in str(error.value)


def test_named_sets_hold_the_operations_that_they_are_named_for():
    operations = {name: set(PixelConfig(set=name).operations()) for name in PIXEL_SETS}
    assert operations == {
        "default": {"color_jitter", "gaussian_noise"},
        "none": set(),
        "color_jitter_only": {"color_jitter"},
        "with_gaussian_blur": {"color_jitter", "gaussian_noise", "gaussian_blur"},
        "aggressive": set(OPERATIONS),
    }
    assert list(PixelConfig(set="aggressive").operations()) == list(OPERATIONS)


def test_an_operation_given_by_itself_replaces_the_sets_own():
    config = PixelConfig.model_validate({"color_jitter": {"p": 0}, "equalize": {}, "gaussian_noise": {"std": 0.1}})
    operations = config.operations()
    assert list(operations) == ["equalize", "gaussian_noise"]
    assert operations["gaussian_noise"].std == 0.1
    assert operations["gaussian_noise"].p == 0.5


# Geometry


def test_the_same_state_gives_the_same_draw_and_the_next_another():
    config = AugmentationConfig(tilt_max_deg=30)
    rng = np.random.default_rng(3)
    first, second = draw_geometry(rng, config), draw_geometry(rng, config)
    again = draw_geometry(np.random.default_rng(3), config)
    assert repr(first) == repr(again) != repr(second)


def test_draws_fill_their_ranges_and_do_not_leave_them():
    config = AugmentationConfig(tilt_max_deg=30)
    rng = np.random.default_rng(0)
    draws = [draw_geometry(rng, config) for _ in range(800)]
    for values, low, high in (
        ([d.rotation_rad for d in draws], 0, 2 * np.pi),
        ([d.rigid_depth for d in draws], 0.9, 1.1),
        ([d.focal_scale for d in draws], 0.9, 1.1),
        ([np.linalg.norm(d.tilt) for d in draws], 0, np.pi / 6),
        ([d.box_shift[0] for d in draws], -0.05, 0.05),
        ([d.box_scale for d in draws], 0.8, 1.25),
    ):
        assert low <= min(values) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < max(values) <= high
    assert all(d.depth_scale == 1 and d.tilt[2] == 0 for d in draws)
    assert np.std([d.princpt_noise for d in draws]) == pytest.approx(1 / 9, rel=0.1)
    assert np.median([d.box_scale for d in draws]) == pytest.approx(1, abs=0.03)


def test_augmentation_that_is_off_draws_nothing_and_changes_no_pixel():
    config = AugmentationConfig(enabled=False, pixels=PixelConfig(set="aggressive"))
    assert draw_geometry(np.random.default_rng(0), config) is None
    assert torch.equal(PixelAugmenter(config).augment(patches(), seeds()), patches())


# Pixels


@pytest.mark.parametrize("name", [*OPERATIONS, "all"])
def test_a_clip_looks_the_same_in_any_batch_and_its_frames_alike(name):
    change = augmenter(set="none", **(CERTAIN if name == "all" else {name: {"p": 1.0}}))
    whole = change.augment(patches(), seeds())
    parts = torch.cat([change.augment(patches()[i : i + 1], seeds()[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(whole.numpy(), parts.numpy(), atol=1e-5)
    still = patches()[:, :1].expand(-1, 2, -1, -1, -1)
    moved = change.augment(still, seeds())
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert not torch.equal(whole, patches())
    if name != "equalize":
        assert not torch.equal(change.augment(patches(), seeds() + 1), whole)


def test_every_operation_reaches_its_share_of_clips():
    gray = torch.full((400, 1, 3, 4, 4), 0.5)
    changed = augmenter(set="none", gaussian_noise={"p": 0.3}).augment(gray, seeds(400)) != gray
    assert changed.flatten(1).any(1).float().mean() == pytest.approx(0.3, abs=0.07)


def test_no_set_leaves_values_outside_of_0_to_1_and_none_changes_nothing():
    assert torch.equal(augmenter(set="none").augment(patches(), seeds()), patches())
    for name in PIXEL_SETS:
        changed = augmenter(set=name).augment(patches(), seeds())
        assert changed.isfinite().all()
        assert changed.min() >= 0
        assert changed.max() <= 1


def test_color_jitter_is_kornias_with_our_numbers():
    """Draws of the first operation are numbers 1..4 of stream 0, shared by the frames of a clip."""
    jitter = ColorJitter(p=1.0, brightness=0.2, contrast=0.3, saturation=0.4, hue=0.1)
    ours = augmenter(set="none", color_jitter=jitter).augment(patches(), seeds())
    numbers = 2 * uniforms(seeds(), 0, 6)[:, 1:5] - 1
    theirs = kornia.augmentation.ColorJitter(0.2, 0.3, 0.4, 0.1, p=1.0, order=(0, 1, 2, 3))
    flat = patches().flatten(0, 1)
    factors = numbers.repeat_interleave(2, 0) * torch.tensor([0.2, 0.3, 0.4, 0.1]) + torch.tensor([1.0, 1, 1, 0])
    names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    params = theirs.forward_parameters(flat.shape) | dict(zip(names, factors.unbind(1), strict=True))
    expected = theirs(flat, params=params).reshape(ours.shape)
    np.testing.assert_allclose(ours.numpy(), expected.numpy(), atol=1e-5)


def test_noise_has_the_width_that_was_asked_for():
    gray = torch.full((20, 1, 3, 32, 32), 0.5)
    noise = only("gaussian_noise", std=0.05).augment(gray, seeds(20)) - gray
    assert noise.std().item() == pytest.approx(0.05, rel=0.02)
    assert abs(noise.mean().item()) < 1e-3


def test_blurs_keep_the_mean_and_lower_the_contrast():
    for name in ("gaussian_blur", "motion_blur"):
        blurred = only(name).augment(patches(), seeds())
        np.testing.assert_allclose(blurred.mean().item(), patches().mean().item(), atol=5e-3)
        assert (blurred.flatten(1).std(1) < patches().flatten(1).std(1)).all()


def test_an_erased_rectangle_has_an_area_of_the_range_and_is_black():
    white = torch.ones(200, 1, 3, 64, 64)
    erased = only("random_erasing", area=(0.05, 0.1)).augment(white, seeds(200)) == 0
    area = erased.float().mean((1, 2, 3, 4))
    assert RandomErasing().aspect == (0.3, 3.3)
    assert 0.04 < area.min() < 0.06
    assert 0.09 < area.max() < 0.11
    rows, columns = erased[:, 0, 0].any(2).sum(1), erased[:, 0, 0].any(1).sum(1)
    assert torch.equal(rows * columns, erased[:, 0, 0].sum((1, 2)))
    assert (rows > columns).any()
    assert (rows < columns).any()


def test_sharpness_goes_both_ways():
    """kornia's RandomSharpness(0.5) only blurs."""
    contrast = only("sharpness").augment(patches(40), seeds(40)).flatten(1).std(1) - patches(40).flatten(1).std(1)
    assert (contrast > 0).sum() > 10
    assert (contrast < 0).sum() > 10


@pytest.mark.gpu
def test_the_gpu_changes_pixels_as_the_cpu_does():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    change = augmenter(set="aggressive")
    theirs = change.augment(patches().cuda(), seeds().cuda()).cpu()
    np.testing.assert_allclose(theirs.numpy(), change.augment(patches(), seeds()).numpy(), atol=1e-4)
