"""From pictures, videos, sessions and data files to parameters, overlays and meshes on disk."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np
import torch
from jaxtyping import Float

from posecore.data.images import decode_image
from posecore.data.video import iter_frames, video_length
from posecore.draw import PREDICTION, Picture, draw_mesh_overlay, draw_skeleton, tile, write_picture
from posecore.errors import InputError
from posecore.rendering import rasterize, shade_raster
from smil_regressor.animation import smooth_poses, write_animation
from smil_regressor.calibration import RigCamera, read_calibration, undistort_image
from smil_regressor.data.converters.session import open_session
from smil_regressor.data.files import open_file
from smil_regressor.predict import Posable, Poses, Predictor, View

logger = logging.getLogger(__name__)

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".m4v")
DATA = (".h5", ".hdf5")
MESH_COLOR = (0.95, 0.65, 0.3)
SHEET_HEIGHT = 360

MeshFormat = Literal["obj", "ply", "glb"]
Mode = Literal["auto", "frames", "views"]


@dataclass(frozen=True)
class Moment:
    """What is predicted at once."""

    name: str
    """Of its files."""
    views: list[View]
    sequence: str = ""
    """Moments of the same sequence follow each other in time; smoothing keeps sequences apart."""


@dataclass(frozen=True)
class Calibrated:
    """A rig's camera in the network's unit, and the maps that straighten its pictures, which are costly and made once."""

    rig: RigCamera
    maps: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, camera: RigCamera, metres_per_unit: float) -> Self:
        """The camera in the network's unit."""
        cam_from_world = camera.cam_from_world.copy()
        cam_from_world[:3, 3] *= metres_per_unit
        return cls(replace(camera, cam_from_world=cam_from_world), camera.undistortion_maps())


def predict_files(
    checkpoint: Path,
    inputs: Sequence[Path],
    output: Path,
    *,
    calibration: Path | None = None,
    world_scale: float | None = None,
    camera_names: Sequence[str] | None = None,
    mode: Mode = "auto",
    smal_file: Path | None = None,
    mesh_format: MeshFormat | None = "obj",
    max_frames: int | None = None,
    every: int = 1,
    smoothing: int = 1,
    batch_size: int = 8,
    device: str = "auto",
) -> dict[str, Any]:
    """Predict all moments of the inputs; see `smil predict --help` for the arguments.

    Writes for each moment NAME_overlay.png, NAME.json and a mesh, and for all of them animation.npz with cameras.json.

    Raises:
        InputError: Nothing to predict, unreadable files, or cameras that do not fit the network.
    """
    if smoothing < 1 or smoothing % 2 == 0:
        raise InputError(f"--smoothing {smoothing}: an odd number of frames is needed")
    predictor = Predictor.load(checkpoint, smal_file, device)
    rig = None if calibration is None else _calibrated(read_calibration(calibration), predictor, world_scale)
    found = _moments(inputs, predictor, rig, camera_names, mode, every, world_scale)
    moments = islice(found, max_frames)
    output.mkdir(parents=True, exist_ok=True)
    parts: list[Poses] = []
    names: list[str] = []
    sequences: list[str] = []
    while batch := list(islice(moments, batch_size)):
        poses = predictor([moment.views for moment in batch])
        parts.append(poses)
        names += [moment.name for moment in batch]
        sequences += [moment.sequence for moment in batch]
        if smoothing == 1:
            for row, moment in enumerate(batch):
                write_frame(output, moment.name, poses, row, moment.views, predictor.loaded, mesh_format)
        logger.info("%d frames", len(names))
    if not names:
        raise InputError(f"predict: no pictures in {', '.join(map(str, inputs))}")
    poses = concatenate(parts)
    if smoothing > 1:
        poses = smooth_poses(poses, sequences, smoothing, predictor.loaded)
        again = islice(_moments(inputs, predictor, rig, camera_names, mode, every, world_scale), max_frames)
        for row, moment in enumerate(again):
            write_frame(output, moment.name, poses, row, moment.views, predictor.loaded, mesh_format)
    write_animation(output, names, poses, predictor.loaded)
    return {"output": str(output), "frames": len(names), "animation": str(output / "animation.npz")}


def write_frame(
    folder: Path,
    name: str,
    poses: Poses,
    row: int,
    views: Sequence[View],
    loaded: Posable,
    mesh: MeshFormat | None,
) -> None:
    """NAME.json, NAME_overlay.png and NAME.<mesh> of one moment."""
    (folder / f"{name}.json").write_text(json.dumps(pose_to_dict(poses, row), indent=2) + "\n", encoding="utf-8")
    write_picture(folder / f"{name}_overlay.png", overlay_sheet(poses, row, views, loaded))
    if mesh is not None:
        import trimesh

        faces = loaded.body.model.faces.cpu().numpy()
        trimesh.Trimesh(poses.vertices_world[row], faces, process=False).export(folder / f"{name}.{mesh}")


def pose_to_dict(poses: Poses, row: int) -> dict[str, Any]:
    """One moment as plain values; the header says frame and unit."""
    optional = {"log_scales": poses.log_scales, "joint_offsets": poses.joint_offsets}
    views = [
        {
            "camera": poses.camera_order[slot] if 0 <= slot < len(poses.camera_order) else None,
            "K": poses.K[row, v].tolist(),
            "cam_from_world": poses.cam_from_world[row, v].tolist(),
            "joints_px": poses.joints_px[row, v].tolist(),
            "in_front": poses.in_front[row, v].tolist(),
        }
        for v, slot in enumerate(poses.camera_slots[row].tolist())
        if poses.view_mask[row, v]
    ]
    return {
        "convention": "OpenCV cameras (x right, y down, z forward), pixel centres at integers, axis-angle in radians; "
        "lengths in the unit of the training data's world",
        "joint_names": list(poses.joint_names),
        "axis_angles": poses.axis_angles[row].tolist(),
        "betas": poses.betas[row].tolist(),
        "translation": poses.translation[row].tolist(),
        **{key: None if value is None else value[row].tolist() for key, value in optional.items()},
        "mesh_scale": None if poses.mesh_scale is None else float(poses.mesh_scale[row]),
        "joints_world": poses.joints_world[row].tolist(),
        "views": views,
    }


def overlay_sheet(poses: Poses, row: int, views: Sequence[View], loaded: Posable) -> Picture:
    """Each view that has a camera with the predicted skeleton, and beneath it the predicted mesh."""
    parents = loaded.body.model.parents.tolist()
    skeletons, meshes, captions = [], [], []
    for v, view in enumerate(views):
        if not poses.view_mask[row, v]:
            continue
        grow = SHEET_HEIGHT / view.image.shape[0]
        size = (SHEET_HEIGHT, round(view.image.shape[1] * grow))
        image = cv2.resize(view.image, size[::-1], interpolation=cv2.INTER_AREA if grow < 1 else cv2.INTER_LINEAR)
        points = (poses.joints_px[row, v] + 0.5) * grow - 0.5
        skeletons.append(draw_skeleton(image, points, parents, poses.in_front[row, v], PREDICTION))
        rgb, alpha = _render(poses, row, v, size, grow, loaded)
        meshes.append(draw_mesh_overlay(image, rgb, alpha, opacity=0.85))
        captions.append(view.camera or f"view {v}")
    return tile([*skeletons, *meshes], [*captions, *("mesh" for _ in captions)], columns=len(captions))


def concatenate(parts: Sequence[Poses]) -> Poses:
    """Poses of several batches as one; all padded to the largest number of views."""
    most = max(part.view_mask.shape[1] for part in parts)
    per_view = ("view_mask", "camera_slots", "K", "cam_from_world", "joints_px", "in_front")
    columns: dict[str, Any] = {}
    for name, first in vars(parts[0]).items():
        if isinstance(first, tuple) or first is None:
            columns[name] = first
            continue
        values = [getattr(part, name) for part in parts]
        if name in per_view:
            values = [np.pad(v, [(0, 0), (0, most - v.shape[1]), *[(0, 0)] * (v.ndim - 2)]) for v in values]
        columns[name] = np.concatenate(values)
    return Poses(**columns)


def _render(
    poses: Poses, row: int, v: int, size: tuple[int, int], grow: float, loaded: Posable
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
    K = poses.K[row, v].copy()
    K[:2, :2] *= grow
    K[:2, 2] = (K[:2, 2] + 0.5) * grow - 0.5
    camera = poses.cam_from_world[row, v]
    vertices = poses.vertices_world[row] @ camera[:3, :3].T + camera[:3, 3]
    points, faces = torch.from_numpy(vertices)[None].float(), loaded.body.model.faces.cpu()
    intrinsics = torch.from_numpy(K)[None].float()
    raster = rasterize(points, faces, intrinsics, size, loaded.renderer)
    colors = torch.tensor(MESH_COLOR).expand(1, points.shape[1], 3)
    rgb = shade_raster(raster, points, faces, colors)
    return rgb[0].numpy(), (raster.face_ids[0] >= 0).float().numpy()


def _calibrated(cameras: Sequence[RigCamera], predictor: Predictor, world_scale: float | None) -> dict[str, Calibrated]:
    """Cameras in the network's unit: metres where the training data said its unit, else the data's own.

    Raises:
        InputError: The network works in metres, and the calibration's unit was not told; or the reverse.
    """
    in_metres = predictor.loaded.facts.world_scale is not None
    if in_metres and world_scale is None:
        raise InputError(
            "--world-scale: the network works in metres; tell the metres per unit of the calibration (0.001 for millimetres)"
        )
    if not in_metres and world_scale is not None:
        raise InputError(
            "--world-scale: the training data did not tell its unit, so the calibration must be in the same one"
        )
    return {camera.name: Calibrated.of(camera, world_scale or 1.0) for camera in cameras}


def _moments(
    inputs: Sequence[Path],
    predictor: Predictor,
    rig: dict[str, Calibrated] | None,
    names: Sequence[str] | None,
    mode: Mode,
    every: int,
    world_scale: float | None,
) -> Iterator[Moment]:
    """Every n-th moment of the inputs, in the frame that the network was trained in."""
    for path in inputs:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    moments: Iterator[Moment] = islice(_all_moments(inputs, predictor, rig, names, mode, world_scale), 0, None, every)
    if predictor.loaded.facts.world_frame == "first_view":
        order = predictor.loaded.facts.camera_order
        moments = (replace(moment, views=in_first_frame(moment.views, order)) for moment in moments)
    yield from moments


def _all_moments(
    inputs: Sequence[Path],
    predictor: Predictor,
    rig: dict[str, Calibrated] | None,
    names: Sequence[str] | None,
    mode: Mode,
    world_scale: float | None,
) -> Iterator[Moment]:
    if len(inputs) == 1 and inputs[0].suffix.lower() in DATA:
        yield from _from_data(inputs[0], predictor)
    elif len(inputs) == 1 and inputs[0].is_dir() and list(inputs[0].glob("calibration.toml")):
        yield from _from_session(inputs[0], predictor, names, world_scale)
    elif all(path.suffix.lower() in VIDEOS for path in inputs):
        yield from _from_videos(inputs, predictor, rig, names, mode)
    else:
        yield from _from_pictures(_listed(inputs), predictor, rig, names, mode)


def _listed(inputs: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
            if not found:
                raise InputError(f"{path}: no picture in it ({', '.join(PICTURES)}), and it is no session either")
            files += found
        elif path.suffix.lower() in PICTURES:
            files.append(path)
        elif path.suffix.lower() in (*VIDEOS, *DATA):
            raise InputError(f"{path}: cannot be predicted together with inputs of another kind; give it alone")
        else:
            raise InputError(
                f"{path}: neither a picture ({', '.join(PICTURES)}) nor a video, a session or an HDF5 file"
            )
    return files


def _distinct_names(files: Sequence[Path]) -> list[str]:
    """Names for the outputs: the files' own, with the folder's or a number in front where they repeat."""
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        names = [f"{file.parent.name}_{file.stem}" for file in files]
    if len(set(names)) < len(names):
        names = [f"{number:06d}_{file.stem}" for number, file in enumerate(files)]
    return names


def _from_pictures(
    files: Sequence[Path],
    predictor: Predictor,
    rig: dict[str, Calibrated] | None,
    names: Sequence[str] | None,
    mode: Mode,
) -> Iterator[Moment]:
    """Pictures as separate frames of one camera, or as the views of one moment."""
    together = mode == "views" or (mode == "auto" and predictor.loaded.config.mode == "multiview" and names is not None)
    if together:
        yield Moment(files[0].stem, _views([decode_image(file, str(file)) for file in files], rig, names))
        return
    for name, file in zip(_distinct_names(files), files, strict=True):
        yield Moment(name, _views([decode_image(file, str(file))], rig, names), str(file.parent))


def _from_videos(
    files: Sequence[Path],
    predictor: Predictor,
    rig: dict[str, Calibrated] | None,
    names: Sequence[str] | None,
    mode: Mode,
) -> Iterator[Moment]:
    """Videos of the same moments (one a view), or one after the other."""
    if mode == "frames" or predictor.loaded.config.mode == "singleview":
        for name, file in zip(_distinct_names(files), files, strict=True):
            for number, image in enumerate(iter_frames(file, range(video_length(file)))):
                yield Moment(f"{name}_{number:06d}", _views([image], rig, names), str(file))
        return
    for number, images in enumerate(_together(files)):
        yield Moment(f"frame_{number:06d}", _views(images, rig, names or [file.stem for file in files]))


def _together(videos: Sequence[Path]) -> Iterator[list[Picture]]:
    """Frames of the same moments.

    Raises:
        InputError: Videos differ in length, so that nobody knows which frames belong together.
    """
    lengths = [video_length(video) for video in videos]
    if len(set(lengths)) > 1:
        told = ", ".join(f"{video.name} {length}" for video, length in zip(videos, lengths, strict=True))
        raise InputError(f"predict: views of the same moments need videos of equal length, not {told} frames")
    streams = [iter_frames(video, range(lengths[0])) for video in videos]
    for images in zip(*streams, strict=True):
        yield list(images)


def _from_session(
    folder: Path, predictor: Predictor, names: Sequence[str] | None, world_scale: float | None
) -> Iterator[Moment]:
    """A SLEAP session's videos with its calibration; cameras that the network does not know are left out."""
    session = open_session(folder)
    order = names or predictor.loaded.facts.camera_order
    chosen = sorted((c for c in session.cameras if c.name in order), key=lambda camera: order.index(camera.name))
    if not chosen:
        raise InputError(f"{folder}: none of its cameras is one of the network's: {', '.join(order)}")
    known = [rig for camera in session.cameras if (rig := session.rig_camera(camera.name)) is not None]
    calibrated = _calibrated(known, predictor, world_scale)
    for number, images in enumerate(_together([camera.video for camera in chosen])):
        yield Moment(f"frame_{number:06d}", _views(images, calibrated, [camera.name for camera in chosen]))


def _from_data(path: Path, predictor: Predictor) -> Iterator[Moment]:
    """Samples of a data file, as prediction inputs: their labels are not used."""
    file = open_file(path)
    resolution = int(file.table.attribute("target_resolution") or predictor.loaded.config.model.resolution)
    for index in range(len(file)):
        slots = np.flatnonzero(file.view_mask[index])
        sample = file.read(index, slots, resolution, pictures=True)
        views = [
            View(
                sample.images[v],
                file.camera_order[sample.camera_slots[v]] if predictor.loaded.config.mode == "multiview" else None,
                sample.K[v] if sample.has_camera[v] else None,
                sample.cam_from_world[v] if sample.has_camera[v] else None,
            )
            for v in range(len(slots))
        ]
        if predictor.loaded.config.mode == "singleview":
            for v, view in enumerate(views):
                camera = file.camera_order[sample.camera_slots[v]]
                yield Moment(f"sample_{index:06d}_{v}", [view], f"{sample.session}/{camera}")
        else:
            yield Moment(f"sample_{index:06d}", views, sample.session)


def _views(images: Sequence[Picture], rig: dict[str, Calibrated] | None, names: Sequence[str] | None) -> list[View]:
    """Views with their cameras by name; pictures of calibrated cameras are undistorted."""
    if names is not None and len(names) < len(images):
        raise InputError(f"--cameras: {len(names)} names for {len(images)} views")
    views = []
    for number, image in enumerate(images):
        name = None if names is None else names[number]
        camera = None if rig is None or name is None else rig.get(name)
        if rig is not None and camera is None:
            raise InputError(
                f"--calibration: no camera {name!r} in it; it has {', '.join(rig)} (name them with --cameras)"
            )
        if camera is None:
            views.append(View(image, name))
        else:
            if image.shape[1::-1] != camera.rig.size_wh:
                raise InputError(
                    f"camera {camera.rig.name}: a picture of {image.shape[1]} x {image.shape[0]} pixels, but it was "
                    f"calibrated at {camera.rig.size_wh[0]} x {camera.rig.size_wh[1]}; give pictures as recorded"
                )
            straight = undistort_image(image, camera.maps)
            views.append(View(straight, name, camera.rig.K, camera.rig.cam_from_world))
    return views


def in_first_frame(views: list[View], order: Sequence[str]) -> list[View]:
    """The world moved into the first calibrated view's frame, as SLEAP sessions are trained.

    Args:
        order: Of the network's cameras: views with names come in this order, whatever the order they are given in.
    """
    ranked = sorted(views, key=lambda view: order.index(view.camera) if view.camera in order else 0)
    first = next((view.cam_from_world for view in ranked if view.cam_from_world is not None), None)
    if first is None:
        return views
    world_from_first = np.linalg.inv(first)
    return [
        view if view.cam_from_world is None else replace(view, cam_from_world=view.cam_from_world @ world_from_first)
        for view in views
    ]
