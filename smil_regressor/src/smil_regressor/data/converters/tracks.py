"""2D tracks of one camera, as SLEAP writes them: `.slp` projects and analysis `.h5` files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float

from posecore.errors import InputError

MOST_SEEN = "most_seen"
UNTRACKED = "untracked"


@dataclass(frozen=True)
class Tracks:
    """Tracked points of f frames (row = frame of the video), t animals and k nodes."""

    path: Path
    node_names: tuple[str, ...]
    track_names: tuple[str, ...]
    points_px: Float[np.ndarray, "f t k 2"]
    """Recorded pixels, centres at integers; NaN where not labelled."""
    scores: Float[np.ndarray, "f t k"]
    """Confidence; 1 for points that a person placed."""

    def select(self, name: str | None) -> "OneTrack":
        """The track of this name; None for the only one; "most_seen" for the one with most points."""
        seen = np.isfinite(self.points_px).all(-1).any(-1).sum(0)
        if name is None and len(self.track_names) > 1:
            found = ", ".join(f"{n!r} in {s} frames" for n, s in zip(self.track_names, seen, strict=True))
            raise InputError(f"{self.path}: {len(self.track_names)} tracks ({found}); name one, or take {MOST_SEEN!r}")
        if name is None:
            index = 0
        elif name == MOST_SEEN:
            index = int(np.argmax(np.isfinite(self.points_px).all(-1).sum((0, 2))))
        elif name in self.track_names:
            index = self.track_names.index(name)
        else:
            raise InputError(f"{self.path}: no track {name!r}; there are {', '.join(self.track_names)}")
        return OneTrack(self.node_names, index, self.points_px[:, index], self.scores[:, index])


@dataclass(frozen=True)
class OneTrack:
    """One animal of `Tracks`."""

    node_names: tuple[str, ...]
    index: int
    """Its place among the tracks: the row of its 3D points."""
    points_px: Float[np.ndarray, "f k 2"]
    scores: Float[np.ndarray, "f k"]

    def with_points(self, points_px: Float[np.ndarray, "f k 2"]) -> "OneTrack":
        """The same track with other pixels (reprojections), each as sure as a label."""
        return replace(self, points_px=points_px, scores=np.isfinite(points_px).all(-1).astype(np.float64))


def read_tracks(path: Path) -> Tracks:
    """Read a `.slp` or an analysis `.h5`."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; a SLEAP .slp or analysis .h5 is expected")
    return _read_project(path) if path.suffix == ".slp" else _read_analysis(path)


def _read_project(path: Path) -> Tracks:
    import sleap_io  # slow to import; it also moves the points of old formats by half a pixel

    try:
        labels = sleap_io.load_slp(str(path), open_videos=False)
    except (OSError, KeyError, ValueError, IndexError, TypeError) as error:
        raise InputError(f"{path}: not a SLEAP project ({type(error).__name__}: {error})") from None
    if len(labels.videos) != 1 or len(labels.skeletons) != 1:
        raise InputError(
            f"{path}: {len(labels.videos)} videos and {len(labels.skeletons)} skeletons; "
            "one camera's file with one of each is expected"
        )
    nodes = tuple(labels.skeletons[0].node_names)
    by_frame = {int(frame.frame_idx): _instances(frame) for frame in labels.labeled_frames}
    if not by_frame:
        raise InputError(f"{path}: no labelled frame in it")
    names = [track.name for track in labels.tracks]
    used = {name for instances in by_frame.values() for name in instances}
    # tracks in the project's order (3D files number them by it), then animals without a track
    track_names = tuple([n for n in names if n in used] + sorted(used - set(names)))
    frames = max(by_frame) + 1
    points = np.full((frames, len(track_names), len(nodes), 2), np.nan)
    scores = np.zeros(points.shape[:3])
    for frame, instances in by_frame.items():
        for name, (xy, confidence) in instances.items():
            points[frame, track_names.index(name)] = xy
            scores[frame, track_names.index(name)] = confidence
    return Tracks(path, nodes, track_names, points, scores)


def _instances(frame: Any) -> dict[str, tuple[Float[np.ndarray, "k 2"], Float[np.ndarray, " k"]]]:
    """Points and confidence by track; a person's instance replaces the prediction of the same animal."""
    found = {}
    untracked = 0
    corrected = {id(instance.from_predicted) for instance in frame.user_instances if instance.from_predicted}
    predicted = [instance for instance in frame.predicted_instances if id(instance) not in corrected]
    for instance in [*sorted(predicted, key=lambda i: -i.score), *frame.user_instances]:
        if instance.track is not None:
            name = instance.track.name
        else:
            name = UNTRACKED if untracked == 0 else f"{UNTRACKED}_{untracked}"
            untracked += 1
        xy = instance.numpy()
        known = np.isfinite(xy).all(-1)
        confidence = instance.points["score"] if "score" in (instance.points.dtype.names or ()) else known
        found[name] = (xy, np.where(known, confidence, 0.0).astype(np.float64))
    return found


def _read_analysis(path: Path) -> Tracks:
    try:
        with h5py.File(path) as file:
            tracks = _dataset(file, "tracks", path)
            nodes = tuple(name.decode() for name in _dataset(file, "node_names", path))
            scores = np.asarray(file["point_scores"]) if "point_scores" in file else None
            names = tuple(n.decode() for n in np.asarray(file["track_names"])) if "track_names" in file else ()
    except OSError as error:
        raise InputError(f"{path}: not a whole HDF5 file ({error})") from None
    if tracks.ndim != 4 or tracks.shape[1:3] != (2, len(nodes)):
        raise InputError(f"{path}: tracks: shape (tracks, 2, {len(nodes)}, frames) is expected, found {tracks.shape}")
    points = tracks.transpose(3, 0, 2, 1).astype(np.float64)
    known = np.isfinite(points).all(-1)
    if scores is None:
        confidence = known.astype(np.float64)
    elif scores.shape != (tracks.shape[0], len(nodes), tracks.shape[3]):
        raise InputError(f"{path}: point_scores: shape {scores.shape} does not fit tracks {tracks.shape}")
    else:
        confidence = np.where(known, scores.transpose(2, 0, 1), 0.0)
        # points that a person placed have no score
        confidence = np.where(known & ~np.isfinite(confidence), 1.0, confidence)
    if len(names) != tracks.shape[0]:
        names = tuple(f"track_{index}" for index in range(tracks.shape[0]))
    return Tracks(path, nodes, names, points, confidence)


def _dataset(file: Any, name: str, path: Path) -> Any:
    if name not in file:
        raise InputError(f"{path}: {name}: missing; a SLEAP analysis file is expected, this one holds {sorted(file)}")
    return np.asarray(file[name])


def read_points3d(path: Path) -> Float[np.ndarray, "f t k 3"]:
    """Anipose's points3d.h5: row = frame of the video, NaN where missing (0, 0, 0 counts as missing)."""
    points = _by_frame(path, "tracks", 3)
    missing = ~np.isfinite(points).all(-1) | (points == 0).all(-1)
    return np.where(missing[..., None], np.nan, points)


def read_reprojections(path: Path, camera: str) -> Float[np.ndarray, "f t k 2"]:
    """Reprojected 3D points of one camera in recorded pixels: row = frame of the video."""
    return _by_frame(path, camera, 2)


def _by_frame(path: Path, name: str, size: int) -> Float[np.ndarray, "f t k d"]:
    """A dataset whose rows start at the first number of `frames`, where the file has it, else at 0."""
    try:
        with h5py.File(path) as file:
            values = np.asarray(_dataset(file, name, path), dtype=np.float64)
            first = int(np.asarray(file["frames"]).ravel()[0]) if "frames" in file else 0
    except OSError as error:
        raise InputError(f"{path}: not a whole HDF5 file ({error})") from None
    if values.ndim != 4 or values.shape[-1] != size:
        raise InputError(f"{path}: {name}: shape (frames, tracks, nodes, {size}) is expected, found {values.shape}")
    return np.concatenate([np.full((first, *values.shape[1:]), np.nan), values])
