"""Skel4D's HDF5 files to stores: of each frame's free views, those that stand where a rig's do."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from keypoint_nvs.data.converters.nearest_views import ChosenViews, nearest_views
from keypoint_nvs.data.converters.shard_parts import ConversionReport, convert_samples
from keypoint_nvs.data.converters.skel4d_frames import Skel4DFile, Skel4DFrame, Up
from keypoint_nvs.data.records import Cameras, Keypoints, MultiviewSample
from keypoint_nvs.data.rgba_images import made_square, resized
from keypoint_nvs.poses import azimuth_deg_of, centres_of, turn_world
from keypoint_nvs.rig import OBJECT_RADIUS, Rig
from posecore.errors import InputError

FOV_RAD = 0.8575560450553894
"""Vertical field of view of all views."""


def convert_skel4d(
    path: Path,
    output: Path,
    rig: Rig,
    *,
    max_pose_error_deg: float = 5.0,
    skip_far: bool = False,
    up: Up = "z",
    image_px: int | None = None,
    with_joints: bool = False,
    samples_per_shard: int = 1000,
    shard: tuple[int, int] = (0, 1),
) -> ConversionReport:
    """Convert a file; the store's rig is `free` and keeps the cameras.

    Args:
        max_pose_error_deg: How far a view may be turned from the rig's.
        skip_far: Leave out frames without views so near, instead of refusing the file.
        up: The world's axis that points up.
        image_px: Side to which pictures are resized; None: as they are.
        with_joints: Keep `joints` as keypoints; a joint counts as visible where it lies in the picture, also behind a part.
        samples_per_shard: The last shard may have fewer.
        shard: (i, n): the i-th of n parts, i from 0.

    Raises:
        InputError: A frame is damaged, or (without skip_far) no views stand near enough to the rig's; names it.
    """
    file = Skel4DFile(path, up)

    def sample_of(index: int) -> MultiviewSample | None:
        frame = file.read(index, with_joints=with_joints)
        chosen = _chosen(frame, rig, f"{path}: {file.ids[index]}")
        if chosen.errors_deg.max() > max_pose_error_deg:
            if skip_far:
                return None
            raise InputError(_too_far(frame, chosen, rig, max_pose_error_deg, f"{path}: {file.ids[index]}"))
        return _sample(file, index, frame, chosen, image_px)

    return convert_samples(file.ids, sample_of, output, "free", samples_per_shard=samples_per_shard, shard=shard)


def _chosen(frame: Skel4DFrame, rig: Rig, where: str) -> ChosenViews:
    if len(frame.views) < rig.num_views:
        raise InputError(f"{where}: has {len(frame.views)} views, the rig has {rig.num_views}")
    return nearest_views(frame.cam_from_world, rig)


def _too_far(frame: Skel4DFrame, chosen: ChosenViews, rig: Rig, allowed_deg: float, where: str) -> str:
    worst = int(np.argmax(chosen.errors_deg))
    return (
        f"{where}: view {frame.views[chosen.targets[worst]]} is the nearest to view {worst} of rig {rig.name} and turned "
        f"{chosen.errors_deg[worst]:.1f} degrees away from it; max_pose_error_deg allows {allowed_deg:g}"
    )


def _sample(
    file: Skel4DFile, index: int, frame: Skel4DFrame, chosen: ChosenViews, image_px: int | None
) -> MultiviewSample:
    """In the world in which the input view is at azimuth 0 and what fills a target view has the rig's size."""
    where = f"{file.path}: {file.ids[index]}"
    order = [chosen.cond, *chosen.targets.tolist()]
    views = [frame.views[view] for view in order]
    pictures = [file.picture(index, view) for view in views]
    if image_px is not None:
        pictures = [
            resized(made_square(p, "exact", f"{where}: {v}"), image_px) for p, v in zip(pictures, views, strict=True)
        ]
    azimuth = float(azimuth_deg_of(frame.cam_from_world[chosen.cond]))
    poses, scale = _rescaled(turn_world(frame.cam_from_world[order], azimuth))
    K = np.repeat(_intrinsics(pictures[0].shape[1:])[None], len(order), 0).astype(np.float32)
    x, y, z = centres_of(poses[0])
    sample = MultiviewSample(
        sample_id=file.ids[index],
        cond_imgs=pictures[0],
        target_imgs=np.stack(_alike(pictures, views, where)[1:]),
        cond_camera=Cameras(poses[:1].astype(np.float32), K[:1]),
        target_cameras=Cameras(poses[1:].astype(np.float32), K[1:]),
        azimuth_deg=azimuth,
        elevation_deg=float(np.degrees(np.arctan2(z, np.hypot(x, y)))),
    )
    if frame.joints_world is None:
        return sample
    world = scale * frame.joints_world @ turn_world(np.eye(4), azimuth)[:3, :3]
    return replace(sample, keypoints=_keypoints(world, poses, K.astype(np.float64), pictures[0].shape[1:]))


def _alike(pictures: list[np.ndarray], views: list[str], where: str) -> list[np.ndarray]:
    for picture, view in zip(pictures, views, strict=True):
        if picture.shape != pictures[0].shape:
            raise InputError(
                f"{where}: {view}_image is {picture.shape[1:]} px, {views[0]}_image {pictures[0].shape[1:]}"
            )
    return pictures


def _rescaled(cam_from_world: Float64[np.ndarray, "v 4 4"]) -> tuple[Float64[np.ndarray, "v 4 4"], float]:
    """With the unit in which a sphere of the rig's object radius fills a target view at the mean distance."""
    distance = np.linalg.norm(centres_of(cam_from_world[1:]), axis=1).mean()
    scale = OBJECT_RADIUS / (distance * np.tan(FOV_RAD / 2))
    scaled = cam_from_world.copy()
    scaled[:, :3, 3] *= scale
    return scaled, float(scale)


def _intrinsics(size_hw: Sequence[int]) -> Float64[np.ndarray, "3 3"]:
    """Square pixels, pixel centres at integers."""
    height, width = size_hw
    focal = height / (2 * np.tan(FOV_RAD / 2))
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def _keypoints(
    world: Float64[np.ndarray, "j 3"],
    cam_from_world: Float64[np.ndarray, "v 4 4"],
    K: Float64[np.ndarray, "v 3 3"],
    size_hw: Sequence[int],
) -> Keypoints:
    points_cam = np.einsum("vij,nj->vni", cam_from_world[:, :3, :3], world) + cam_from_world[:, None, :3, 3]
    depth = points_cam[..., 2]
    pixels = np.einsum("vij,vnj->vni", K[:, :2], points_cam / np.where(depth > 0, depth, 1)[..., None])
    inside = (pixels > -0.5).all(-1) & (pixels < np.array([size_hw[1], size_hw[0]]) - 0.5).all(-1)
    return Keypoints(world.astype(np.float32), inside & (depth > 0))
