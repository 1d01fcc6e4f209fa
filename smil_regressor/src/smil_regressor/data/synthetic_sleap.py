"""Synthetic recordings in the layout of SLEAP and Anipose sessions.

    <folder>/<session>/{calibration.toml, points3d.h5, reprojections.h5}
    <folder>/<session>/<camera>/{<camera>.mp4, <camera>.predictions.slp, <camera>.analysis.h5}

Lengths are in the body model's unit. Pictures and 2D points are as a lens records them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

import cv2
import h5py
import numpy as np
from jaxtyping import Float, Float32

from posecore.bodymodel import BodyModel
from posecore.errors import InputError
from smil_regressor.calibration import RigCamera, write_calibration
from smil_regressor.data.scenes import Rig
from smil_regressor.data.synthetic import EXACT, Difficulty, render_frames
from smil_regressor.data.synthetic_frame import Frame

FRAMES_PER_SECOND = 30
TRACK = "animal"

Maps = tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]


def write_sessions(
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
    """Write the sessions into an existing folder, one frame of each video for one sample."""
    frames = render_frames(
        body, samples=samples, views=views, resolution=resolution, seed=seed,
        frames_per_session=frames_per_session, difficulty=difficulty,
    )  # fmt: skip
    for number, (name, group) in enumerate(groupby(frames, key=lambda frame: frame.session)):
        lenses = _lenses(np.random.default_rng([seed, number, 0, 2]), views, difficulty.distortion)
        _write_session(folder / name, group, lenses, body.joint_names)


@dataclass(frozen=True)
class _Labels:
    """Recorded labels of one session: f frames, v cameras, k nodes."""

    recorded_px: Float[np.ndarray, "f v k 2"]
    """NaN where there is none."""
    exact_px: Float[np.ndarray, "f v k 2"]
    world: Float[np.ndarray, "f k 3"]


def _write_session(
    folder: Path, frames: Iterator[Frame], lenses: Float[np.ndarray, "v 5"], nodes: tuple[str, ...]
) -> None:
    first = next(frames)
    cameras = _cameras(first.rig, lenses)
    for camera in cameras:
        (folder / camera.name).mkdir(parents=True)
    write_calibration(cameras, folder / "calibration.toml")
    labels = _record_videos(folder, chain([first], frames), cameras)
    for v, camera in enumerate(cameras):
        place = folder / camera.name / camera.name
        _write_project(place.with_suffix(".predictions.slp"), labels.recorded_px[:, v], nodes)
        _write_analysis(place.with_suffix(".analysis.h5"), labels.recorded_px[:, v], nodes)
    with h5py.File(folder / "points3d.h5", "w") as file:
        file["tracks"] = labels.world[:, None]
        file["node_names"] = np.array(nodes, dtype="S")
    with h5py.File(folder / "reprojections.h5", "w") as file:
        for v, camera in enumerate(cameras):
            file[camera.name] = labels.exact_px[:, v, None]


def _lenses(rng: np.random.Generator, views: int, distortion: float) -> Float[np.ndarray, "v 5"]:
    """k1, k2, p1, p2, k3 of each camera: barrel distortion that eases off outwards, slightly off centre."""
    k1 = -distortion * rng.uniform(0.7, 1.3, views)
    tangential = 0.01 * distortion * rng.uniform(-1, 1, (2, views))
    return np.stack([k1, -0.2 * k1, *tangential, np.zeros(views)], axis=1)


def _cameras(rig: Rig, lenses: Float[np.ndarray, "v 5"]) -> list[RigCamera]:
    size_wh = rig.size_hw[1], rig.size_hw[0]
    return [RigCamera(name, size_wh, rig.K[v], lenses[v], rig.cam_from_world[v]) for v, name in enumerate(rig.names)]


def _record_videos(folder: Path, frames: Iterable[Frame], cameras: Sequence[RigCamera]) -> _Labels:
    """Write the videos frame by frame, and collect the labels."""
    maps = [_recording_maps(camera) for camera in cameras]
    videos = [_open_video(folder / camera.name / f"{camera.name}.mp4", camera.size_wh) for camera in cameras]
    recorded: list[Float[np.ndarray, "v k 2"]] = []
    exact: list[Float[np.ndarray, "v k 2"]] = []
    world: list[Float[np.ndarray, "k 3"]] = []
    for frame in frames:
        for video, image, lens in zip(videos, frame.images, maps, strict=True):
            seen = cv2.remap(image, *lens, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            video.write(cv2.cvtColor(seen, cv2.COLOR_RGB2BGR))
        pixels = np.stack(
            [_distort(camera, points) for camera, points in zip(cameras, frame.keypoints_px, strict=True)]
        )
        labelled = frame.visible & frame.view_mask[:, None]
        recorded.append(np.where(labelled[..., None], pixels, np.nan))
        exact.append(np.stack([_distort(camera, camera.project(frame.joints_world)) for camera in cameras]))
        world.append(frame.joints_world)
    for video in videos:
        video.release()
    return _Labels(np.stack(recorded), np.stack(exact), np.stack(world))


def _open_video(path: Path, size_wh: tuple[int, int]) -> cv2.VideoWriter:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FRAMES_PER_SECOND, size_wh)
    if not video.isOpened():
        raise InputError(f"{path}: this build of OpenCV cannot write MPEG-4 videos; opencv-python-headless can")
    return video


def _distort(camera: RigCamera, pixels: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """From pixels of a pinhole camera to those of its lens."""
    rays = (pixels - camera.K[:2, 2]) / camera.K[[0, 1], [0, 1]]
    points = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
    recorded = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.K, camera.distortion)[0]
    return np.asarray(recorded[:, 0])


def _recording_maps(camera: RigCamera) -> Maps:
    """For each pixel of the lens the place in the pinhole picture that it sees."""
    width, height = camera.size_wh
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    straight = camera.undistort_points(np.stack([columns, rows], axis=-1)).astype(np.float32)
    if not np.isfinite(straight).all():
        raise InputError(f"distortion: {-camera.distortion[0]:.2f} folds the corners of the picture; 0.3 is mild")
    return straight[..., 0], straight[..., 1]


def _write_project(path: Path, points: Float[np.ndarray, "f k 2"], nodes: tuple[str, ...]) -> None:
    import sleap_io  # slow to import

    skeleton = sleap_io.Skeleton(list(nodes))
    video = sleap_io.Video(filename=f"{path.name.split('.')[0]}.mp4", open_backend=False)
    track = sleap_io.Track(TRACK)
    labelled = np.isfinite(points).all(-1)
    frames = [
        sleap_io.LabeledFrame(
            video=video,
            frame_idx=index,
            instances=[
                sleap_io.PredictedInstance.from_numpy(
                    points[index], skeleton=skeleton, point_scores=labelled[index].astype(float), score=1.0, track=track
                )
            ],
        )
        for index in np.flatnonzero(labelled.any(-1)).tolist()
    ]
    labels = sleap_io.Labels(frames, videos=[video], skeletons=[skeleton], tracks=[track])
    sleap_io.save_slp(labels, str(path), verbose=False)


def _write_analysis(path: Path, points: Float[np.ndarray, "f k 2"], nodes: tuple[str, ...]) -> None:
    labelled = np.isfinite(points).all(-1)
    with h5py.File(path, "w") as file:
        file["tracks"] = points.transpose(2, 1, 0)[None]
        file["point_scores"] = np.where(labelled, 1.0, np.nan).T[None]
        file["instance_scores"] = np.where(labelled.any(-1), 1.0, np.nan)[None]
        file["track_occupancy"] = labelled.any(-1)[:, None]
        file["node_names"] = np.array(nodes, dtype="S")
        file["track_names"] = np.array([TRACK], dtype="S")
        file["edge_inds"] = np.zeros((0, 2), dtype=np.int64)
        file["video_path"] = f"{path.name.split('.')[0]}.mp4"
