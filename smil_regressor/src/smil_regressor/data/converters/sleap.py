"""SLEAP/Anipose sessions to multi-view samples.

The world of a sample is the frame of its first calibrated view, so that its camera is the identity: a network need not
know where a rig's origin lies. Lengths stay in the calibration's unit; the unit itself (`world_scale`, metres
per unit) is stated by the user and never guessed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from posecore.data.video import iter_frames, video_length
from posecore.errors import InputError
from smil_regressor.data.converters.joints import match_joints
from smil_regressor.data.converters.notes import Notes
from smil_regressor.data.converters.session import Session
from smil_regressor.data.converters.session_view import SessionView, SleapOptions, open_view
from smil_regressor.data.converters.tracks import read_points3d
from smil_regressor.data.converters.views import BodyLabels, View, build_sample, crop_view
from smil_regressor.data.sample import Sample

MIN_JOINTS = 2
"""A view with fewer visible joints says nothing about the pose."""
OUTLIER_DEVIATIONS = 4.0


def iter_sleap(
    session: Session,
    cameras: Sequence[str],
    joint_names: Sequence[str],
    num_betas: int,
    options: SleapOptions,
    *,
    joint_lookup: Mapping[str, str] | None = None,
    betas: Float[np.ndarray, " c"] | None = None,
    notes: Notes | None = None,
) -> Iterator[Sample]:
    """Samples of one session in the order of frames.

    cameras: canonical order of view slots; cameras of the session that are not in it are left out.
    joint_names: the model's. joint_lookup: model name to data name. What is left out is counted in `notes`.
    """
    notes = notes or Notes()
    views = [open_view(session, files, options) for files in session.cameras if files.name in cameras]
    for view in views:
        if view.rig is None:
            notes.warn(f"{session.folder}: camera {view.name} is not in a calibration.toml: 2D supervision only")
    index = _joint_index(views, joint_names, joint_lookup)
    _tell_unused(session, views[0].track.node_names, index, notes)
    points3d = _points3d(session, views, options, len(index), index)
    frames = _frames(views, options)
    streams = {view.name: iter_frames(view.files.video, frames) for view in views}
    for frame in frames:
        key = f"{session.folder}[{frame}]"
        kept: dict[str, View] = {}
        world = points3d[frame] if frame < len(points3d) else np.full((len(index), 3), np.nan)
        outliers = find_outliers(world)
        world = np.where(outliers[:, None], np.nan, world)
        for view in views:
            image = next(streams[view.name])
            cropped = crop_view(view.at(frame, image, index, outliers, options), options.crop, options.resolution)
            if cropped is None or (cropped.visibility > 0).sum() < MIN_JOINTS:
                notes.drop(f"{key}.{view.name}", f"view with fewer than {MIN_JOINTS} visible joints")
            else:
                kept[view.name] = cropped
        if len(kept) < options.min_views:
            notes.drop(key, f"frame with fewer than {options.min_views} usable views")
            continue
        slots, world = first_view_frame([kept.get(name) for name in cameras], world)
        labels = BodyLabels(keypoints_world=world, num_betas=num_betas, betas=betas)
        yield build_sample(key, session.name, frame, slots, options.resolution, labels)


def find_outliers(points: Float[np.ndarray, "j 3"]) -> Bool[np.ndarray, " j"]:
    """Joints whose distance to the median joint exceeds the median distance by 4 standard deviations.

    With fewer than 15 joints no point can be that far out: the deviation includes the outlier itself.
    """
    known = np.isfinite(points).all(-1)
    outliers = np.zeros(len(points), dtype=bool)
    if known.any():
        distances = np.linalg.norm(points[known] - np.median(points[known], axis=0), axis=1)
        outliers[known] = distances > np.median(distances) + OUTLIER_DEVIATIONS * distances.std()
    return outliers


def first_view_frame(
    views: Sequence[View | None], world: Float[np.ndarray, "j 3"]
) -> tuple[list[View | None], Float[np.ndarray, "j 3"]]:
    """Cameras and 3D points in the frame of the first calibrated view; missing (NaN) points stay missing."""
    first = next((v.cam_from_world for v in views if v is not None and v.cam_from_world is not None), None)
    if first is None:
        return list(views), world
    world_from_first = np.linalg.inv(first)
    moved: list[View | None] = []
    for view in views:
        if view is not None and view.cam_from_world is not None:
            view = replace(view, cam_from_world=view.cam_from_world @ world_from_first)
        moved.append(view)
    return moved, world @ first[:3, :3].T + first[:3, 3]


def _joint_index(
    views: Sequence[SessionView], joint_names: Sequence[str], lookup: Mapping[str, str] | None
) -> Int[np.ndarray, " j"]:
    """For each joint of the model the node of the tracks; all cameras must list the same nodes."""
    if not views:
        raise InputError("no camera is left; exclude fewer")
    nodes = views[0].track.node_names
    for view in views[1:]:
        if view.track.node_names != nodes:
            raise InputError(f"{view.files.tracks}: nodes differ from those of {views[0].files.tracks}")
    return match_joints(str(views[0].files.tracks), nodes, joint_names, lookup)


def _tell_unused(session: Session, nodes: Sequence[str], index: Int[np.ndarray, " j"], notes: Notes) -> None:
    """Say which tracked nodes no joint of the model takes: mostly other spellings, which a lookup table would match."""
    unused = [name for number, name in enumerate(nodes) if number not in index]
    if unused:
        matched = int((index >= 0).sum())
        notes.warn(
            f"{session.folder}: nodes {', '.join(unused)} are no joints of the model and are not used; {matched} of its "
            f"{len(index)} joints have labels (--joint-lookup says which node is which joint)"
        )


def _points3d(
    session: Session,
    views: Sequence[SessionView],
    options: SleapOptions,
    joints: int,
    index: Int[np.ndarray, " j"],
) -> Float[np.ndarray, "f j 3"]:
    """3D points of the chosen track in the model's order; no rows where there are none."""
    if session.points3d is None or not options.load_3d:
        return np.zeros((0, joints, 3))
    points = read_points3d(session.points3d)
    nodes, row = len(views[0].track.node_names), views[0].track.index
    if points.shape[2] != nodes or row >= points.shape[1]:
        raise InputError(
            f"{session.points3d}: tracks: (frames, tracks, nodes, 3) is {points.shape}, but the 2D tracks have "
            f"{nodes} nodes and the chosen track is number {row}"
        )
    return np.where(index[:, None] >= 0, points[:, row][:, index], np.nan)


def _frames(views: Sequence[SessionView], options: SleapOptions) -> list[int]:
    """Frames that every video has and at least one camera has labels for."""
    length = min(video_length(view.files.video) for view in views)
    labelled = max(len(view.track.points_px) for view in views)
    frames = list(range(0, min(length, labelled), options.frame_skip))
    return frames[: options.max_frames]
