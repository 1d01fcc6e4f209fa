"""Writes a miniature InterHand2.6M: two sequences, two cameras, pictures of 160 x 128.

`ROM` has four frames in which both hands interact and, after a gap, a fifth; the left hand is not fitted in its second.
`solo` has three frames of the right hand, in the last of which its wrist is not labelled.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from layouts_hand import picture, posed, random_hand

from posecore.cameras import look_at

SIZE_WH = (160, 128)
FOCAL, PRINCPT = (410.0, 402.5), (81.25, 60.5)
EYES_MM = {"400262": (100.0, -50.0, -900.0), "400263": (700.0, 200.0, -650.0)}
STEP = 6
ROM_FRAMES = [1000, 1006, 1012, 1018, 1036]
SOLO_FRAMES = [12, 18, 24]
TIPS = (745, 317, 445, 556, 673)


@dataclass
class Truth:
    """What was written, by (frame, side): joints in the world in canonical order, mm."""

    joints_world_mm: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)
    cam_from_world: dict[str, np.ndarray] = field(default_factory=dict)
    """Metres."""

    def joints_cam_mm(self, frame: int, side: str, camera: str) -> np.ndarray:
        cam_from_world = self.cam_from_world[camera]
        world_m = self.joints_world_mm[frame, side] / 1000
        return (world_m @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]) * 1000


def write_interhand(root: Path, split: str = "train") -> Truth:
    truth, images, annotations = Truth(), [], []
    joints: dict[str, dict] = {"0": {}, "7": {}}
    mano: dict[str, dict] = {"0": {}, "7": {}}
    rng = np.random.default_rng(11)
    for capture, sequence, frames in (("0", "ROM", ROM_FRAMES), ("7", "solo_1", SOLO_FRAMES)):
        for frame in frames:
            sides = ["right", "left"] if sequence == "ROM" else ["right"]
            world, valid, fits = np.zeros((42, 3)), np.zeros((42, 1)), {"right": None, "left": None}
            for side in sides:
                joints_m, fits[side] = _hand(rng, side)
                truth.joints_world_mm[frame, side] = joints_m * 1000
                start = 0 if side == "right" else 21
                world[start : start + 21], valid[start : start + 21] = _interhand_order(joints_m * 1000), 1
            valid[3] = 0  # the base of the right thumb
            if frame == SOLO_FRAMES[-1]:
                valid[20] = 0
            if frame == ROM_FRAMES[1]:
                fits["left"] = None
            joints[capture][str(frame)] = {"world_coord": world.tolist(), "joint_valid": valid.tolist()}
            mano[capture][str(frame)] = fits
            for camera in EYES_MM:
                name = f"Capture{capture}/{sequence}/cam{camera}/image{frame:05d}.jpg"
                _write(root / "images" / split / name, picture(len(images), SIZE_WH))
                images.append(_image(len(images), name, capture, sequence, camera, frame))
                annotations.append(_annotation(images[-1]["id"], "interacting" if len(sides) == 2 else "right", valid))
    folder = root / "annotations" / split
    write_json(folder / f"InterHand2.6M_{split}_data.json", {"images": images, "annotations": annotations})
    write_json(folder / f"InterHand2.6M_{split}_camera.json", {"0": _cameras(truth), "7": _cameras(truth)})
    write_json(folder / f"InterHand2.6M_{split}_joint_3d.json", joints)
    write_json(folder / f"InterHand2.6M_{split}_MANO_NeuralAnnot.json", mano)
    return truth


def write_json(path: Path, content: object) -> None:
    _write(path, json.dumps(content).encode())


def _hand(rng: np.random.Generator, side: str) -> tuple[np.ndarray, dict[str, list[float]]]:
    hand = random_hand(side)
    relative = np.concatenate([rng.normal(0, 1.5, 3), rng.normal(0, 0.3, 45)])
    shape, trans = rng.normal(0, 1, 10), np.array([0.05 if side == "right" else -0.05, 0, 0]) + rng.normal(0, 0.01, 3)
    absolute = relative + np.concatenate([np.zeros(3), hand.hands_mean.numpy()])
    joints_m, _ = posed(hand, TIPS, "regressed", absolute, shape, trans)
    return joints_m, {"pose": relative.tolist(), "shape": shape.tolist(), "trans": trans.tolist()}


def _interhand_order(canonical: np.ndarray) -> np.ndarray:
    """Each finger from tip to base, thumb first, then the wrist."""
    order = [1 + 4 * finger + joint for finger in range(5) for joint in (3, 2, 1, 0)]
    return canonical[[*order, 0]]


def _cameras(truth: Truth) -> dict[str, dict[str, list]]:
    cameras: dict[str, dict[str, list]] = {"campos": {}, "camrot": {}, "focal": {}, "princpt": {}}
    for name, eye_mm in EYES_MM.items():
        eye, target, up = (torch.tensor(v).double() for v in (np.array(eye_mm) / 1000, [0.0, 0, 0], [0.0, -1, 0]))
        truth.cam_from_world[name] = look_at(eye, target, up).numpy()
        cameras["campos"][name] = list(eye_mm)
        cameras["camrot"][name] = truth.cam_from_world[name][:3, :3].tolist()
        cameras["focal"][name], cameras["princpt"][name] = list(FOCAL), list(PRINCPT)
    return cameras


def _image(number: int, name: str, capture: str, sequence: str, camera: str, frame: int) -> dict[str, object]:
    return {
        "id": number,
        "file_name": name,
        "width": SIZE_WH[0],
        "height": SIZE_WH[1],
        "capture": int(capture),
        "subject": 4,
        "seq_name": sequence,
        "camera": camera,
        "frame_idx": frame,
    }


def _annotation(image_id: int, hand_type: str, valid: np.ndarray) -> dict[str, object]:
    return {
        "id": 900 + image_id,
        "image_id": image_id,
        "bbox": [10.0, 10.0, 90.0, 90.0],
        "joint_valid": valid[:, 0].tolist(),
        "hand_type": hand_type,
        "hand_type_valid": 1,
    }


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
