"""Where the files of a SLEAP/Anipose session lie, in either of the two layouts that labs use.

A: `<session>/{calibration.toml, points3d.h5, reprojections*.h5, <camera>/{*.mp4, *.slp, *.analysis.h5}}`
B: `<session>/*_cam<X>.mp4` and `<session>/<name>/{*_cam<X>.h5, points3d.h5}`; calibration.toml in either folder
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from posecore.errors import InputError
from smil_regressor.calibration import RigCamera, read_calibration

VIDEO_ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".MP4", ".AVI")
CAMERA_B = re.compile(r"_cam(?P<camera>[^_.]+)$", re.IGNORECASE)


@dataclass(frozen=True)
class CameraFiles:
    """Video and 2D tracks of one camera."""

    name: str
    video: Path
    tracks: Path


@dataclass(frozen=True)
class Session:
    """The files of one recording."""

    folder: Path
    cameras: tuple[CameraFiles, ...]
    calibration: tuple[RigCamera, ...] | None
    points3d: Path | None
    reprojections: Path | None

    @property
    def name(self) -> str:
        return self.folder.name

    def rig_camera(self, name: str) -> RigCamera | None:
        """The calibrated camera of this name; None where the rig or this camera is not calibrated."""
        return next((camera for camera in self.calibration or () if camera.name == name), None)


def find_sessions(folder: Path) -> list[Session]:
    """The folder itself where it is a session, else every session directly below it, by name."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; a session or a folder of sessions is expected")
    session = _open(folder)
    if session is not None:
        return [session]
    found = [session for child in sorted(folder.iterdir()) if child.is_dir() and (session := _open(child))]
    if not found:
        raise InputError(
            f"{folder}: no session in it; expected <camera>/*.mp4 with *.slp or *.analysis.h5 beside it, "
            "or *_cam<X>.mp4 with <name>/*_cam<X>.h5"
        )
    return found


def open_session(folder: Path) -> Session:
    """The session in this folder."""
    sessions = find_sessions(folder)
    if sessions[0].folder != folder:
        raise InputError(f"{folder}: this holds {len(sessions)} sessions; name one of them")
    return sessions[0]


def camera_names(sessions: Sequence[Session], exclude: Sequence[str] = ()) -> tuple[str, ...]:
    """The canonical order of view slots: sorted union of all names, less the excluded ones, which must exist."""
    names = sorted({camera.name for session in sessions for camera in session.cameras})
    unknown = [name for name in exclude if name not in names]
    if unknown:
        raise InputError(f"exclude cameras: no camera {', '.join(unknown)}; there are {', '.join(names)}")
    return tuple(name for name in names if name not in exclude)


def _open(folder: Path) -> Session | None:
    cameras, data_folder = _layout_a(folder), folder
    if not cameras:
        cameras, data_folder = _layout_b(folder)
    if not cameras:
        return None
    calibration = next((p for f in (folder, data_folder) if (p := f / "calibration.toml").is_file()), None)
    points3d = next((p for f in (data_folder, folder) if (p := f / "points3d.h5").is_file()), None)
    reprojections = sorted(data_folder.glob("reprojections*.h5"))
    rig = None if calibration is None else tuple(read_calibration(calibration))
    named = tuple(CameraFiles(_name_in_rig(c.name, rig), c.video, c.tracks) for c in cameras)
    return Session(folder, named, rig, points3d, reprojections[0] if reprojections else None)


def _layout_a(folder: Path) -> list[CameraFiles]:
    cameras = []
    for child in sorted(path for path in folder.iterdir() if path.is_dir()):
        videos = [path for path in sorted(child.iterdir()) if path.suffix in VIDEO_ENDINGS]
        tracks = _choose(child, ["*.slp", "*.h5"]) if videos else None
        if tracks is None:
            continue
        if len(videos) > 1:
            raise InputError(f"{child}: {len(videos)} videos ({videos[0].name}, {videos[1].name}); one is expected")
        cameras.append(CameraFiles(child.name, videos[0], tracks))
    return cameras


def _layout_b(folder: Path) -> tuple[list[CameraFiles], Path]:
    videos = {
        match["camera"]: path
        for path in sorted(folder.iterdir())
        if path.suffix in VIDEO_ENDINGS and (match := CAMERA_B.search(path.stem))
    }
    for child in sorted(path for path in folder.iterdir() if path.is_dir()):
        tracks = {match["camera"]: path for path in sorted(child.glob("*.h5")) if (match := CAMERA_B.search(path.stem))}
        both = [name for name in videos if name in tracks]
        if both:
            return [CameraFiles(name, videos[name], tracks[name]) for name in both], child
    return [], folder


def _choose(folder: Path, patterns: Sequence[str]) -> Path | None:
    """The file of the first pattern that matches; of several the one that says it was proofread."""
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            proofread = [path for path in found if "proofread" in path.name]
            if len(proofread) != 1:
                raise InputError(f"{folder}: {len(found)} files {pattern}; one, or one called *proofread*, is expected")
            found = proofread
        if found:
            return found[0]
    return None


def _name_in_rig(name: str, rig: Sequence[RigCamera] | None) -> str:
    """Layout B says `A` where the calibration may say `camA`: the calibration's spelling counts."""
    names = {camera.name for camera in rig or ()}
    return f"cam{name}" if name not in names and f"cam{name}" in names else name
