"""Synthetic data sets on disk, in the layouts that real data has."""

from pathlib import Path

from posecore.bodymodel import BodyModel
from posecore.rendering import Backend
from smil_regressor.data.hdf5_multiview import MultiViewWriter
from smil_regressor.data.synthetic import Difficulty, synthesise


def synthesise_file(
    path: Path,
    body: BodyModel,
    *,
    samples: int,
    views: int,
    resolution: int,
    seed: int,
    frames_per_session: int = 8,
    difficulty: Difficulty = Difficulty(),
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
