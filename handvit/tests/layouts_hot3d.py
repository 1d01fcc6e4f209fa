"""Writes miniature HOT3D clips: an Aria tar with a colour and a grey stream of 5 frames, both hands, a moving camera.

A blob is painted where the fisheye lens sees the right index fingertip (red in the colour stream): undistorted, it must
lie at the joint. The lens formula is written here once more, from the data set's description.
"""

import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from layouts_hand import posed, random_hand
from scipy.spatial.transform import Rotation

from posecore.cameras import look_at

SIZE = 320
FRAMES = [f"{n:06d}" for n in range(5)]
STREAMS = ("1201-1", "214-1")
HIDDEN = "000002"
"""The right hand is hardly visible in it."""
TIPS = (744, 320, 443, 554, 671)
FOCAL = {"214-1": 138.9, "1201-1": 121.5}
CENTRE = {"214-1": (158.3, 161.2), "1201-1": (160.75, 157.4)}
LENS = {
    "214-1": [-0.024, 0.098, -0.065, 0.012, 0.003, -0.001, 3e-4, -2e-4, -8e-4, 1e-4, 5e-4, -2e-4],
    "1201-1": [-0.031, 0.11, -0.06, 0.01, 0.002, -0.001, -2e-4, 4e-4, 2e-4, -1e-4, -6e-4, 3e-4],
}
BETAS = np.linspace(0.9, -0.7, 10)
INDEX_TIP = 8


@dataclass
class Truth:
    """By frame: world_from_cam (by stream as well), and joints in the world (by side), metres."""

    world_from_cam: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    joints: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    def joints_cam(self, frame: str, stream: str, side: str) -> np.ndarray:
        pose = self.world_from_cam[frame, stream]
        return (self.joints[frame, side] - pose[:3, 3]) @ pose[:3, :3]


def fisheye624(points_cam: np.ndarray, stream: str) -> np.ndarray:
    a, b = points_cam[:, 0] / points_cam[:, 2], points_cam[:, 1] / points_cam[:, 2]
    r = np.hypot(a, b)
    theta = np.arctan(r)
    *k, p0, p1, s0, s1, s2, s3 = LENS[stream]
    bent = theta + sum(k_i * theta ** (2 * i + 3) for i, k_i in enumerate(k))
    xr, yr = bent * a / r, bent * b / r
    q = xr**2 + yr**2
    u = xr + (2 * xr**2 + q) * p0 + 2 * xr * yr * p1 + s0 * q + s1 * q**2
    v = yr + (2 * yr**2 + q) * p1 + 2 * xr * yr * p0 + s2 * q + s3 * q**2
    return FOCAL[stream] * np.stack([u, v], -1) + np.array(CENTRE[stream])


def write_hot3d(root: Path) -> Truth:
    """`train_aria/clip-000007.tar`, and a test clip without hands."""
    truth = make_truth()
    members: dict[str, bytes] = {"__hand_shapes.json__": dump({"mano": BETAS.tolist(), "umetrack": {}})}
    for number, frame in enumerate(FRAMES):
        members[f"{frame}.info.json"] = dump(info(number))
        members[f"{frame}.cameras.json"] = dump({s: camera(truth.world_from_cam[frame, s], s) for s in STREAMS})
        members[f"{frame}.hands.json"] = dump(hands(truth, frame))
        for stream in STREAMS:
            members[f"{frame}.image_{stream}.jpg"] = paint(truth, frame, stream)
    write_tar(root / "train_aria" / "clip-000007.tar", members)
    public = {name: data for name, data in members.items() if "hand" not in name}
    write_tar(root / "test_aria" / "clip-001849.tar", public)
    return truth


def make_truth() -> Truth:
    truth = Truth()
    for number, frame in enumerate(FRAMES):
        for side in ("right", "left"):
            components, wrist = label_of(side, number)
            hand = random_hand(side)
            fingers = components @ hand.hands_components.numpy()[:15] + hand.hands_mean.numpy()
            pose = np.concatenate([wrist[:3], fingers])[None]
            truth.joints[frame, side] = posed(hand, TIPS, "kinematic", pose, BETAS[None], wrist[3:][None])[0][0]
        for place, stream in enumerate(STREAMS):
            eye = torch.tensor([1.3 + 0.05 * place + 0.01 * number, 1.55, -2.1], dtype=torch.float64)
            target = torch.tensor([1.28, 1.5, -1.7], dtype=torch.float64)
            up = torch.tensor([0.1, 1.0, 0.2], dtype=torch.float64)
            truth.world_from_cam[frame, stream] = np.linalg.inv(look_at(eye, target, up).numpy())
    return truth


def label_of(side: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """15 components; wrist_xform: axis-angle and translation in the world."""
    rng = np.random.default_rng([number, side == "left"])
    place = np.array([1.36 if side == "left" else 1.22, 1.5, -1.7]) + rng.normal(0, 0.01, 3)
    return rng.normal(0, 0.6, 15), np.concatenate([rng.normal(0, 1, 3), place])


def info(number: int) -> dict[str, Any]:
    start = 87_552_000_000_000
    times = {stream: start + round(number * 1e9 / 30) for stream in STREAMS}
    return {"sequence_id": "P0001_9b6feab7", "participant_id": "P0001", "device": "Aria", "image_timestamps_ns": times}


def camera(world_from_cam: np.ndarray, stream: str) -> dict[str, Any]:
    x, y, z, w = Rotation.from_matrix(world_from_cam[:3, :3]).as_quat().tolist()
    return {
        "calibration": {
            "label": "camera-rgb" if stream == "214-1" else "camera-slam-left",
            "stream_id": stream,
            "projection_model_type": "CameraModelType.FISHEYE624",
            "projection_params": [FOCAL[stream], *CENTRE[stream], *LENS[stream]],
            "image_width": SIZE,
            "image_height": SIZE,
        },
        "T_world_from_camera": {"quaternion_wxyz": [w, x, y, z], "translation_xyz": world_from_cam[:3, 3].tolist()},
    }


def hands(truth: Truth, frame: str) -> dict[str, Any]:
    """The left hand has no label in the first frame and no MANO in the second."""
    number = FRAMES.index(frame)
    content: dict[str, Any] = {"left": None, "right": None}
    for side in ("left", "right"):
        components, wrist = label_of(side, number)
        boxes, visible = {}, {}
        for stream in STREAMS:
            seen = fisheye624(truth.joints_cam(frame, stream, side), stream)
            boxes[stream] = [*(seen.min(0) - 2).tolist(), *(seen.max(0) + 2).tolist()]
            visible[stream] = 0.04 if (side, frame) == ("right", HIDDEN) else 0.8
        content[side] = {
            "boxes_amodal": boxes,
            "visibilities_modeled": visible,
            "umetrack_pose": {},
            "mano_pose": {"thetas": components.tolist(), "wrist_xform": wrist.tolist()},
        }
    if number == 0:
        content["left"] = None
    if number == 1:
        del content["left"]["mano_pose"]
    return content


def paint(truth: Truth, frame: str, stream: str) -> bytes:
    place = fisheye624(truth.joints_cam(frame, stream, "right")[INDEX_TIP][None], stream)[0]
    y, x = np.mgrid[:SIZE, :SIZE]
    blob = 220 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * 3.0**2))
    nothing = np.zeros_like(blob)
    picture = blob if stream != "214-1" else np.stack([nothing, nothing, blob], -1)  # BGR: red
    return cv2.imencode(".jpg", picture.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()


def dump(content: object) -> bytes:
    return json.dumps(content).encode()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def read_tar(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
