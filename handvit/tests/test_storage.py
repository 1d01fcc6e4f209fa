"""Square crops in place of whole frames."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from handvit.data import geometry
from handvit.data.patches import fill_patches
from handvit.data.preprocess import PatchSettings, prepare_clip, unlabelled_clip
from handvit.data.records import ClipRecord
from handvit.data.sample import collate
from handvit.data.storage import CropStorage, crop_record
from posecore.data.images import decode_image, encode_png
from posecore.errors import InputError


def record(handedness="right", t=2) -> ClipRecord:
    rng = np.random.default_rng(0)
    joints = np.array([40.0, -30.0, 600.0]) + rng.normal(size=(t, 21, 3)) * 25
    focal, princpt = np.array([[400.0, 420.0]] * t), np.array([[150.0, 130.0]] * t)
    pixels = geometry.project(joints, focal, princpt)
    frames = [
        encode_png(cv2.GaussianBlur(rng.integers(0, 256, (240, 320, 3)).astype(np.uint8), (0, 0), 4)) for _ in range(t)
    ]
    return replace(
        unlabelled_clip("a", geometry.box_around(pixels), handedness, focal, princpt, np.zeros(t)),
        frames=frames,
        joint_img=pixels,
        joint_cam_mm=joints,
        joint_2d_valid=np.ones((t, 21)),
        joint_3d_valid=np.ones((t, 21)),
    )


@pytest.mark.parametrize("frame_format", ["jpg", "png", "webp"])
def test_a_stored_crop_is_square_of_its_size_and_its_camera_sees_the_joints_where_they_are(frame_format):
    stored = crop_record(record(), CropStorage(128, 3.0, frame_format, quality=100))
    assert stored.frame_format == frame_format
    assert [decode_image(frame).shape for frame in stored.frames] == [(128, 128, 3)] * 2
    projected = geometry.project(stored.joint_cam_mm, stored.focal, stored.princpt)
    np.testing.assert_allclose(stored.joint_img, projected, atol=1e-3)
    np.testing.assert_allclose(stored.hand_bbox, geometry.box_around(stored.joint_img), atol=1e-3)
    side = (stored.hand_bbox[:, 2:] - stored.hand_bbox[:, :2]).max(-1)
    np.testing.assert_allclose(side, 128 / 3, rtol=1e-5)
    moved = geometry.apply_homography(np.array(stored.meta["crop"]["stored_from_original"]), record().joint_img)
    np.testing.assert_allclose(stored.joint_img, moved, atol=1e-3)
    assert stored.meta["crop"]["original_size_wh"] == [[320, 240], [320, 240]]


@pytest.mark.parametrize("handedness", ["left", "right"])
def test_a_sample_from_a_crop_is_the_sample_from_the_whole_picture(handedness):
    original = record(handedness)
    stored = crop_record(original, CropStorage(256, 3.0, "png"))
    settings = PatchSettings(64, 2.0)
    whole, cropped = prepare_clip(original, None, settings), prepare_clip(stored, None, settings)
    np.testing.assert_allclose(cropped.joint_patch, whole.joint_patch, atol=1e-3)
    np.testing.assert_allclose(cropped.joint_cam_mm, whole.joint_cam_mm, atol=1e-3)
    patches = [fill_patches(collate([sample]), 64).patches.numpy() for sample in (whole, cropped)]
    assert np.abs(patches[0] - patches[1]).mean() < 0.01


def test_cropping_twice_keeps_the_map_from_the_first_picture():
    once = crop_record(record(), CropStorage(256, 3.0, "png"))
    twice = crop_record(once, CropStorage(128, 2.0, "png"))
    direct = crop_record(record(), CropStorage(128, 2.0, "png"))
    maps = [np.array(stored.meta["crop"]["stored_from_original"]) for stored in (twice, direct)]
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-3)
    assert twice.meta["crop"]["original_size_wh"] == [[320, 240], [320, 240]]


def test_impossible_storage_is_told():
    with pytest.raises(InputError) as error:
        CropStorage(4, 0.5, quality=0)
    assert str(error.value).splitlines() == [
        "crop is 4; the stored side lies between 8 and 4096 px",
        "margin is 0.5; it lies between 1 (the box alone) and 100 box sides",
        "quality is 0; it lies between 1 and 100",
    ]
