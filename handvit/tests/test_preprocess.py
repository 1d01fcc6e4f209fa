"""From a record to the network's view: the reference's runs, projection and flip laws, pictures with dots, errors."""

import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handvit.data import geometry
from handvit.data.augmentation import GeometricDraw
from handvit.data.patches import fill_patches
from handvit.data.preprocess import PatchSettings, prepare_clip, unlabelled_clip
from handvit.data.records import ClipRecord
from handvit.data.region import cut_regions, open_pictures
from handvit.data.sample import Sample, collate
from posecore.data.images import encode_jpeg, encode_png
from posecore.errors import InputError

WIDTH, HEIGHT = 320, 240
EXACT = {"rtol": 0, "atol": 1e-6}


def hand_record(seed=0, t=2, handedness="right", **changes) -> ClipRecord:
    """A cloud of 21 points in front of the camera, with all its labels, in a 320 x 240 picture."""
    rng = np.random.default_rng(seed)
    root = np.array([40.0, -30.0, 600.0]) + rng.normal(size=(t, 1, 3)) * [20, 20, 60]
    joints = root + rng.normal(size=(t, 21, 3)) * 30
    joints[:, 0] = root[:, 0]
    focal, princpt = np.array([[400.0, 420.0]] * t), np.array([[150.0, 130.0]] * t)
    pixels = geometry.project(joints, focal, princpt)
    record = unlabelled_clip(
        "shard.tar: clip[0]", geometry.box_around(pixels), "right", focal, princpt, np.arange(t) * 33.0
    )
    return replace(
        record,
        handedness=handedness,
        joint_img=pixels,
        joint_cam_mm=joints,
        joint_2d_valid=np.ones((t, 21)),
        joint_3d_valid=np.ones((t, 21)),
        has_mano=np.ones(t),
        mano_pose=rng.normal(size=(t, 48)),
        mano_shape=rng.normal(size=(t, 10)),
        **changes,
    )


def black(t=2):
    return [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * t


def textured(t=2, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (t, HEIGHT, WIDTH, 3)).astype(np.uint8)
    return [cv2.GaussianBlur(frame, (0, 0), 2) for frame in noise]


def patches_of(sample: Sample, size: int) -> np.ndarray:
    return fill_patches(collate([sample]), size).patches[0].numpy()


rigid_draws = st.builds(
    lambda roll, tilt, direction, focal, noise, shift, scale, box: GeometricDraw(
        rotation_rad=roll,
        tilt=tilt * np.array([np.cos(direction), np.sin(direction), 0.0]),
        focal_scale=focal,
        princpt_noise=np.array(noise),
        box=box,
        box_shift=np.array(shift),
        box_scale=scale,
    ),
    st.floats(0, 6.28),
    st.floats(0, 0.5),
    st.floats(0, 6.28),
    st.floats(0.8, 1.2),
    st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)),
    st.tuples(st.floats(-0.05, 0.05), st.floats(-0.05, 0.05)),
    st.floats(0.8, 1.25),
    st.sampled_from(["joints", "corners"]),
)
settings = st.builds(PatchSettings, patch_size=st.just(64), expansion=st.floats(1.2, 3.0), turn_camera=st.booleans())


# The reference's runs


def reference_record(arrays, b) -> ClipRecord:
    t = arrays["in_focal"].shape[1]
    record = unlabelled_clip(
        f"reference {b}",
        arrays["in_hand_bbox"][b],
        "left" if arrays["handedness_left"][b] else "right",
        arrays["in_focal"][b],
        arrays["in_princpt"][b],
        np.zeros(t),
    )
    return replace(
        record,
        joint_img=arrays["in_joint_img"][b],
        joint_cam_mm=arrays["in_joint_cam"][b],
        joint_2d_valid=arrays["in_joint_2d_valid"][b],
        joint_3d_valid=np.ones((t, 21)),
        mano_pose=arrays["in_mano_pose"][b],
    )


def reference_draw(arrays, b, run) -> GeometricDraw:
    """As the reference's README writes them; `persp` changes nothing but takes the box of the joints."""
    if run == "persp":
        return GeometricDraw(box="joints")
    direction, tilt = float(arrays["draw_persp_dir"][b, 0]), float(arrays["draw_persp_rot"][b, 0])
    is_tilted = run == "aug"
    return GeometricDraw(
        rotation_rad=float(arrays["draw_rad"][b, 0]),
        tilt=tilt * is_tilted * np.array([np.cos(direction), np.sin(direction), 0.0]),
        depth_scale=float(arrays["draw_scale_z"][b, 0]),
        focal_scale=float(arrays["draw_scale_f"][b, 0]),
        princpt_noise=arrays["draw_princpt_noise"][b, 0] * 0.1111111,
        box="joints",
    )


@pytest.mark.parametrize("run", ["persp", "aug", "aug_persp"])
def test_patches_and_labels_are_those_of_the_references_run(reference, run):
    arrays = reference("preprocess")  # tests/data holds the right hands' first frames
    size = int(arrays["patch"])
    settings = PatchSettings(size, float(arrays["expansion"]), "persp" in run, half_pixel=False, antialias=False)
    for b in np.flatnonzero(arrays["handedness_left"] == 0):
        pictures = list(np.ascontiguousarray(arrays["images"][b].transpose(0, 2, 3, 1)))
        sample = prepare_clip(reference_record(arrays, b), pictures, settings, reference_draw(arrays, b, run))

        def expected(name, b=b):
            return arrays[f"{run}_{name}"][b]

        seen = arrays["in_joint_2d_valid"][b] > 0
        np.testing.assert_allclose(patches_of(sample, size), expected("patches"), atol=5e-5)
        for name in ("patch_bbox", "hand_bbox", "focal", "princpt"):  # kornia's axis-angle is 1e-6 off
            np.testing.assert_allclose(getattr(sample, name), expected(name), atol=5e-4)
        np.testing.assert_allclose(sample.joint_img[seen], expected("joint_img")[seen], atol=5e-4)
        np.testing.assert_allclose(sample.joint_patch[seen], expected("joint_patch_resized")[seen], atol=1e-4)
        np.testing.assert_allclose(sample.joint_cam_mm, expected("joint_cam"), atol=2e-3)
        np.testing.assert_allclose(sample.mano_pose, expected("mano_pose"), atol=5e-6)


def test_a_left_hand_differs_from_the_reference_by_its_flips_one_pixel(reference):
    arrays = reference("preprocess")
    if not arrays["handedness_left"].any():
        pytest.skip("the left hand is in the shared reference folder only (set POSE_SHARED)")
    record = reference_record(arrays, 1)
    pictures = list(np.ascontiguousarray(arrays["images"][1].transpose(0, 2, 3, 1)))
    sample = prepare_clip(record, pictures, PatchSettings(32, 1.5, half_pixel=False))
    seen = record.joint_2d_valid > 0
    shift = arrays["plain_joint_img"][1][seen] - sample.joint_img[seen]
    np.testing.assert_allclose(shift, np.broadcast_to([1.0, 0.0], shift.shape), atol=1e-4)
    np.testing.assert_allclose(sample.joint_cam_mm, arrays["plain_joint_cam"][1], atol=1e-4)
    np.testing.assert_allclose(sample.mano_pose, arrays["plain_mano_pose"][1], atol=1e-6)


# Laws


@given(rigid_draws, settings, st.sampled_from(["left", "right"]))
def test_labels_pixels_and_camera_agree_after_any_draw(draw, settings, handedness):
    record = hand_record(handedness=handedness)
    sample = prepare_clip(record, black(), settings, draw)
    projected = geometry.project(sample.joint_cam_mm, sample.focal, sample.princpt)
    np.testing.assert_allclose(sample.joint_img, projected, rtol=0, atol=1e-4)
    crop = geometry.crop_matrix(sample.patch_bbox, settings.patch_size)
    np.testing.assert_allclose(sample.joint_patch, geometry.apply_homography(crop, sample.joint_img), **EXACT)
    stored = sample.joint_cam_mm @ sample.camera_from_network.swapaxes(-1, -2)
    np.testing.assert_allclose(stored, record.joint_cam_mm, **EXACT)
    for name in ("joint_2d_valid", "joint_3d_valid", "has_mano", "has_intr", "mano_shape", "timestamp_ms"):
        np.testing.assert_array_equal(getattr(sample, name), getattr(record, name))


@given(rigid_draws, settings)
def test_the_roots_rotation_turns_with_the_joints(draw, settings):
    """Directions of the hand's own frame, seen by the camera, go where the points go."""
    record = hand_record(handedness="right")
    sample = prepare_clip(record, black(), settings, draw)
    old = geometry.axis_angle_matrix(record.mano_pose[:, :3])
    new = geometry.axis_angle_matrix(sample.mano_pose[:, :3])
    np.testing.assert_allclose(sample.camera_from_network @ new, old, atol=1e-9)
    np.testing.assert_array_equal(sample.mano_pose[:, 3:], record.mano_pose[:, 3:])


@given(rigid_draws, settings)
def test_a_mirrored_picture_with_a_mirrored_camera_gives_the_same_sample(draw, settings):
    right = hand_record(handedness="right")
    width = np.full(2, float(WIDTH))
    left = replace(
        right,
        handedness="left",
        hand_bbox=geometry.mirror_boxes(right.hand_bbox, width),
        princpt=geometry.mirror_pixels(right.princpt, width),
        joint_img=geometry.mirror_pixels(right.joint_img, width[:, None]),
        joint_cam_mm=geometry.mirror_points(right.joint_cam_mm),
        mano_pose=geometry.mirror_axis_angles(right.mano_pose),
    )
    pictures = textured()
    ours = prepare_clip(right, pictures, settings, draw)
    theirs = prepare_clip(left, [picture[:, ::-1] for picture in pictures], settings, draw)
    assert theirs.is_left
    assert not ours.is_left
    for name in ("patch_bbox", "hand_bbox", "focal", "princpt", "joint_img", "joint_patch", "joint_cam_mm"):
        np.testing.assert_allclose(getattr(theirs, name), getattr(ours, name), **EXACT)
    np.testing.assert_allclose(
        geometry.axis_angle_matrix(theirs.mano_pose[:, :3]), geometry.axis_angle_matrix(ours.mano_pose[:, :3]), **EXACT
    )
    np.testing.assert_allclose(patches_of(theirs, 64), patches_of(ours, 64), atol=2e-4)


@pytest.mark.parametrize("handedness", ["left", "right"])
@pytest.mark.parametrize("turn_camera", [False, True])
@pytest.mark.parametrize("patch_size", [24, 96])
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_dots_drawn_at_the_joints_lie_in_the_patch_at_joint_patch(handedness, turn_camera, patch_size, tilt):
    """The small patch shrinks by more than 2, so its region is averaged; the large one does not."""
    record = hand_record(t=1, handedness=handedness)
    draw = GeometricDraw(
        rotation_rad=2.1,
        tilt=np.array([tilt, -tilt / 2, 0.0]),
        focal_scale=1.1,
        princpt_noise=np.array([0.1, -0.05]),
        box="joints",
        box_shift=np.array([0.03, -0.02]),
    )
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    for joint in (0, 7, 16):
        x, y = record.joint_img[0, joint]
        spot = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 3.0**2)) * 255
        picture = np.repeat(spot.astype(np.uint8)[..., None], 3, -1)
        sample = prepare_clip(record, [picture], PatchSettings(patch_size, 2.0, turn_camera), draw)
        light = patches_of(sample, patch_size)[0, 0].astype(np.float64)
        rows, columns = np.mgrid[:patch_size, :patch_size]
        found = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
        np.testing.assert_allclose(found, sample.joint_patch[0, joint], atol=0.5)


@given(rigid_draws, settings)
def test_the_region_gives_the_patch_of_the_whole_picture(draw, settings):
    record, pictures = hand_record(t=1), textured(1)
    plain = replace(settings, antialias=False)
    sample = prepare_clip(record, pictures, plain, draw)
    whole = replace(
        sample,
        regions=tuple(pictures),
        patch_from_region=sample.patch_from_region @ np.linalg.inv(shift_of(sample, pictures[0])),
    )
    assert sample.regions[0].size <= pictures[0].size
    np.testing.assert_allclose(patches_of(sample, 64), patches_of(whole, 64), atol=2e-4)


@given(rigid_draws, settings, st.sampled_from(["left", "right"]))
def test_a_patch_sampled_by_the_loader_is_the_devices_rounded_to_8_bits(draw, settings, handedness):
    record, pictures = hand_record(handedness=handedness), textured()
    device = prepare_clip(record, pictures, settings, draw)
    loader = prepare_clip(record, pictures, settings, draw, sample_patches=True)
    rounding = 0.52 if cv2.__version__ >= "5" else 3.0  # older ones round coordinates to 1/32 px
    ours = patches_of(loader, 64)
    np.testing.assert_allclose(255 * ours, 255 * patches_of(device, 64), atol=rounding)
    np.testing.assert_allclose(255 * ours, np.rint(255 * ours), atol=1e-3)
    assert {region.shape for region in loader.regions} == {(64, 64, 3)}
    for name in ("patch_bbox", "joint_patch", "focal", "mano_pose"):
        np.testing.assert_array_equal(getattr(loader, name), getattr(device, name))


def test_a_patch_that_sees_beyond_the_horizon_is_left_to_the_device():
    picture = textured(1)[0]
    beyond = np.linalg.inv(np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 20, 0, 1]]))[None]  # the horizon is the column 20
    regions, maps = cut_regions(open_pictures([picture], "key"), beyond, 40, sample=True)
    assert regions[0].shape == picture.shape
    np.testing.assert_array_equal(maps, beyond)


def shift_of(sample, picture):
    """Where the region lies in the picture, found by its pixels."""
    region = sample.regions[0]
    found = cv2.matchTemplate(picture, region, cv2.TM_SQDIFF)
    _, _, (left, top), _ = cv2.minMaxLoc(found)
    return np.array([[1.0, 0, left], [0, 1, top], [0, 0, 1]])


# Depth


def test_rigid_depth_moves_the_hand_along_its_ray_and_leaves_its_picture():
    record, pictures = hand_record(), textured()
    still = GeometricDraw(box="corners")
    near = prepare_clip(record, pictures, PatchSettings(64), still)
    far = prepare_clip(record, pictures, PatchSettings(64), replace(still, rigid_depth=1.1))
    np.testing.assert_allclose(far.joint_cam_mm[:, 0], 1.1 * near.joint_cam_mm[:, 0], atol=1e-9)
    relative = [sample.joint_cam_mm - sample.joint_cam_mm[:, :1] for sample in (near, far)]
    np.testing.assert_allclose(relative[1], relative[0], atol=1e-9)
    side = [sample.patch_bbox[:, 2] - sample.patch_bbox[:, 0] for sample in (near, far)]
    np.testing.assert_allclose(side[1], side[0] / 1.1)
    np.testing.assert_allclose(patches_of(far, 64), patches_of(near, 64), atol=2e-4)
    np.testing.assert_array_equal(far.mano_pose, near.mano_pose)
    np.testing.assert_allclose(far.joint_img, geometry.project(far.joint_cam_mm, far.focal, far.princpt), atol=1e-9)
    np.testing.assert_allclose(far.joint_patch[:, 0], near.joint_patch[:, 0], atol=1e-6)  # the root's is exact
    assert np.abs(far.joint_patch - near.joint_patch).max() < 1.5  # parallax of a hand 60 mm deep


def test_rigid_depth_without_known_depth_zooms_about_the_box_and_moves_2d_joints_with_the_picture():
    record = hand_record()
    record = replace(record, joint_3d_valid=np.zeros((2, 21)), joint_cam_mm=np.zeros((2, 21, 3)))
    sample = prepare_clip(record, black(), PatchSettings(64), GeometricDraw(rigid_depth=1.25))
    plain = prepare_clip(record, black(), PatchSettings(64))
    centre = (record.hand_bbox[:, None, :2] + record.hand_bbox[:, None, 2:]) / 2
    np.testing.assert_allclose(sample.joint_img, centre + (record.joint_img - centre) / 1.25, atol=1e-9)
    np.testing.assert_allclose(sample.joint_patch, plain.joint_patch, atol=1e-6)
    assert (sample.joint_cam_mm == 0).all()


def test_a_depth_scale_stretches_the_joints_and_not_manos_labels():
    record = hand_record()
    sample = prepare_clip(record, black(), PatchSettings(64), GeometricDraw(depth_scale=1.1))
    np.testing.assert_allclose(sample.joint_cam_mm, record.joint_cam_mm * [1, 1, 1.1])
    np.testing.assert_allclose(sample.mano_pose, record.mano_pose, atol=1e-9)
    projected = geometry.project(sample.joint_cam_mm, sample.focal, sample.princpt)
    np.testing.assert_allclose(sample.joint_img, projected, atol=1e-6)


# Boxes


@pytest.mark.parametrize("turn_camera", [False, True])
def test_without_a_draw_no_label_has_a_part_in_the_boxes(turn_camera):
    """A box recomputed from true joints at test time would leak them."""
    record = hand_record()
    blind = unlabelled_clip(
        record.key, record.hand_bbox, "right", record.focal, record.princpt, record.timestamp_ms, has_intr=True
    )
    settings = PatchSettings(64, 2.0, turn_camera)
    known, unknown = prepare_clip(record, textured(), settings), prepare_clip(blind, textured(), settings)
    for name in ("patch_bbox", "hand_bbox", "patch_from_region", "camera_from_network"):
        np.testing.assert_array_equal(getattr(known, name), getattr(unknown, name))
    np.testing.assert_array_equal(patches_of(known, 64), patches_of(unknown, 64))


def test_a_turned_cameras_box_is_that_of_the_warped_corners():
    record = hand_record(t=1)
    sample = prepare_clip(record, black(1), PatchSettings(64, 2.0, True))
    turn = geometry.turn_to_box(record.hand_bbox, record.focal, record.princpt)
    K = geometry.intrinsics_matrix(record.focal, record.princpt)
    expected = geometry.warp_box(K @ turn @ np.linalg.inv(K), record.hand_bbox)
    np.testing.assert_allclose(sample.hand_bbox, expected, atol=1e-9)
    np.testing.assert_allclose((expected[:, :2] + expected[:, 2:]) / 2, record.princpt, atol=3)


def test_a_frame_with_few_joints_takes_the_corners_of_its_box_though_joints_are_asked_for():
    valid = np.ones((2, 21))
    valid[1, 15:] = 0
    record = replace(hand_record(), joint_2d_valid=valid)
    draw = GeometricDraw(rotation_rad=0.7, box="joints")
    joints = prepare_clip(record, black(), PatchSettings(64), draw)
    corners = prepare_clip(record, black(), PatchSettings(64), replace(draw, box="corners"))
    np.testing.assert_allclose(joints.hand_bbox[0], geometry.box_around(joints.joint_img[0]))
    np.testing.assert_array_equal(joints.hand_bbox[1], corners.hand_bbox[1])


def test_the_detectors_error_moves_and_scales_the_box_and_nothing_else():
    record = hand_record()
    draw = GeometricDraw(box_shift=np.array([0.05, -0.02]), box_scale=1.2)
    sample, plain = (prepare_clip(record, black(), PatchSettings(64), d) for d in (draw, None))
    size = plain.hand_bbox[:, 2:] - plain.hand_bbox[:, :2]
    centre = (plain.hand_bbox[:, 2:] + plain.hand_bbox[:, :2]) / 2 + size.max(-1, keepdims=True) * [0.05, -0.02]
    np.testing.assert_allclose(sample.hand_bbox, np.hstack([centre - 0.6 * size, centre + 0.6 * size]))
    np.testing.assert_allclose(sample.joint_img, plain.joint_img, atol=1e-9)
    np.testing.assert_array_equal(sample.focal, plain.focal)


def test_labels_under_a_zero_mask_stay_finite_and_become_zero():
    rng = np.random.default_rng(0)
    valid_2d, valid_3d = (rng.random((2, 21)) > 0.4).astype(float), (rng.random((2, 21)) > 0.4).astype(float)
    record = hand_record()
    record = replace(
        record,
        joint_2d_valid=valid_2d,
        joint_3d_valid=valid_3d,
        joint_img=np.where(valid_2d[..., None] > 0, record.joint_img, -4000.0),
        joint_cam_mm=record.joint_cam_mm * valid_3d[..., None],
    )
    draw = GeometricDraw(tilt=np.array([0.0, 0.5, 0.0]), rigid_depth=1.1, box="joints")
    sample = prepare_clip(record, black(), PatchSettings(64), draw)
    for values, mask in (
        (sample.joint_img, valid_2d),
        (sample.joint_patch, valid_2d),
        (sample.joint_cam_mm, valid_3d),
    ):
        assert np.isfinite(values).all()
        assert (values[mask == 0] == 0).all()
        assert (values[mask > 0] != 0).all()


# Pictures


def test_a_fine_pattern_that_shrinks_becomes_grey_and_not_moire():
    checks = (np.indices((HEIGHT, WIDTH)).sum(0) % 2 * 255).astype(np.uint8)
    picture = np.repeat(checks[..., None], 3, -1)
    record = replace(hand_record(t=1), hand_bbox=np.array([[80.0, 60.0, 200.0, 180.0]]))
    smooth = patches_of(prepare_clip(record, [picture], PatchSettings(32, 1.0)), 32)
    aliased = patches_of(prepare_clip(record, [picture], PatchSettings(32, 1.0, antialias=False)), 32)
    assert np.abs(smooth - 0.5).max() < 0.01
    assert aliased.std() > 0.1


@pytest.mark.parametrize("patch_size", [16, 48, 96])
def test_encoded_frames_give_the_patches_of_decoded_ones(patch_size):
    """At 16 px the JPEG is decoded at a quarter of its size and less, PNG and arrays are averaged."""
    record, pictures = hand_record(), textured()
    settings = PatchSettings(patch_size)
    decoded = patches_of(prepare_clip(record, pictures, settings), patch_size)
    png = replace(record, frames=[encode_png(picture) for picture in pictures])
    np.testing.assert_array_equal(patches_of(prepare_clip(png, None, settings), patch_size), decoded)
    jpeg = replace(record, frames=[encode_jpeg(picture, 100) for picture in pictures])
    close = patches_of(prepare_clip(jpeg, None, settings), patch_size)
    assert np.abs(close - decoded).mean() < 0.01
    grey = replace(record, frames=[cv2.imencode(".jpg", picture[..., 0])[1].tobytes() for picture in pictures])
    same = patches_of(prepare_clip(grey, None, settings), patch_size)
    np.testing.assert_array_equal(same[:, 0], same[:, 2])


def test_a_region_of_a_patch_that_sees_nothing_is_black():
    record = replace(hand_record(t=1), hand_bbox=np.array([[300.0, 100.0, 340.0, 140.0]]))
    draw = GeometricDraw(box_shift=np.array([0.49, 0.0]), box_scale=0.5)
    sample = prepare_clip(record, [np.full((HEIGHT, WIDTH, 3), 255, np.uint8)], PatchSettings(16, 1.0), draw)
    assert patches_of(sample, 16).max() == 0


def test_samples_of_different_sizes_are_stacked():
    samples = [prepare_clip(hand_record(seed), textured(), PatchSettings(64), seed=seed) for seed in range(3)]
    batch = fill_patches(collate(samples), 64)
    assert batch.patches.shape == (3, 2, 3, 64, 64)
    assert batch.augment_seed.tolist() == [0, 1, 2]
    alone = fill_patches(collate(samples[1:2]), 64)
    np.testing.assert_allclose(batch.patches[1].numpy(), alone.patches[0].numpy(), atol=1e-4)
    assert (batch.joint_rel_mm[:, :, 0] == 0).all()


# Errors: the exact text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hand_bbox": np.array([[10.0, 10, 50, 50], [10, 10, 10, 50]])},
            "shard.tar: clip[0]: hand_bbox of frame 1 is [10, 10, 10, 50]; it needs x1 < x2 and y1 < y2 "
            "(frames without a hand: filter policy all)",
        ),
        (
            {"hand_bbox": np.array([[10.0, 10, 50, 50], [330, 10, 350, 50]])},
            "shard.tar: clip[0]: hand_bbox of frame 1 is [330, 10, 350, 50], outside of its picture of 320 x 240 px",
        ),
        (
            {"focal": np.array([[0.0, 0.0], [400, 400]])},
            "shard.tar: clip[0]: focal of frame 0 is [0, 0], princpt [150, 130]; both must be known and focal above 0 "
            "(without a calibration: 1.2 max(W, H), the picture's centre and intr_type fixed_virtual)",
        ),
    ],
)
def test_a_record_that_cannot_be_prepared_names_its_key_frame_and_value(changes, message):
    with pytest.raises(InputError) as error:
        prepare_clip(replace(hand_record(), **changes), black(), PatchSettings(64))
    assert str(error.value) == message


def test_a_hand_that_the_tilt_turns_out_of_view_names_the_setting():
    draw = GeometricDraw(tilt=np.array([0.0, 1.45, 0.0]))
    record = replace(hand_record(), hand_bbox=np.array([[260.0, 100, 310, 140]] * 2))
    with pytest.raises(InputError) as error:
        prepare_clip(record, black(), PatchSettings(64), draw)
    assert str(error.value) == (
        "shard.tar: clip[0]: hand_bbox of frame 0 is [260, 100, 310, 140] and leaves the view of the turned camera; "
        "lower augmentation.tilt_max_deg"
    )


def test_pictures_that_do_not_fit_are_told():
    record = hand_record()
    with pytest.raises(InputError, match="has 1 pictures for 2 boxes"):
        prepare_clip(record, black(1), PatchSettings(64))
    with pytest.raises(
        InputError, match=r"clip\[0\]: frame 0: is float64 of shape \(240, 320, 3\); a picture is uint8"
    ):
        prepare_clip(record, [np.zeros((HEIGHT, WIDTH, 3))] * 2, PatchSettings(64))
    jpeg = encode_jpeg(textured(1)[0])
    for damaged, message in (
        (b"\xff\xd8nothing", "is not a picture"),
        (jpeg[:-400], "JPEG file is cut off"),
        (b"", "is empty"),
    ):
        with pytest.raises(InputError, match=f"frame 1: {message}"):
            prepare_clip(replace(record, frames=[jpeg, damaged]), None, PatchSettings(16))


@pytest.mark.parametrize("patch_size", [16, 96])
def test_a_file_that_viewers_turn_is_refused_since_its_labels_pixels_are_ambiguous(patch_size):
    jpeg = encode_jpeg(textured(1)[0])
    orientation = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(orientation) + 2) + orientation + jpeg[2:]
    with pytest.raises(InputError, match="frame 0: is stored as 320 x 240 px but its EXIF orientation turns it"):
        prepare_clip(replace(hand_record(t=1), frames=[turned]), None, PatchSettings(patch_size))
