"""Records of clips that fit together, with real encoded pictures."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from handvit.data.records import ClipRecord

HEIGHT, WIDTH = 96, 128


def picture(seed: int, ending: str = "png") -> bytes:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (6, 8, 3), np.uint8)
    done, data = cv2.imencode(f".{ending}", cv2.resize(small, (WIDTH, HEIGHT)))
    assert done
    return data.tobytes()


def make_record(key: str = "walk_right", num_frames: int = 5, seed: int = 0, **changes: Any) -> ClipRecord:
    """A hand of about 90 mm at about 500 mm; all channels are valid and agree."""
    rng = np.random.default_rng(seed)
    joints = rng.uniform(-45, 45, (num_frames, 21, 3)) + np.array([0, 0, changes.pop("depth_mm", 500.0)])
    focal = np.tile([300.0, 310.0], (num_frames, 1))
    princpt = np.tile([64.0, 47.0], (num_frames, 1))
    points = joints[..., :2] / joints[..., 2:] * focal[:, None] + princpt[:, None]
    arrays = {
        "hand_bbox": np.concatenate([points.min(1), points.max(1)], 1),
        "joint_img": points,
        "joint_cam_mm": joints,
        "joint_2d_valid": np.ones((num_frames, 21)),
        "joint_3d_valid": np.ones((num_frames, 21)),
        "has_mano": np.ones(num_frames),
        "has_intr": np.ones(num_frames),
        "mano_pose": rng.normal(0, 0.3, (num_frames, 48)),
        "mano_shape": rng.normal(0, 1, (num_frames, 10)),
        "timestamp_ms": np.arange(num_frames) * 33.0,
        "focal": focal,
        "princpt": princpt,
    }
    record = ClipRecord(
        key=key,
        frames=[picture(seed * 1000 + i) for i in range(num_frames)],
        frame_format="png",
        handedness="right",
        data_source="DexYCB",
        source_split="train",
        imgs_path=[f"a/{i:06d}.png" for i in range(num_frames)],
        source_index=[{"frame": i} for i in range(num_frames)],
        additional_desc=[{"note": str(i)} for i in range(num_frames)],
        **{name: values.astype(np.float32) for name, values in arrays.items()},
    )
    return replace(record, **changes)
