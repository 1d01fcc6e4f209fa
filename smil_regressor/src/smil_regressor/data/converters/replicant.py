"""replicAnt sets of one or many synchronised cameras to samples.

The world of a sample is the body model's own frame, the root joint at its origin, so translation and root rotation are
zero and the camera carries the placement. Lengths: sets of one camera stay in Unreal's centimetres, for which
`use_ue_scaling` enlarges the mesh tenfold; sets of many cameras are scaled by 0.1 instead, as in the original.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from posecore.bodymodel import BodyModel, pca_limbs
from posecore.data.images import decode_image, decode_mask
from posecore.errors import InputError
from smil_regressor.data.converters.crops import CropMode
from smil_regressor.data.converters.joints import match_joints
from smil_regressor.data.converters.notes import Notes
from smil_regressor.data.converters.replicant_files import (
    ReplicantLabels,
    ReplicantView,
    list_samples,
    natural,
    read_labels,
    read_picture_size,
)
from smil_regressor.data.converters.unreal import cam_from_model, joint_rotations, points_in_model
from smil_regressor.data.converters.views import BodyLabels, View, build_sample, crop_view, dilated, on_mask
from smil_regressor.data.sample import Sample

DEPTH_CM_PER_LEVEL = 1000 / 255
DEPTH_SLACK_CM = 5.0
"""A joint inside the body lies this much behind the surface that the depth picture shows."""
MANY_CAMERAS_SCALE = 0.1
IDENTITY_QUATERNION = np.array([0.0, 0.0, 0.0, 1.0])


def iter_replicant(
    folder: Path,
    body: BodyModel,
    resolution: int,
    *,
    crop: CropMode = "default",
    min_visible_keypoints: int = 5,
    silhouette_threshold: float = 0.02,
    min_views: int = 1,
    depth_test: bool = False,
    subject: str = "1",
    shard: tuple[int, int] = (0, 1),
    notes: Notes | None = None,
) -> Iterator[Sample]:
    """Samples in the order of their numbers, whatever the file system says.

    resolution: side of the square input pictures in pixels. silhouette_threshold: smallest share of the keypoints' box
    that the mask must cover, where there is a mask (a share of the picture would reject every ant). depth_test:
    hide joints behind the surface in the depth pictures of many-camera sets. shard (i, n): the i-th of n equal
    parts. What is left out is counted in `notes`.
    """
    notes = notes or Notes()
    listed = list_samples(folder)
    cameras = replicant_cameras(folder)
    size_wh = read_picture_size(folder)
    part, parts = shard
    for views in listed[part * len(listed) // parts : (part + 1) * len(listed) // parts]:
        key = str(views[0].json)
        read = [_read_view(view, body, size_wh, subject, depth_test, notes) for view in views]
        kept: dict[str, View] = {}
        labels: ReplicantLabels | None = None
        for view, found in zip(views, read, strict=True):
            if found is None:
                continue
            labels = found[1]
            cropped = _usable(
                str(view.json), found[0], crop, resolution, min_visible_keypoints, silhouette_threshold, notes
            )
            if cropped is not None:
                kept[view.camera] = cropped
        if labels is None or len(kept) < min_views:
            notes.drop(key, f"fewer than {min_views} usable views")
            continue
        slots = [kept.get(camera) for camera in cameras]
        yield build_sample(
            key, folder.name, _number(views[0]), slots, resolution, _body_labels(labels, body, _scale(cameras), notes)
        )


def replicant_cameras(folder: Path) -> tuple[str, ...]:
    """Names of the cameras of a set; one empty name where it has a single one."""
    return tuple(sorted({view.camera for views in list_samples(folder) for view in views}, key=natural))


def _read_view(
    view: ReplicantView,
    body: BodyModel,
    size_wh: tuple[int, int] | None,
    subject: str,
    depth_test: bool,
    notes: Notes,
) -> tuple[View, ReplicantLabels] | None:
    path = view.find()
    if path is None:
        raise InputError(f"{view.json}: its picture {view.json.stem}.JPG is missing")
    image = decode_image(path)
    size = (image.shape[1], image.shape[0])
    if size_wh is not None and size != size_wh:
        raise InputError(f"{path}: {size[0]}x{size[1]} pixels, but _BatchData says {size_wh[0]}x{size_wh[1]}")
    labels = read_labels(view.json, size, subject)
    if labels is None:
        notes.drop(str(view.json), "the animal is not in the picture")
        return None
    mask_path = view.find("ID")
    mask = None if mask_path is None else decode_mask(mask_path, channel=0)
    if mask is not None and mask.shape != image.shape[:2]:
        raise InputError(f"{mask_path}: {mask.shape[1]}x{mask.shape[0]} pixels, its picture has {size[0]}x{size[1]}")
    index = match_joints(str(view.json), labels.names, body.joint_names)
    visible = _visible(labels, mask, size)
    if depth_test:
        visible &= _before_surface(view, labels)
    known = index >= 0
    return (
        View(
            image=image,
            keypoints_px=np.where(known[:, None], labels.pixels[index] - 0.5, 0.0),
            visibility=(known & visible[index]).astype(np.float64),
            K=labels.camera.K,
            cam_from_world=_placed_camera(labels, body, MANY_CAMERAS_SCALE if view.camera else 1.0),
            mask=mask,
        ),
        labels,
    )


def _usable(
    key: str,
    view: View,
    crop: CropMode,
    resolution: int,
    min_visible_keypoints: int,
    silhouette_threshold: float,
    notes: Notes,
) -> View | None:
    if crop == "mask_crop" and view.mask is None:
        raise InputError(f"{key}: crop mode mask_crop needs a mask, but there is no _ID.png; bbox_crop works without")
    if (view.visibility > 0).sum() < min_visible_keypoints:
        notes.drop(key, f"fewer than {min_visible_keypoints} visible keypoints")
        return None
    if view.mask is not None and _coverage(view) < silhouette_threshold:
        notes.drop(key, f"the mask covers less than {silhouette_threshold:g} of the keypoints' box")
        return None
    cropped = crop_view(view, crop, resolution)
    if cropped is None:
        notes.drop(key, "the animal is smaller than 8 px")
    return cropped


def _visible(
    labels: ReplicantLabels, mask: Bool[np.ndarray, "h w"] | None, size_wh: tuple[int, int]
) -> Bool[np.ndarray, " k"]:
    """Inside the picture and, where there is a mask, on it or next to it."""
    inside = ((labels.pixels >= 0) & (labels.pixels <= np.array(size_wh))).all(-1)
    # Unreal measures from the corner, arrays are indexed from the first pixel's centre
    if mask is not None:
        inside &= on_mask(dilated(mask), labels.pixels - 0.5)
    return np.asarray(inside)


def _before_surface(view: ReplicantView, labels: ReplicantLabels) -> Bool[np.ndarray, " k"]:
    """Not farther than the nearest surface in the 3x3 pixels about the joint, with some slack."""
    path = view.find("Depth")
    if path is None:
        raise InputError(f"{view.json}: the depth test needs its _Depth picture, which is missing")
    levels = decode_image(path)[..., 0].astype(np.float64)
    depth = (labels.points @ labels.camera.M + labels.camera.t)[:, 2]
    column, row = np.round(labels.pixels - 0.5).astype(int).T
    near = np.full(len(depth), np.inf)
    for dx, dy in np.ndindex(3, 3):
        x, y = column + dx - 1, row + dy - 1
        inside = (x >= 0) & (x < levels.shape[1]) & (y >= 0) & (y < levels.shape[0])
        near[inside] = np.minimum(near[inside], levels[y[inside], x[inside]] * DEPTH_CM_PER_LEVEL)
    return np.asarray(depth <= near + DEPTH_SLACK_CM)


def _coverage(view: View) -> float:
    assert view.mask is not None
    points = view.keypoints_px[view.visibility > 0]
    x0, y0 = np.maximum(np.floor(points.min(0)).astype(int), 0)
    x1, y1 = np.ceil(points.max(0)).astype(int) + 1
    box = view.mask[y0:y1, x0:x1]
    return float(box.mean()) if box.size else 0.0


def _root(labels: ReplicantLabels, body: BodyModel) -> tuple[Float[np.ndarray, " 4"], Float[np.ndarray, " 3"]]:
    """Global rotation (identity in sets that have none) and position of the root joint."""
    if body.joint_names[0] not in labels.names:
        raise InputError(f"keypoints: the model's root joint {body.joint_names[0]!r} is missing")
    row = labels.names.index(body.joint_names[0])
    rotations = labels.global_quaternions_xyzw
    return IDENTITY_QUATERNION if rotations is None else rotations[row], labels.points[row]


def _placed_camera(labels: ReplicantLabels, body: BodyModel, scale: float) -> Float[np.ndarray, "4 4"]:
    transform = cam_from_model(labels.camera, *_root(labels, body))
    transform[:3, 3] *= scale
    return transform


def _body_labels(labels: ReplicantLabels, body: BodyModel, scale: float, notes: Notes) -> BodyLabels:
    index = match_joints("keypoints", labels.names, body.joint_names)
    points = scale * points_in_model(labels.points, *_root(labels, body))
    rotations = None
    if labels.quaternions_xyzw is not None and (index >= 0).all():
        rotations = joint_rotations(labels.quaternions_xyzw)[index]
    log_scales, joint_offsets = _limbs(labels, body, notes)
    return BodyLabels(
        keypoints_world=np.where(index[:, None] >= 0, points[index], np.nan),
        num_betas=body.num_betas,
        # the world is the root's own frame, which is unknown where a set has only positions
        root_rotation=None if labels.global_quaternions_xyzw is None else np.eye(3),
        joint_rotations=rotations,
        betas=_fitting("shape betas", labels.betas, body, notes),
        translation=np.zeros(3),
        log_scales=log_scales,
        joint_offsets=joint_offsets,
    )


def _limbs(
    labels: ReplicantLabels, body: BodyModel, notes: Notes
) -> tuple[Float[np.ndarray, "j 3"] | None, Float[np.ndarray, "j 3"] | None]:
    scale_weights = _fitting("ScaleWeights", labels.scale_weights, body, notes)
    translation_weights = _fitting("TranslationWeights", labels.translation_weights, body, notes)
    if scale_weights is None or translation_weights is None or body.scaledirs is None or body.transdirs is None:
        return None, None
    dtype = body.template.dtype
    log_scales, joint_offsets = pca_limbs(
        body, torch.as_tensor(scale_weights, dtype=dtype)[None], torch.as_tensor(translation_weights, dtype=dtype)[None]
    )
    return log_scales[0].numpy(), joint_offsets[0].numpy()


def _fitting(
    name: str, values: Float[np.ndarray, " c"] | None, body: BodyModel, notes: Notes
) -> Float[np.ndarray, " c"] | None:
    """The coefficients where there are as many as the model has."""
    if values is None or len(values) == body.num_betas:
        return values
    notes.warn(f"{name}: the set has {len(values)} coefficients, the model {body.num_betas}: they are left out")
    return None


def _scale(cameras: Sequence[str]) -> float:
    return 1.0 if cameras == ("",) else MANY_CAMERAS_SCALE


def _number(view: ReplicantView) -> int:
    return int(view.json.stem.split("_CAM")[0].rsplit("_", 1)[1])
