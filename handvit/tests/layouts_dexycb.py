"""Writes a miniature DexYCB: one subject, a right and a left hand, two cameras, four frames; the hand comes in frame 1.

The left hand is posed with a left model as it was released: with the right hand's shape directions.
"""

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import torch
import yaml
from layouts_hand import picture, posed, random_hand

from handvit.hand import HandModel
from posecore.bodymodel import BodyModel

SIZE_WH = (640, 480)
SUBJECT = "20200709-subject-01"
SERIALS = ("836212060125", "839512060362")
SEQUENCES = {"20200709_141754": "right", "20200709_142446": "left"}
NUM_FRAMES = 4
K = {SERIALS[0]: (611.5, 610.25, 318.75, 241.5), SERIALS[1]: (608.0, 607.5, 322.0, 236.25)}
TIPS = {"right": (745, 317, 444, 556, 673), "left": (745, 317, 445, 556, 673)}
BETAS = {"right": np.linspace(-1, 1, 10), "left": np.linspace(0.8, -0.9, 10)}

Truth = dict[tuple[str, str, int], np.ndarray]
"""Joints in the camera, m, by side, serial and frame."""


@cache
def released_left() -> HandModel:
    left, right = (random_hand(side).body.arrays() for side in ("left", "right"))
    return HandModel(BodyModel(dataclasses.replace(left, shapedirs=right.shapedirs), torch.float64))


def hand_of(side: str) -> HandModel:
    return random_hand("right") if side == "right" else released_left()


def write_dexycb(root: Path) -> Truth:
    truth: Truth = {}
    write_calibration(root)
    for name, side in SEQUENCES.items():
        folder = root / SUBJECT / name
        write_meta(folder, side, NUM_FRAMES)
        for camera, serial in enumerate(SERIALS):
            for frame in range(NUM_FRAMES):
                label, joints = make_label(side, serial, seed=10 * camera + frame, is_there=frame > 0)
                write_frame(folder / serial, frame, label)
                truth[side, serial, frame] = joints
    return truth


def write_calibration(root: Path, serials: tuple[str, ...] = SERIALS) -> None:
    for side, betas in BETAS.items():
        write_yaml(root / "calibration" / f"mano_{SUBJECT}_{side}" / "mano.yml", {"betas": betas.tolist()})
    for serial in serials:
        fx, fy, ppx, ppy = K.get(serial, K[SERIALS[0]])
        color = {"fx": fx, "fy": fy, "ppx": ppx, "ppy": ppy}
        path = root / "calibration" / "intrinsics" / f"{serial}_640x480.yml"
        write_yaml(path, {"color": color, "depth": {**color, "fx": 385.0}})


def write_meta(folder: Path, side: str, num_frames: int) -> None:
    meta = {
        "extrinsics": "20200702_151821",
        "mano_calib": [f"{SUBJECT}_{side}"],
        "mano_sides": [side],
        "num_frames": num_frames,
        "serials": list(SERIALS),
        "ycb_grasp_ind": 0,
        "ycb_ids": [2, 5],
    }
    write_yaml(folder / "meta.yml", meta)


def make_label(side: str, serial: str, seed: int, is_there: bool = True) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Arrays of a labels file, and the joints in the camera, m."""
    arrays = {
        "seg": np.zeros((480, 640), np.uint8),
        "pose_y": np.zeros((2, 3, 4), np.float32),
        "pose_m": np.zeros((1, 51), np.float32),
        "joint_3d": np.full((1, 21, 3), -1, np.float32),
        "joint_2d": np.full((1, 21, 2), -1, np.float32),
    }
    if not is_there:
        return arrays, np.zeros((21, 3))
    rng, hand = np.random.default_rng([seed, side == "left"]), hand_of(side)
    coefficients = rng.normal(0, 0.5, 45)
    fingers = coefficients @ hand.hands_components.numpy() + hand.hands_mean.numpy()
    root, trans = rng.normal(0, 1, 3), np.array([0.03, -0.02, 0.75]) + rng.normal(0, 0.02, 3)
    pose = np.concatenate([root, fingers])[None]
    joints = posed(hand, TIPS[side], "kinematic", pose, BETAS[side][None], trans[None])[0][0]
    fx, fy, cx, cy = K.get(serial, K[SERIALS[0]])
    arrays["pose_m"] = np.concatenate([root, coefficients, trans])[None].astype(np.float32)
    arrays["joint_3d"] = joints[None].astype(np.float32)
    arrays["joint_2d"] = (joints[:, :2] / joints[:, 2:] * [fx, fy] + [cx, cy])[None].astype(np.float32)
    return arrays, joints


def write_frame(folder: Path, frame: int, label: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"color_{frame:06d}.jpg").write_bytes(picture(frame, SIZE_WH))
    np.savez_compressed(folder / f"labels_{frame:06d}.npz", **label)


def write_yaml(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
