"""Synthetic data sets on disk, in the layouts that real data has."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypedDict

import numpy as np

from posecore.bodymodel import BodyModel, read_model
from posecore.errors import InputError
from posecore.rendering import Backend
from smil_regressor.data.hdf5_multiview import MultiViewWriter
from smil_regressor.data.hdf5_singleview import SingleViewWriter
from smil_regressor.data.insect import Variant, insect_body, write_insect
from smil_regressor.data.sample import Sample
from smil_regressor.data.synthetic import EXACT, Difficulty, synthesise
from smil_regressor.data.synthetic_replicant import write_replicant
from smil_regressor.data.synthetic_sleap import write_sessions

SyntheticLayout = Literal["multiview", "singleview", "replicant", "sleap"]


class Scenes(TypedDict):
    """Arguments that all writers take; see `synthesise`."""

    samples: int
    views: int
    resolution: int
    seed: int
    frames_per_session: int
    difficulty: Difficulty


UNREAL_SCALE = 10.0
"""World units for one unit of the model in single-view data, which the default configuration expects."""


def synthesise_layout(
    output: Path,
    layout: SyntheticLayout,
    *,
    smal_file: Path | None = None,
    variant: Variant = "simple",
    write_model: Path | None = None,
    samples: int,
    views: int,
    resolution: int,
    seed: int,
    frames_per_session: int = 8,
    difficulty: Difficulty = EXACT,
) -> Path:
    """Write synthetic data in a layout; returns `output`, a file for the HDF5 layouts, else a new folder.

    Args:
        smal_file: Body model; None: the procedural insect of this variant.
        write_model: Where to write the procedural insect's file too.

    Raises:
        InputError: The options contradict the layout or each other, or the folder is not empty.
    """
    _check(output, layout, smal_file, write_model, difficulty)
    body = insect_body(variant) if smal_file is None else read_model(smal_file)
    if write_model is not None:
        write_model.parent.mkdir(parents=True, exist_ok=True)
        write_insect(write_model, variant)
    sha256 = None if smal_file is None else hashlib.sha256(smal_file.read_bytes()).hexdigest()
    scenes = Scenes(
        samples=samples, views=views, resolution=resolution, seed=seed,
        frames_per_session=frames_per_session, difficulty=difficulty,
    )  # fmt: skip
    match layout:
        case "multiview":
            return synthesise_file(output, body, **scenes, smal_sha256=sha256)
        case "singleview":
            return synthesise_single_views(output, body, **scenes, smal_sha256=sha256)
        case "replicant":
            return _new_folder(output, lambda folder: write_replicant(folder, body, **scenes))
        case "sleap":
            return _new_folder(output, lambda folder: write_sessions(folder, body, **scenes))


def synthesise_file(
    path: Path,
    body: BodyModel,
    *,
    samples: int,
    views: int,
    resolution: int,
    seed: int,
    frames_per_session: int = 8,
    difficulty: Difficulty = EXACT,
    smal_sha256: str | None = None,
    backend: Backend = "warp",
) -> Path:
    """A multi-view HDF5 file of synthetic samples; see `synthesise` for the arguments."""
    with MultiViewWriter(
        path,
        joint_names=body.joint_names,
        num_betas=body.num_betas,
        max_views=views,
        canonical_camera_order=[f"cam{i}" for i in range(views)],
        target_resolution=resolution,
        smal_sha256=smal_sha256,
        metadata={"synthetic_seed": seed},
    ) as writer:
        for sample in synthesise(
            body, samples=samples, views=views, resolution=resolution, seed=seed,
            frames_per_session=frames_per_session, difficulty=difficulty, backend=backend,
        ):  # fmt: skip
            writer.add(sample)
    return path


def synthesise_single_views(
    path: Path,
    body: BodyModel,
    *,
    samples: int,
    views: int,
    resolution: int,
    seed: int,
    frames_per_session: int = 8,
    difficulty: Difficulty = EXACT,
    smal_sha256: str | None = None,
) -> Path:
    """A single-view HDF5 file: each view of each sample by itself, in worlds ten times the model as Unreal's are."""
    with SingleViewWriter(
        path,
        joint_names=body.joint_names,
        num_betas=body.num_betas,
        target_resolution=resolution,
        smal_sha256=smal_sha256,
        metadata={"synthetic_seed": seed},
    ) as writer:
        for sample in synthesise(
            body, samples=samples, views=views, resolution=resolution, seed=seed,
            frames_per_session=frames_per_session, difficulty=difficulty,
        ):  # fmt: skip
            for view in np.flatnonzero(sample.view_mask):
                writer.add(enlarged(single_view(sample, int(view)), UNREAL_SCALE))
    return path


def single_view(sample: Sample, view: int) -> Sample:
    """The sample with only this view."""
    one = slice(view, view + 1)
    return replace(
        sample,
        key=f"{sample.key}/cam{view}",
        images=sample.images[one],
        view_mask=sample.view_mask[one],
        camera_slots=np.zeros(1, np.int64),
        K=sample.K[one],
        cam_from_world=sample.cam_from_world[one],
        has_camera=sample.has_camera[one],
        native_size_wh=sample.native_size_wh[one],
        keypoints_px=sample.keypoints_px[one],
        visibility=sample.visibility[one],
        masks=sample.masks[one],
        has_mask=sample.has_mask[one],
    )


def enlarged(sample: Sample, scale: float) -> Sample:
    """The same pictures of a world `scale` times as large; the body model keeps its size."""
    cameras = sample.cam_from_world.copy()
    cameras[:, :3, 3] *= scale
    return replace(
        sample,
        cam_from_world=cameras,
        keypoints_world=scale * sample.keypoints_world,
        translation=scale * sample.translation,
    )


def _check(
    output: Path, layout: SyntheticLayout, smal_file: Path | None, write_model: Path | None, difficulty: Difficulty
) -> None:
    problems = []
    if smal_file is not None and write_model is not None:
        problems.append("--write-model: writes the procedural insect, but --smal-file names another body; give one")
    if layout != "sleap" and difficulty.distortion != 0:
        problems.append(f"--distortion: only the format sleap keeps distorted pictures; {layout} needs 0")
    if layout == "replicant" and difficulty.missing_joints != 0:
        problems.append("--missing-joints: replicant labels come from a renderer and are complete; it needs 0")
    if layout in ("replicant", "sleap") and output.exists() and not (output.is_dir() and not any(output.iterdir())):
        problems.append(f"{output}: exists and is not an empty folder; name a new one")
    if problems:
        raise InputError(problems)


def _new_folder(output: Path, write: Callable[[Path], None]) -> Path:
    """Write into a hidden folder beside `output`, which gets its place when all is there."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as hidden:
        folder = Path(hidden) / output.name
        folder.mkdir()
        write(folder)
        folder.replace(output)
    return output
