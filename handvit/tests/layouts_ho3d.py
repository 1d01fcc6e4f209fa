"""Writes a miniature HO3D, v3 or v2: a train sequence with a gap and an unlabelled frame, and one to evaluate."""

import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from layouts_hand import picture, posed, random_hand

from handvit.joints import CANONICAL_TO_HO3D

SIZE_WH = (640, 480)
CAMERA = np.array([[614.627, 0, 320.262], [0, 614.101, 238.469], [0, 0, 1]])
FLIP = np.array([1.0, -1.0, -1.0])
TIPS = (744, 333, 444, 555, 672)
TRAIN = ["ABF10/0003", "ABF10/0000", "ABF10/0001", "ABF10/0007", "ABF10/0002"]
"""In no order, as the list is; 0002 has no label, 0004 to 0006 are not listed."""
EVALUATION = ["SM1/0001", "SM1/0000"]


@dataclass
class Truth:
    """By SEQ/ID: canonical joints in OpenCV's frame, m; the box."""

    joints: dict[str, np.ndarray] = field(default_factory=dict)
    boxes: dict[str, list[float]] = field(default_factory=dict)


def write_ho3d(root: Path, ending: str = "jpg", with_truth: bool = True) -> Truth:
    truth = Truth()
    for place, line in enumerate(TRAIN):
        meta, joints = make_meta(place)
        truth.joints[line] = joints
        if line == "ABF10/0002":
            meta |= dict.fromkeys(("handPose", "handTrans", "handBeta", "handJoints3D"))
        write_frame(root / "train", line, meta, ending, place)
    (root / "train.txt").write_text("\n".join(TRAIN) + "\n")
    for place, line in enumerate(EVALUATION):
        meta, joints = make_meta(100 + place)
        pixels = joints @ CAMERA.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        truth.joints[line] = joints
        truth.boxes[line] = [*(pixels.min(0) - 7.25).tolist(), *(pixels.max(0) + 9.5).tolist()]
        kept = {key: meta[key] for key in ("objName", "objTrans", "camMat")}
        wrist = {"handJoints3D": meta["handJoints3D"][0], "handBoundingBox": truth.boxes[line]}
        write_frame(root / "evaluation", line, kept | wrist, ending, 50 + place)
    (root / "evaluation.txt").write_text("\n".join(EVALUATION))
    if with_truth:
        stored = [(truth.joints[line] * FLIP)[list(CANONICAL_TO_HO3D)].tolist() for line in EVALUATION]
        (root / "evaluation_xyz.json").write_text(json.dumps(stored))
    return truth


def make_meta(seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """A frame's labels and its canonical joints in OpenCV's frame, m. The hand is posed in OpenGL's."""
    rng = np.random.default_rng(seed)
    pose, shape = rng.normal(0, 0.4, 48), rng.normal(0, 0.7, 10)
    trans = np.array([0.02, 0.03, -0.55]) + rng.normal(0, 0.01, 3)
    joints_gl = posed(random_hand(), TIPS, "kinematic", pose[None], shape[None], trans[None])[0][0]
    meta = {
        "camMat": CAMERA,
        "handPose": pose,
        "handTrans": trans,
        "handBeta": shape,
        "handJoints3D": joints_gl[list(CANONICAL_TO_HO3D)],
        "handVertContact": np.zeros(778, bool),
        "objName": "021_bleach_cleanser",
        "objLabel": np.int64(12),
        "objTrans": rng.normal(size=3).astype(np.float32),
        "camIDList": ["0", "1"],
    }
    return meta, joints_gl * FLIP


def write_frame(folder: Path, line: str, meta: object, ending: str, seed: int) -> None:
    sequence, name = line.split("/")
    for room in ("rgb", "meta"):
        (folder / sequence / room).mkdir(parents=True, exist_ok=True)
    data = picture(seed, SIZE_WH)
    if ending == "png":
        data = cv2.imencode(".png", cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))[1].tobytes()
    (folder / sequence / "rgb" / f"{name}.{ending}").write_bytes(data)
    (folder / sequence / "meta" / f"{name}.pkl").write_bytes(pickle.dumps(meta, protocol=2))
