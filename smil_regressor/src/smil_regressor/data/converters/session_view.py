"""One camera of a SLEAP session: tracks and calibration brought together, one labelled picture at a time."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int, UInt8

from posecore.errors import InputError
from smil_regressor.calibration import Maps, RigCamera, undistort_image
from smil_regressor.data.converters.crops import CropMode
from smil_regressor.data.converters.session import CameraFiles, Session
from smil_regressor.data.converters.tracks import OneTrack, read_reprojections, read_tracks
from smil_regressor.data.converters.views import View


@dataclass(frozen=True)
class SleapOptions:
    """How sessions are read; the same for all sessions of a file."""

    resolution: int
    """Side of the square input pictures, pixels."""
    crop: CropMode = "default"
    confidence_threshold: float = 0.5
    """2D points below it are hidden."""
    frame_skip: int = 1
    """Every n-th frame."""
    max_frames: int | None = None
    """Per session."""
    min_views: int = 2
    track: str | None = None
    """Name of the animal's track, or "most_seen"; None: each file has only one."""
    undistort: bool = True
    load_3d: bool = True
    use_reprojections: bool = False
    """2D labels from the session's reprojections.h5 instead of the tracks."""


@dataclass(frozen=True)
class SessionView:
    """One camera of a session: its calibration, its track, and the maps that straighten its pictures."""

    name: str
    files: CameraFiles
    rig: RigCamera | None
    track: OneTrack
    """Undistorted where the options say so."""
    maps: Maps | None

    def at(
        self,
        frame: int,
        image: UInt8[np.ndarray, "h w 3"],
        index: Int[np.ndarray, " j"],
        outliers: Bool[np.ndarray, " j"],
        options: SleapOptions,
    ) -> View:
        """The labelled picture of one frame, joints in the model's order."""
        if self.rig is not None and image.shape[1::-1] != self.rig.size_wh:
            raise InputError(
                f"{self.files.video}: {image.shape[1]}x{image.shape[0]} pixels, but the calibration of {self.name} "
                f"is for {self.rig.size_wh[0]}x{self.rig.size_wh[1]}"
            )
        joints = np.full((len(index), 2), np.nan)
        scores = np.zeros(len(index))
        if frame < len(self.track.points_px):
            joints = np.where(index[:, None] >= 0, self.track.points_px[frame][index], np.nan)
            # peaks of confidence maps may exceed 1 a little
            scores = np.minimum(self.track.scores[frame][index], 1.0)
        known = np.isfinite(joints).all(-1) & (scores >= options.confidence_threshold) & (scores > 0) & ~outliers
        return View(
            image=image if self.maps is None else undistort_image(image, self.maps),
            keypoints_px=np.where(known[:, None], joints, 0.0),
            visibility=np.where(known, scores, 0.0),
            K=None if self.rig is None else self.rig.K,
            cam_from_world=None if self.rig is None else self.rig.cam_from_world,
        )


def open_view(session: Session, files: CameraFiles, options: SleapOptions) -> SessionView:
    """Read the tracks of a camera; its video is read elsewhere, frame by frame."""
    rig = session.rig_camera(files.name)
    track = read_tracks(files.tracks).select(options.track)
    if options.use_reprojections:
        if session.reprojections is None:
            raise InputError(f"{session.folder}: no reprojections*.h5 in it, but reprojections were asked for")
        track = track.with_points(read_reprojections(session.reprojections, files.name)[:, track.index])
    if rig is None or not options.undistort:
        return SessionView(files.name, files, rig, track, None)
    straight = replace(track, points_px=rig.undistort_points(track.points_px))
    return SessionView(files.name, files, rig, straight, rig.undistortion_maps())
