"""From folders of public layouts to the HDF5 files that training reads."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from posecore.bodymodel import BodyModel
from posecore.errors import InputError
from smil_regressor.data.converters.crops import CropMode
from smil_regressor.data.converters.deeplabcut import FusedView, iter_deeplabcut
from smil_regressor.data.converters.joints import read_joint_lookup, read_shape_betas
from smil_regressor.data.converters.notes import Notes
from smil_regressor.data.converters.replicant import iter_replicant, replicant_cameras
from smil_regressor.data.converters.session import Session, camera_names, find_sessions
from smil_regressor.data.converters.session_rig import check_session
from smil_regressor.data.converters.session_view import SleapOptions
from smil_regressor.data.converters.sleap import iter_sleap
from smil_regressor.data.hdf5_multiview import MultiViewWriter
from smil_regressor.data.hdf5_singleview import SingleViewWriter
from smil_regressor.data.sample import Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversion:
    """What a conversion wrote and what it left out."""

    path: Path
    num_samples: int
    notes: tuple[str, ...]


def convert_replicant(
    folder: Path,
    output: Path,
    body: BodyModel,
    *,
    resolution: int = 224,
    crop: CropMode = "default",
    min_visible_keypoints: int = 5,
    silhouette_threshold: float = 0.02,
    min_views: int = 2,
    depth_test: bool = False,
    shard: tuple[int, int] = (0, 1),
    smal_file: Path | None = None,
    jpeg_quality: int = 95,
) -> Conversion:
    """A replicAnt set to a file: of single views, or of many views where the set has several cameras.

    min_views counts in sets of many cameras only. See `iter_replicant` for the other arguments.
    """
    notes = Notes()
    cameras = replicant_cameras(folder)
    single = cameras == ("",)
    samples = iter_replicant(
        folder,
        body,
        resolution,
        crop=crop,
        min_visible_keypoints=min_visible_keypoints,
        silhouette_threshold=silhouette_threshold,
        min_views=1 if single else min_views,
        depth_test=depth_test,
        shard=shard,
        notes=notes,
    )
    metadata = {"crop_mode": crop, "min_visible_keypoints": min_visible_keypoints}
    if not single:
        with MultiViewWriter(
            output,
            joint_names=body.joint_names,
            num_betas=body.num_betas,
            max_views=len(cameras),
            canonical_camera_order=cameras,
            target_resolution=resolution,
            smal_sha256=_sha256(smal_file),
            jpeg_quality=jpeg_quality,
            metadata=metadata | {"min_views_per_sample": min_views},
        ) as multi_view:
            return _write(samples, multi_view, output, notes)
    with SingleViewWriter(
        output,
        joint_names=body.joint_names,
        num_betas=body.num_betas,
        target_resolution=resolution,
        smal_sha256=_sha256(smal_file),
        jpeg_quality=jpeg_quality,
        metadata=metadata | {"silhouette_threshold": silhouette_threshold},
    ) as single_view:
        return _write(samples, single_view, output, notes)


def convert_sleap(
    folder: Path,
    output: Path,
    body: BodyModel,
    options: SleapOptions,
    *,
    world_scale: float | None,
    joint_lookup: Path | None = None,
    shape_betas: Path | None = None,
    exclude_cameras: Sequence[str] = (),
    exclude_bad: bool = False,
    shard: tuple[int, int] = (0, 1),
    smal_file: Path | None = None,
    jpeg_quality: int = 95,
) -> Conversion:
    """A SLEAP session, or a folder of sessions, to a multi-view file.

    world_scale: metres per unit of the calibration files (0.001 where they are in millimetres); None leaves it unknown.
    Cameras whose calibration contradicts the others' are refused, unless they are excluded by name or
    `exclude_bad` leaves them out of their session. shard (i, n): the i-th of n equal parts of the sessions;
    the order of cameras is the same in all parts.
    """
    notes = Notes()
    sessions = find_sessions(folder)
    camera_names(sessions, exclude_cameras)  # told before anything is read if one does not exist
    sessions = [_without(session, exclude_cameras) for session in sessions]
    sessions = _without_bad_cameras(sessions, options, exclude_bad, notes)
    cameras = camera_names(sessions)
    lookup = None if joint_lookup is None else read_joint_lookup(joint_lookup)
    betas = _betas(shape_betas, sessions, body, notes)
    part, parts = shard
    samples = (
        sample
        for session in sessions[part * len(sessions) // parts : (part + 1) * len(sessions) // parts]
        for sample in iter_sleap(
            session,
            cameras,
            body.joint_names,
            body.num_betas,
            options,
            joint_lookup=lookup,
            betas=betas.get(session.name),
            notes=notes,
        )
    )
    with MultiViewWriter(
        output,
        joint_names=body.joint_names,
        num_betas=body.num_betas,
        max_views=len(cameras),
        canonical_camera_order=cameras,
        target_resolution=options.resolution,
        world_scale=world_scale,
        world_frame="first_view",
        smal_sha256=_sha256(smal_file),
        jpeg_quality=jpeg_quality,
        metadata={
            "crop_mode": options.crop,
            "min_views_per_sample": options.min_views,
            "frame_skip": options.frame_skip,
            "undistort_images": options.undistort,
            "used_reprojections": options.use_reprojections,
        },
    ) as writer:
        return _write(samples, writer, output, notes)


def convert_deeplabcut(
    table: Path,
    folder: Path,
    output: Path,
    body: BodyModel,
    views: Sequence[FusedView],
    *,
    resolution: int = 224,
    crop: CropMode = "default",
    min_views: int = 1,
    joint_lookup: Path | None = None,
    smal_file: Path | None = None,
    jpeg_quality: int = 95,
) -> Conversion:
    """Labelled (fused) pictures to a multi-view file without cameras."""
    notes = Notes()
    lookup = None if joint_lookup is None else read_joint_lookup(joint_lookup)
    samples = iter_deeplabcut(
        table,
        folder,
        views,
        body.joint_names,
        body.num_betas,
        resolution,
        crop=crop,
        min_views=min_views,
        joint_lookup=lookup,
        notes=notes,
    )
    with MultiViewWriter(
        output,
        joint_names=body.joint_names,
        num_betas=body.num_betas,
        max_views=len(views),
        canonical_camera_order=[view.name for view in views],
        target_resolution=resolution,
        smal_sha256=_sha256(smal_file),
        jpeg_quality=jpeg_quality,
        metadata={"crop_mode": crop, "min_views_per_sample": min_views, "undistort_images": False},
    ) as writer:
        return _write(samples, writer, output, notes)


def _write(
    samples: Iterable[Sample], writer: MultiViewWriter | SingleViewWriter, output: Path, notes: Notes
) -> Conversion:
    count = 0
    for sample in samples:
        writer.add(sample)
        count += 1
        if count % 100 == 0:
            log.info("%s: %d samples", output, count)
    if count == 0:
        raise InputError([f"{output}: no sample is left to write", *notes.summary()])
    return Conversion(output, count, tuple(notes.summary()))


def _without(session: Session, names: Sequence[str]) -> Session:
    return replace(session, cameras=tuple(camera for camera in session.cameras if camera.name not in names))


def _without_bad_cameras(
    sessions: Sequence[Session], options: SleapOptions, exclude_bad: bool, notes: Notes
) -> list[Session]:
    problems: list[str] = []
    kept = []
    for session in sessions:
        report = check_session(session, options.track)
        bad = () if report is None else report.bad_cameras
        lines = [] if report is None else [f"{session.folder}: camera {line}" for line in report.lines()]
        if bad and not exclude_bad:
            problems += [
                f"{line}. Recalibrate, or leave it out with --exclude-cameras {name} or --exclude-bad"
                for name, line in zip(bad, lines, strict=True)
            ]
        for line in lines if exclude_bad else []:
            notes.warn(f"{line}. Left out")
        kept.append(_without(session, bad))
    if problems:
        raise InputError(problems)
    return kept


def _betas(table: Path | None, sessions: Sequence[Session], body: BodyModel, notes: Notes) -> dict[str, np.ndarray]:
    """Shape coefficients of the sessions that have a line in the table."""
    if table is None:
        return {}
    betas = read_shape_betas(table)
    wrong = [f"{label}: {len(values)}" for label, values in betas.items() if len(values) != body.num_betas]
    if wrong:
        raise InputError(f"{table}: {', '.join(wrong)} coefficients; the model has {body.num_betas}")
    for session in sessions:
        if session.name not in betas:
            notes.warn(f"{table}: no line with the label {session.name}: its shape is unknown")
    return betas


def _sha256(path: Path | None) -> str | None:
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
