"""Synthetic clips: exact labels, the anatomy's limits, and the same bytes whoever renders them."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from handvit.data.check import reprojection_error_px
from handvit.data.shards import ClipShards
from handvit.data.synthetic import Difficulty, SyntheticSet, synthesise, synthetic_records
from handvit.data.synthetic.anatomy import LIMITS_RAD, anatomy_of, finger_rotations, random_angles
from handvit.data.synthetic.clip import plan_clip, render_clips
from handvit.data.synthetic.motion import FRAME_MS, random_motion, smooth_track
from handvit.data.synthetic.render import HandMesh
from handvit.draw import labelled_meshes_mm, project_mm
from handvit.hand import close_wrist, mirror_axis_angle, mirror_points, pose_to_rotations, read_hand
from posecore.data.images import decode_image
from posecore.errors import InputError
from posecore.rendering import rasterize, vertex_normals

SIZE = (72, 96)
PLAIN = Difficulty(occluders=0.0, blur=0.0, noise=0.0, camera_shake_deg=0.0)


@pytest.fixture(scope="module")
def hand():
    return read_hand(None)


@pytest.fixture(scope="module")
def records(hand):
    return list(synthetic_records(SyntheticSet(12, 3, SIZE, 5, "train"), hand))


@pytest.fixture(scope="module")
def plain(hand):
    return list(synthetic_records(SyntheticSet(8, 1, SIZE, 5, "train", difficulty=PLAIN, quality=100), hand))


def test_2d_joints_are_the_projections_of_3d_joints_to_a_thousandth_of_a_pixel(records):
    for record in records:
        focal, princpt = record.focal[:, None].astype(float), record.princpt[:, None].astype(float)
        joints = record.joint_cam_mm.astype(float)
        projected = joints[..., :2] / joints[..., 2:] * focal + princpt
        assert np.abs(projected - record.joint_img).max() < 1e-3
        assert reprojection_error_px(record).max() < 1e-3


def test_labels_pose_the_hand_to_its_joints_and_left_hands_are_mirror_images(hand, records):
    assert {record.handedness for record in records} == {"left", "right"}
    for record in records:
        pose, betas = torch.from_numpy(record.mano_pose), torch.from_numpy(record.mano_shape)
        is_left = record.handedness == "left"
        joints = hand(pose_to_rotations(mirror_axis_angle(pose) if is_left else pose), betas).joints_m
        joints = mirror_points(joints) if is_left else joints
        relative = 1000 * (joints - joints[:, :1]).numpy()
        np.testing.assert_allclose(relative, record.joint_cam_mm - record.joint_cam_mm[:, :1], atol=0.01)


def test_pictures_show_the_hand_where_the_labels_say_and_nowhere_else(hand):
    """Black and white skin in otherwise equal scenes differ exactly on the labelled mesh and its forearm."""
    mesh = HandMesh.of(hand)
    sides = {}
    for shade in (0.0, 1.0):
        plans = [plan_clip(mesh, 5, number, 1, SIZE, 0.5, PLAIN) for number in range(8)]
        skin = np.full(3, shade, np.float32)
        parts = np.zeros((7, 3), np.float32)
        looks = [replace(p.look, back=skin, palm=skin, nail=skin, sleeve=skin, parts=parts) for p in plans]
        plans = [replace(plan, look=look) for plan, look in zip(plans, looks, strict=True)]
        sides[shade] = render_clips(hand, mesh, plans, SIZE, "train", PLAIN, quality=100)
    assert {record.handedness for record in sides[0.0]} == {"left", "right"}
    for dark, pale in zip(sides[0.0], sides[1.0], strict=True):
        difference = decode_image(pale.frames[0]).astype(int) - decode_image(dark.frames[0])
        differs = difference.max(2) > 24
        (fx, fy), (cx, cy) = dark.focal[0], dark.princpt[0]
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        vertices = labelled_meshes_mm(dark, hand)[0]
        scene = torch.from_numpy(vertices).float()[None], hand.faces, torch.from_numpy(K).float()[None]
        shown = (rasterize(*scene, SIZE, z_near=1.0).face_ids[0] >= 0).numpy().astype(np.uint8)
        assert differs[cv2.erode(shown, np.ones((3, 3))) > 0].mean() > 0.99
        assert (
            differs[_nearer_to_fingers(vertices, K, mesh.loop) & (cv2.dilate(shown, np.ones((5, 5))) == 0)].sum() == 0
        )


def _nearer_to_fingers(vertices_mm, K, loop) -> np.ndarray:
    """Pixels that are nearer to the hand's inner vertices than to its wrist, where the forearm begins."""
    inner = np.setdiff1d(np.arange(len(vertices_mm)), loop)
    pixels = np.indices(SIZE).reshape(2, -1).T[:, ::-1]
    vertices = project_mm(vertices_mm, K)
    wrist, rest = (cKDTree(vertices[ids]).query(pixels)[0] for ids in (loop, inner))
    return (wrist > rest + 8).reshape(SIZE)


def test_boxes_are_tight_around_joints_within_the_picture_and_only_those_are_valid(hand):
    difficulty = Difficulty(off_centre=2.0)
    records = list(synthetic_records(SyntheticSet(16, 1, SIZE, 1, "train", difficulty=difficulty), hand))
    assert any((record.joint_2d_valid == 0).any() for record in records)
    for record in records:
        valid = record.joint_2d_valid[0] > 0
        x, y = record.joint_img[0].T
        inside = (x >= -0.5) & (x <= SIZE[1] - 0.5) & (y >= -0.5) & (y <= SIZE[0] - 0.5)
        np.testing.assert_array_equal(valid, inside if inside.sum() > 1 else False)
        seen = record.joint_img[0][valid] if valid.any() else np.zeros((1, 2))
        np.testing.assert_allclose(record.hand_bbox[0], [*seen.min(0), *seen.max(0)], atol=1e-5)
        assert (record.joint_3d_valid == 1).all()


def test_hands_that_leave_the_picture_can_be_stored_too(hand, tmp_path):
    synthesise(
        tmp_path, hand, clips=48, frames=1, size=(48, 48), seed=0, split="train", difficulty=Difficulty(off_centre=4.0)
    )
    shards = ClipShards([tmp_path / "train-000000.tar"])
    counts = [int(shards.read(index, pictures=False).joint_2d_valid.sum()) for index in range(48)]
    assert min(counts) == 0
    assert 1 not in counts
    assert max(counts) > 10


@pytest.mark.slow
def test_another_process_and_this_one_give_the_same_bytes_and_another_seed_others(hand, tmp_path):
    """Slow: the process imports torch."""
    arguments = {"clips": 36, "frames": 1, "size": (48, 48), "split": "val"}
    for name, seed, workers in (("here", 3, 0), ("there", 3, 1), ("other", 4, 0)):
        synthesise(tmp_path / name, hand, seed=seed, workers=workers, **arguments)
    tars = [(tmp_path / name / "val-000000.tar").read_bytes() for name in ("here", "there", "other")]
    assert tars[0] == tars[1]
    assert tars[0] != tars[2]


def test_a_clip_depends_on_its_number_and_not_on_how_many_there_are(hand):
    few, more = (list(synthetic_records(SyntheticSet(n, 4, (48, 48), 2, "val"), hand)) for n in (8, 16))
    assert [record.frames for record in few] == [record.frames for record in more[:8]]


def test_splits_of_one_seed_have_different_clips(hand):
    first, second = (
        next(synthetic_records(SyntheticSet(1, 1, (48, 48), 0, split), hand)) for split in ("train", "val")
    )
    assert not np.allclose(first.mano_pose, second.mano_pose)


def test_shards_give_back_what_was_made_and_the_report_counts_it(hand, tmp_path, records):
    report = synthesise(tmp_path, hand, clips=12, frames=3, size=SIZE, seed=5, split="train", clips_per_shard=5)
    assert report["clips"] == 12
    assert report["frames"] == 36
    assert report["left_clips"] == sum(record.handedness == "left" for record in records)
    assert report["shards"] == ["train-000000.tar", "train-000001.tar", "train-000002.tar"]
    assert report["standin"] is True
    shards = ClipShards([tmp_path / name for name in report["shards"]])
    read = shards.read(7)
    assert list(read.frames) == list(records[7].frames)
    np.testing.assert_array_equal(read.joint_cam_mm, records[7].joint_cam_mm)
    assert read.meta["tips"] == hand.tips.tolist()
    assert read.meta["standin"] is True


def test_fingers_bend_towards_the_palm(hand):
    """A fist brings all five tips nearer to the palm's plane and to the wrist; the flat hand's lie far out."""
    anatomy = anatomy_of(hand)
    fist = (LIMITS_RAD[..., 1] * [0.9, 0, 0.9, 0.9, 0])[None]
    rotations = np.concatenate([np.eye(3)[None, None], finger_rotations(anatomy, fist)], 1)
    posed = hand(torch.from_numpy(rotations).float(), torch.zeros(1, 10)).joints_m[0].double().numpy()
    tips, wrist = [8, 12, 16, 20], anatomy.joints[0]
    flat = np.linalg.norm(anatomy.joints[tips] - wrist, axis=1)
    assert (np.linalg.norm(posed[tips] - wrist, axis=1) < 0.75 * flat).all()
    middles = posed[[6, 10, 14, 18]]
    assert (((middles - anatomy.joints[[6, 10, 14, 18]]) @ anatomy.palm) > 0.01).all()


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), articulation=st.floats(0, 1))
def test_drawn_angles_stay_within_the_limits(seed, articulation):
    angles = random_angles(np.random.default_rng(seed), 50, articulation)
    middle, half = LIMITS_RAD.mean(-1), np.diff(LIMITS_RAD)[..., 0] / 2
    assert (np.abs(angles - middle) <= articulation * half + 1e-12).all()


def test_hands_of_the_standin_do_not_fold_into_themselves_more_than_fingers_press(hand):
    """Fingertips stay out of the palm's inside: few vertices of the fingers lie within the closed mesh."""
    anatomy = anatomy_of(hand)
    angles = random_angles(np.random.default_rng(0), 12, 1.0)
    rotations = np.concatenate([np.broadcast_to(np.eye(3), (12, 1, 3, 3)), finger_rotations(anatomy, angles)], 1)
    vertices = hand(torch.from_numpy(rotations).float(), torch.zeros(12, 10)).vertices_m.numpy()
    tips = hand.tips.tolist()
    outwards = vertex_normals(torch.from_numpy(vertices), hand.faces).numpy()
    closed = close_wrist(vertices[0], hand.faces.numpy())
    buried = [
        _is_inside(mesh[closed], mesh[tips] + 0.004 * normals[tips])
        for mesh, normals in zip(vertices, outwards, strict=True)
    ]
    assert np.mean(buried) <= 0.25


def _is_inside(triangles, points) -> np.ndarray:
    """Inside a closed mesh: the solid angles of its faces add up to 4 pi (van Oosterom and Strackee 1983)."""
    a, b, c = (triangles[None, :, i] - points[:, None] for i in range(3))
    la, lb, lc = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
    numerator = np.einsum("pfi,pfi->pf", a, np.cross(b, c))
    dots = [np.einsum("pfi,pfi->pf", u, v) for u, v in ((a, b), (b, c), (c, a))]
    denominator = la * lb * lc + dots[0] * lc + dots[1] * la + dots[2] * lb
    return np.abs(2 * np.arctan2(numerator, denominator).sum(1)) > 2 * np.pi


def test_clips_move_smoothly_and_their_times_jump_where_frames_are_lost(hand):
    record = next(synthetic_records(SyntheticSet(1, 24, (48, 48), 9, "train"), hand))
    steps = np.round(np.diff(record.timestamp_ms) / FRAME_MS)
    np.testing.assert_allclose(np.diff(record.timestamp_ms), steps * FRAME_MS, atol=1e-3)
    assert steps.max() > 1
    moved = np.linalg.norm(np.diff(record.joint_cam_mm, axis=0), axis=-1) / steps[:, None]
    assert 0.1 < moved.max() < 60
    turned = record.joint_cam_mm[1:-1] * 2 - record.joint_cam_mm[:-2] - record.joint_cam_mm[2:]
    even = (steps[1:] == 1) & (steps[:-1] == 1)
    assert np.linalg.norm(turned[even], axis=-1).mean() < 0.6 * moved.mean()


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), frames=st.integers(1, 40))
def test_a_track_stays_within_its_keys(seed, frames):
    rng = np.random.default_rng(seed)
    track = smooth_track(rng, lambda n: rng.uniform(-1, 2, (n, 2)), np.arange(frames, dtype=float))
    assert track.shape == (frames, 2)
    assert track.min() >= -1
    assert track.max() <= 2


def test_roots_turn_no_farther_than_the_range_and_depths_keep_theirs(hand):
    anatomy = anatomy_of(hand)
    difficulty = Difficulty(rotation_range_deg=30.0, depth_mm=(400.0, 600.0), camera_shake_deg=0.0)
    angles = []
    upright = random_motion(
        np.random.default_rng(0), anatomy, 1, SIZE, replace(difficulty, rotation_range_deg=0.0)
    ).rotations[0, 0]
    np.testing.assert_allclose(upright @ anatomy.forward, [0, -1, 0], atol=1e-6)
    np.testing.assert_allclose(upright @ anatomy.palm, [0, 0, -1], atol=1e-6)
    for seed in range(40):
        motion = random_motion(np.random.default_rng(seed), anatomy, 1, SIZE, difficulty)
        cosine = (np.trace(motion.rotations[0, 0] @ upright.T) - 1) / 2
        angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
        assert 0.4 <= motion.depth_m[0] <= 0.6
    assert max(angles) <= 30 + 1e-6
    assert max(angles) > 25


def test_fingers_skin_and_sleeve_are_where_they_belong(hand):
    mesh = HandMesh.of(hand)
    num_faces = len(hand.faces)
    assert (mesh.skin.part[num_faces:] == 6).all()
    assert set(mesh.skin.part[:num_faces].tolist()) == {0, 1, 2, 3, 4, 5}
    tips = hand.tips.tolist()
    for finger, tip in enumerate(tips):
        around = (hand.faces == tip).any(1).nonzero()[:, 0]
        assert (mesh.skin.part[around] == finger).all()
        assert (mesh.skin.segment[around] == 2).all()
    nails = (mesh.skin.corners[:num_faces, :, 2] > 0.8).any(1) & (mesh.skin.segment[:num_faces] == 2)
    assert set(mesh.skin.part[:num_faces][nails].tolist()) == {0, 1, 2, 3, 4}


def test_the_forearm_closes_the_wrist(hand):
    mesh = HandMesh.of(hand)
    faces = mesh.faces.numpy()
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert {tuple(e) for e in directed.tolist()} == {tuple(e[::-1]) for e in directed.tolist()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": 0}, "clips: 0, must be at least 1"),
        ({"size": (16, 96)}, "size: 16, must be at least 32"),
        ({"split": "s0/train"}, "split: 's0/train', must be letters, digits, _ and -, as in train"),
        ({"left_share": 1.5}, "left_share: 1.5, must be 0 to 1"),
        ({"workers": -1}, "workers: -1, must be at least 0"),
        (
            {"difficulty": Difficulty(depth_mm=(0.35, 1.1))},
            "depth_mm: 0.35 to 1.1, must rise and begin at 250 or more",
        ),
        ({"difficulty": Difficulty(dropped_frames=1.0)}, "dropped_frames: 1.0, must be 0 to 0.9"),
        ({"difficulty": Difficulty(rotation_range_deg=270.0)}, "rotation_range_deg: 270.0, must be 0 to 180"),
    ],
)
def test_impossible_arguments_are_told_by_name(hand, tmp_path, change, message):
    arguments = {"clips": 1, "frames": 1, "size": SIZE, "seed": 0, "split": "train"} | change
    with pytest.raises(InputError) as caught:
        synthesise(tmp_path / "out", hand, **arguments)
    assert caught.value.problems == (message,)
    assert not (tmp_path / "out").exists()


def test_pictures_have_light_and_skin_of_many_kinds(plain, hand):
    """Mean colours of the hands spread, and so do those of the corners of the pictures."""
    many = list(synthetic_records(SyntheticSet(32, 1, SIZE, 11, "train", difficulty=PLAIN), hand))
    skin, corners = [], []
    for record in many:
        picture = decode_image(record.frames[0])
        centre = record.joint_img[0, [0, 5, 9, 17]].mean(0).round().astype(int)
        skin.append(picture[np.clip(centre[1], 0, SIZE[0] - 1), np.clip(centre[0], 0, SIZE[1] - 1)])
        corners.append(picture[:8, :8].mean((0, 1)))
    assert np.std(np.mean(skin, 1)) > 20
    assert np.std(np.mean(corners, 1)) > 25
