"""The rig of a SLEAP session, judged, used and mended with the session's own 2D tracks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float

from posecore.errors import InputError
from smil_regressor.calibration import (
    RefinedRig,
    RigCamera,
    RigReport,
    check_rig,
    ransac_triangulate,
    refine_cameras,
    write_calibration,
)
from smil_regressor.data.converters.session import Session
from smil_regressor.data.converters.tracks import Tracks, read_points3d, read_tracks


@dataclass(frozen=True)
class RigPoints:
    """Tracked points of the calibrated cameras of a session: v cameras, f frames, k nodes."""

    cameras: tuple[RigCamera, ...]
    tracks: Tracks
    """Of the first camera: names, and how many tracks there are."""
    track: int
    points_px: Float[np.ndarray, "v f k 2"]
    """Recorded pixels, NaN where not labelled."""
    scores: Float[np.ndarray, "v f k"]


@dataclass(frozen=True)
class Triangulation:
    """What `triangulate_session` wrote."""

    path: Path
    num_frames: int
    share: float
    """Of all points that could be triangulated."""
    report: RigReport
    """The rig, measured against the new points."""


def read_rig_points(session: Session, track: str | None = None, exclude: Sequence[str] = ()) -> RigPoints | None:
    """Tracks of the session's calibrated cameras; None where there are fewer than two."""
    unknown = [name for name in exclude if name not in {camera.name for camera in session.cameras}]
    if unknown:
        raise InputError(f"{session.folder}: exclude cameras: there is no camera {', '.join(unknown)}")
    files = [camera for camera in session.cameras if camera.name not in exclude]
    pairs = [(rig, camera) for camera in files if (rig := session.rig_camera(camera.name)) is not None]
    if len(pairs) < 2:
        return None
    tracks = [read_tracks(camera.tracks) for _, camera in pairs]
    chosen = [one.select(track) for one in tracks]
    for (_, camera), one in zip(pairs, chosen, strict=True):
        if one.node_names != chosen[0].node_names:
            raise InputError(f"{camera.tracks}: nodes differ from those of {pairs[0][1].tracks}")
    frames = min(len(one.points_px) for one in chosen)
    return RigPoints(
        tuple(rig for rig, _ in pairs),
        tracks[0],
        chosen[0].index,
        np.stack([one.points_px[:frames] for one in chosen]),
        np.stack([one.scores[:frames] for one in chosen]),
    )


def check_session(session: Session, track: str | None = None) -> RigReport | None:
    """The rig's verdict on itself; None where fewer than two cameras are calibrated."""
    found = read_rig_points(session, track)
    if found is None:
        return None
    views, frames, nodes = found.scores.shape
    points3d = None
    if session.points3d is not None:
        rows = read_points3d(session.points3d)[:frames]
        if rows.shape[2] == nodes and found.track < rows.shape[1]:
            padded = np.full((frames, nodes, 3), np.nan)
            padded[: len(rows)] = rows[:, found.track]
            points3d = padded.reshape(-1, 3)
    return check_rig(found.cameras, found.points_px.reshape(views, -1, 2), points3d)


def triangulate_session(
    session: Session,
    output: Path,
    *,
    track: str | None = None,
    exclude: Sequence[str] = (),
    confidence_threshold: float = 0.0,
    threshold_px: float = 15.0,
    seed: int = 0,
) -> Triangulation:
    """Triangulate every tracked point with RANSAC over pairs of cameras and write Anipose's points3d.h5.

    confidence_threshold: 2D points below it have no say. Rows of other tracks stay NaN.
    """
    found = _required(session, track, exclude)
    views, frames, nodes = found.scores.shape
    pixels = np.stack([c.undistort_points(found.points_px[v]) for v, c in enumerate(found.cameras)])
    pixels = pixels.reshape(views, -1, 2)
    scores = found.scores.reshape(views, -1)
    weights = np.where(np.isfinite(pixels).all(-1) & (scores >= confidence_threshold), scores, 0.0)
    projections = np.stack([camera.projection for camera in found.cameras])
    points = ransac_triangulate(pixels, projections, weights, threshold_px=threshold_px, seed=seed).points
    rows = np.full((frames, len(found.tracks.track_names), nodes, 3), np.nan)
    rows[:, found.track] = points.reshape(frames, nodes, 3)
    with h5py.File(output, "w") as file:
        file["tracks"] = rows
        file["tracks"].attrs["Description"] = "Shape: (n_frames, n_tracks, n_nodes, 3)."
        file["node_names"] = np.array(found.tracks.node_names, dtype="S")
    report = check_rig(found.cameras, found.points_px.reshape(views, -1, 2), points)
    return Triangulation(output, frames, float(np.isfinite(points).all(-1).mean()), report)


def refine_session(
    session: Session,
    output: Path,
    *,
    track: str | None = None,
    exclude: Sequence[str] = (),
    refine_focal: bool = False,
    seed: int = 0,
) -> RefinedRig:
    """Bundle-adjust the session's cameras on its tracks and write them as a new calibration.toml.

    Excluded cameras are not in the new file. See `refine_cameras`.
    """
    found = _required(session, track, exclude)
    points = found.points_px.reshape(len(found.cameras), -1, 2)
    refined = refine_cameras(found.cameras, points, refine_focal=refine_focal, seed=seed)
    write_calibration(refined.cameras, output)
    return refined


def _required(session: Session, track: str | None, exclude: Sequence[str]) -> RigPoints:
    found = read_rig_points(session, track, exclude)
    if found is None:
        raise InputError(f"{session.folder}: fewer than two calibrated cameras are left; points need two")
    return found
