"""What a record must satisfy before anything learns from it; each problem names the frame and the member."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from handvit.data.members import CHANNELS, MASKS
from handvit.data.records import IMPLAUSIBLE_REPROJECTION_PX, ClipRecord
from posecore.data.headers import read_header
from posecore.errors import InputError

METRES_BELOW_MM = 10.0
"""No camera is that close to a hand: depths below it are metres."""


def check_record(record: ClipRecord, where: str, numbers: Sequence[int] | None = None) -> None:
    """Refuse what cannot be true. Pictures that were not read (empty bytes) are left out.

    `numbers` are those of its frames in the stored clip, for messages; None: from 0 on.

    A frame without a valid 2D joint may have an empty box: no hand is seen in it, and the filter drops it.

    Raises:
        InputError: One line for each kind of problem, with the first frame that has it.
    """
    problems = [
        f"{where}[{frame if numbers is None else numbers[frame]}]: {problem}" for frame, problem in _problems(record)
    ]
    if problems:
        raise InputError(problems)


def reprojection_error_px(record: ClipRecord) -> Float[np.ndarray, "t 21"]:
    """Pixels between 2D joints and projected 3D joints; 0 where one of them or the camera is not known."""
    depth = record.joint_cam_mm[..., 2]
    known = (record.joint_2d_valid > 0) & (record.joint_3d_valid > 0) & (record.has_intr > 0)[:, None] & (depth > 0)
    safe_depth = np.where(known, depth, 1.0)
    projected = record.joint_cam_mm[..., :2] / safe_depth[..., None] * record.focal[:, None] + record.princpt[:, None]
    error = np.linalg.norm(projected - record.joint_img, axis=-1)
    return np.asarray(np.where(known, error, 0.0))


def _problems(record: ClipRecord) -> Iterator[tuple[int, str]]:
    broken = list(_not_finite(record))
    yield from broken
    if broken:
        return  # comparisons with NaN tell nothing more
    for name in MASKS:
        values = getattr(record, name)
        if (frame := _first((values != 0) & (values != 1))) is not None:
            yield frame, f"{name} has values other than 0 and 1"
    yield from _of_boxes(record)
    focal_is_wrong = (record.has_intr > 0) & (record.focal <= 0).any(1)
    if (frame := _first(focal_is_wrong)) is not None:
        yield frame, f"focal is {_numbers(record.focal[frame])} where has_intr is 1; it must be positive"
        return
    yield from _of_depths(record)


def _not_finite(record: ClipRecord) -> Iterator[tuple[int, str]]:
    if np.isfinite(np.concatenate([getattr(record, channel.field).ravel() for channel in CHANNELS.values()])).all():
        return
    for name, channel in CHANNELS.items():
        values = getattr(record, channel.field)
        if not np.isfinite(values).all():
            frame = _first(~np.isfinite(values))
            assert frame is not None
            yield frame, f"{name} has values that are no finite numbers; write 0 and a mask of 0 for what is unknown"


def _of_depths(record: ClipRecord) -> Iterator[tuple[int, str]]:
    valid = record.joint_3d_valid > 0
    depth = record.joint_cam_mm[..., 2]
    if (frame := _first(valid & (depth <= 0))) is not None:
        worst = depth[frame][valid[frame]].min()
        yield frame, f"joint_cam has depth {worst:.6g} mm under joint_3d_valid; depths are positive (OpenCV axes)"
    near = valid.any(1) & (np.where(valid, depth, 0.0).max(1) < METRES_BELOW_MM) & (np.abs(depth).max(1) > 0)
    if (frame := _first(near & ~(valid & (depth <= 0)).any(1))) is not None:
        nearest = depth[frame][valid[frame]].max()
        yield frame, f"joint_cam looks like metres, mm are needed: its largest depth is {nearest:.6g}"
    error = reprojection_error_px(record)
    if (frame := _first(error > IMPLAUSIBLE_REPROJECTION_PX)) is not None:
        joint = int(error[frame].argmax())
        yield (
            frame,
            (
                f"joint_cam and joint_img disagree: joint {joint} projects {error[frame, joint]:.4g} px away from its 2D "
                f"point, {IMPLAUSIBLE_REPROJECTION_PX:g} px is the bound; check units, focal, princpt and joint order"
            ),
        )


def _of_boxes(record: ClipRecord) -> Iterator[tuple[int, str]]:
    x1, y1, x2, y2 = record.hand_bbox.T
    has_hand = (record.joint_2d_valid > 0).any(1)
    empty = has_hand & ((x2 <= x1) | (y2 <= y1))
    if (frame := _first(empty)) is not None:
        yield (
            frame,
            f"hand_bbox {_numbers(record.hand_bbox[frame])} has no area; expected x1,y1,x2,y2 with x1 < x2, y1 < y2",
        )
    for frame in np.flatnonzero(has_hand & ~empty).tolist():
        size = _picture_size(record.frames[frame])
        if size is None:
            continue
        width, height = size
        if x2[frame] < -0.5 or y2[frame] < -0.5 or x1[frame] > width - 0.5 or y1[frame] > height - 0.5:
            yield (
                frame,
                f"hand_bbox {_numbers(record.hand_bbox[frame])} lies outside of the {width}x{height} picture",
            )
            return


def _picture_size(data: bytes) -> tuple[int, int] | None:
    header = read_header(data) if data else None
    return None if header is None else (header.width, header.height)


def _first(wrong: Bool[np.ndarray, "t ..."]) -> int | None:
    if not wrong.any():  # nearly always, and asked for every clip that is loaded
        return None
    return int(np.flatnonzero(wrong.reshape(len(wrong), -1).any(1))[0])


def _numbers(values: Float[np.ndarray, " n"]) -> str:
    return ",".join(f"{value:.6g}" for value in values)
