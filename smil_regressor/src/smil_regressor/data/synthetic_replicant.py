"""Synthetic sets in the layout of replicAnt: Unreal's left-handed frames and centimetres, one or many cameras.

The inverse of `converters.unreal`. Unreal's world is ours mirrored by Y = diag(1, -1, 1), ten centimetres for one unit
of the model, as in replicAnt's own sets: X_u = 10 Y X. A camera X_c = R X + T becomes C = X_u M + t with
M = Y R^T Y and t = 10 Y T; a rotation R becomes Y R Y.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8
from scipy.spatial.transform import Rotation

from posecore.bodymodel import BodyModel
from posecore.data.images import encode_jpeg, encode_png
from smil_regressor.data.converters.replicant import DEPTH_CM_PER_LEVEL
from smil_regressor.data.converters.unreal import MIRROR
from smil_regressor.data.synthetic import EXACT, Difficulty, render_frames
from smil_regressor.data.synthetic_frame import Frame

CM_PER_UNIT = 10.0
NEAR_CM = 10.0
"""Unreal's near plane, which its projection matrix states."""


def write_replicant(
    folder: Path,
    body: BodyModel,
    *,
    samples: int,
    views: int,
    resolution: int,
    seed: int,
    frames_per_session: int = 8,
    difficulty: Difficulty = EXACT,
) -> None:
    """Write a set into an empty folder; its name is the set's. One view gives the layout of one camera.

    `missing_views` leave "subject Data" empty. Labels come from a renderer, so `missing_joints` has no meaning here.
    """
    size_hw = (0, 0)
    frames = render_frames(
        body, samples=samples, views=views, resolution=resolution, seed=seed,
        frames_per_session=frames_per_session, difficulty=difficulty, ideal_lenses=True,
    )  # fmt: skip
    for number, frame in enumerate(frames):
        size_hw = frame.rig.size_hw
        for view in range(views):
            _write_view(folder, frame, number, view, body)
    batch = {
        "Name": folder.name,
        "Iterations": samples,
        "Image Resolution": {"x": size_hw[1], "y": size_hw[0]},
        "Seed": seed,
        "Subject Variations": {"1": {"Class": "synthetic", "Scale": CM_PER_UNIT}},
    }
    (folder / f"_BatchData_{folder.name}.json").write_text(json.dumps(batch), encoding="utf-8")


def _write_view(folder: Path, frame: Frame, number: int, view: int, body: BodyModel) -> None:
    many = len(frame.rig.names) > 1
    stem, end = (f"{folder.name}_{number:05d}", f"_CAM{view}") if many else (f"{folder.name}_{number:02d}", "")
    animal = _animal(frame, view, body) if frame.view_mask[view] else None
    data = {
        "iteration": number,
        "camera": _camera(frame, view),
        "subject Data": [] if animal is None else [{"1": animal}],
    }
    (folder / f"{stem}{end}.json").write_text(json.dumps({"iterationData": data}), encoding="utf-8")
    (folder / f"{stem}{end}.JPG").write_bytes(encode_jpeg(frame.images[view]))
    (folder / f"{stem}_ID{end}.png").write_bytes(encode_png(_red(frame.masks[view].astype(np.uint8) * 255)))
    if many:
        (folder / f"{stem}_Depth{end}.png").write_bytes(encode_png(_red(_depth_levels(frame.depth[view]))))


def _camera(frame: Frame, view: int) -> dict[str, Any]:
    rotation, place = frame.rig.cam_from_world[view, :3, :3], frame.rig.cam_from_world[view, :3, 3]
    M, t = MIRROR @ rotation.T @ MIRROR, CM_PER_UNIT * MIRROR @ place
    height, width = frame.rig.size_hw
    narrow = 2 * frame.rig.K[view, 0, 0] / width  # 1 / tan(FOV / 2)
    forward = M[:, 2]
    rows = np.concatenate([M, t[None]])
    seen = np.concatenate([rows * [narrow, narrow * width / height, 0.0], rows[:, 2:]], axis=1)
    seen[3, 2] = NEAR_CM
    return {
        "Location": _named(-M @ t, "xyz"),
        "Rotation": {
            "pitch": float(np.degrees(np.arcsin(forward[2]))),
            "yaw": float(np.degrees(np.arctan2(forward[1], forward[0]))),
            "roll": 0.0,
        },
        "FOV": float(np.degrees(2 * np.arctan(1 / narrow))),
        "View Matrix": _planes(np.concatenate([rows, [[0.0], [0.0], [0.0], [1.0]]], axis=1)),
        "View Projection Matrix": _planes(seen),
    }


def _animal(frame: Frame, view: int, body: BodyModel) -> dict[str, Any]:
    """2D positions from the corner of the picture, 3D in Unreal's world, rotations of bones in their parents' frames."""
    pixels = frame.keypoints_px[view] + 0.5
    points = CM_PER_UNIT * frame.joints_world @ MIRROR
    local = Rotation.from_matrix(MIRROR @ frame.rotations @ MIRROR).as_quat()
    everywhere = _global_rotations(frame.rotations, body.parents.tolist())
    turned = Rotation.from_matrix(MIRROR @ everywhere @ MIRROR).as_quat()
    low, high = pixels.min(0), pixels.max(0)
    return {
        "2DBounds": {"xmin": low[0], "xmax": high[0], "ymin": low[1], "ymax": high[1]},
        "keypoints": {
            name: {
                "2DPos": _named(pixels[j], "xy"),
                "3DPos": _named(points[j], "xyz"),
                "quaternion": _named(local[j], "xyzw"),
                "globalRotation": _named(turned[j], "xyzw"),
            }
            for j, name in enumerate(body.joint_names)
        },
        "shape betas": {f"PC_{i:02d}": float(value) for i, value in enumerate(frame.pose.betas, start=1)},
    }


def _global_rotations(rotations: Float[np.ndarray, "j 3 3"], parents: Sequence[int]) -> Float[np.ndarray, "j 3 3"]:
    turned = rotations.copy()
    for joint, parent in enumerate(parents):
        while parent >= 0:
            turned[joint] = rotations[parent] @ turned[joint]
            parent = parents[parent]
    return turned


def _depth_levels(depth: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """255 is ten metres and farther, and what has no surface."""
    levels = np.where(depth < 0, 255.0, CM_PER_UNIT * depth / DEPTH_CM_PER_LEVEL)
    return np.minimum(np.round(levels), 255).astype(np.uint8)


def _red(levels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.stack([levels, np.zeros_like(levels), np.zeros_like(levels)], axis=-1)


def _planes(rows: Float[np.ndarray, "4 4"]) -> dict[str, dict[str, float]]:
    return {f"{axis}Plane": _named(row, "xyzw") for axis, row in zip("xyzw", rows, strict=True)}


def _named(vector: Float[np.ndarray, " d"], axes: str) -> dict[str, float]:
    return dict(zip(axes, vector.tolist(), strict=True))
