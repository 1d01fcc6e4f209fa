"""One training run from its configuration: files are found and checked, then the loop runs."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from posecore.bodymodel import BodyModel
from posecore.cameras import opencv_to_pytorch3d
from posecore.errors import InputError
from posecore.report import write_report
from posecore.training import fit
from posecore.training.starting_point import is_first_process, starting_point
from smil_regressor.assembly import Facts, arrays_sha256, find_file, has_family, keep_body, placement, read_body
from smil_regressor.config import SmilConfig
from smil_regressor.data.mixing import RunData, open_run_data
from smil_regressor.data.source import PoseSource
from smil_regressor.data.splits import write_split
from smil_regressor.data.statistics import DatasetStatistics, dataset_statistics, sampled_labels
from smil_regressor.evaluate import SPLIT_FILE
from smil_regressor.model.camera_head import FovCameras
from smil_regressor.predict import BODY_FILE
from smil_regressor.task import SmilTask, fit_config

logger = logging.getLogger(__name__)

SIZE_RANGE = (0.67, 1.5)
"""Size of the data's bodies over the model's within which shape and pose explain the difference."""
REACH_FACTOR = 3.0
"""Camera translations may be so many times the median distance: heads are bounded by it."""


def run_folder(config: SmilConfig, run_dir: Path | None) -> Path:
    """`--run-dir`, or runs/<output.checkpoint_dir>."""
    return run_dir or Path("runs") / config.output.checkpoint_dir


def train(
    config: SmilConfig,
    folders: Sequence[Path],
    run_dir: Path | None = None,
    resume: str | None = None,
    *,
    master_port: int | None = None,
    dry_run: bool = False,
) -> dict[str, Any] | None:
    """Train a configuration.

    Args:
        folders: Where relative paths in the configuration are looked for, after the working folder.
        resume: As `posecore.training.fit`.
        dry_run: Open and check everything, build the network, train nothing.

    Returns:
        Where the run is and how it ended.

    Raises:
        InputError: A file is missing or damaged, or the configuration does not fit the data.
    """
    if master_port is not None:
        os.environ["MASTER_PORT"] = str(master_port)
    folder = run_folder(config, run_dir)
    if resume is None and not dry_run and is_first_process():
        starting_point(folder, resume)  # refuses a folder with a run in it, before anything in there is touched
    task = open_task(config, folders, folder)
    if dry_run:
        network = task.build_model()
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        return {"run_dir": str(folder), "dry_run": True, "trained_parameters": trained} | _sizes(task.data)
    _keep_inputs(task, folder)
    outcome = fit(task, fit_config(task.config), folder, resume)
    if not is_first_process():
        return None
    if outcome.was_preempted:
        return {"run_dir": str(folder), "step": outcome.step, "preempted": True}
    report = write_report(folder)
    return {
        "run_dir": str(folder),
        "step": outcome.step,
        "epoch": outcome.epoch,
        "validation": outcome.metrics,
        "best_checkpoint": None if outcome.best_checkpoint is None else str(outcome.best_checkpoint),
        "report": str(report),
    }


def open_task(config: SmilConfig, folders: Sequence[Path] = (), run_dir: Path | None = None) -> SmilTask:
    """Find and check all files of a configuration; nothing is trained."""
    config = with_found_files(config, folders)
    body, sha256 = read_body(config, folders)
    _tell_accepted(config)
    data = open_run_data(config, body)
    start = _starting_weights(config, folders)
    facts = gather_facts(config, data, body, sha256, camera_in_state=_is_original(start) and config.mode == "multiview")
    _check_size(config, facts)
    absolute = config.mode == "multiview" and not config.training.use_gt_camera_init and start is None
    rig = starting_rig(data.train) if absolute else None
    return SmilTask(config, body, data, facts, folders, start, rig, run_dir)


def gather_facts(
    config: SmilConfig, data: RunData, body: BodyModel, smal_sha256: str | None, camera_in_state: bool = False
) -> Facts:
    """What the network takes from the training data: cameras, typical distances, the body's size and place."""
    statistics = dataset_statistics(data.train)
    distance = statistics.camera_distance or 1.0
    place = statistics.translation
    return Facts(
        camera_order=tuple(data.whole.camera_order),
        joint_names=tuple(body.joint_names),
        num_betas=body.num_betas,
        fov_deg=statistics.fov_y_deg or 30.0,
        camera_distance=distance,
        camera_reach=REACH_FACTOR * distance,
        body_scale=body_scale(data.train, body),
        mean_pose=_mean_pose(statistics),
        place=(0.0, 0.0, 0.0) if place is None else tuple(float(x) for x in place),
        camera_in_state=camera_in_state,
        world_scale=data.whole.world_scale,
        smal_sha256=smal_sha256,
        shaped_sha256=arrays_sha256(body) if has_family(config) else None,
        world_frame=data.whole.world_frame,
    )


def _check_size(config: SmilConfig, facts: Facts) -> None:
    """Without a predicted scale, bodies keep the model's size: data in another unit could never be fitted.

    Raises:
        InputError: The data's bodies are far from the model's size.
    """
    low, high = SIZE_RANGE
    if placement(config) == "plain" and not low <= facts.body_scale <= high:
        raise InputError(
            f"mesh_scaling.allow_mesh_scaling is false, but the data's bodies are {facts.body_scale:g} times the size of "
            "the body model: set it to true"
        )


def body_scale(source: PoseSource, body: BodyModel) -> float:
    """Median size of the samples' known joints over the size of the same joints of the model at rest, 3 digits.

    1 where no sample has three 3D keypoints.
    """
    identity = torch.eye(3).expand(1, body.num_joints, 3, 3)
    rest = body.keypoints(identity, torch.zeros(1, body.num_betas), torch.zeros(1, 3))[0].numpy()
    ratios = []
    for sample in sampled_labels(source):
        known = sample.has_keypoints_world
        if known.sum() >= 3:
            sizes = [np.linalg.norm(np.ptp(points[known], axis=0)) for points in (sample.keypoints_world, rest)]
            ratios.append(sizes[0] / sizes[1])
    return float(f"{np.median(ratios):.3g}") if ratios else 1.0


def _mean_pose(statistics: DatasetStatistics) -> tuple[float, ...] | None:
    if statistics.rotations is None:
        return None
    return tuple(float(x) for x in Rotation.from_matrix(statistics.rotations).as_rotvec().ravel())


def starting_rig(source: PoseSource) -> FovCameras | None:
    """The median camera of each canonical slot, for networks that predict cameras absolutely.

    Rotations are chordal means. None where some slot has no calibrated view.
    """
    samples = sampled_labels(source)
    fovs: list[float] = []
    cameras: list[np.ndarray] = []
    for slot in range(len(source.camera_order)):
        chosen = [(s, v) for s in samples for v in np.flatnonzero(s.has_camera & (s.camera_slots == slot))]
        if not chosen:
            return None
        focal = np.median([s.K[v, 1, 1] for s, v in chosen])
        fovs.append(float(np.degrees(2 * np.arctan(source.resolution / (2 * focal)))))
        camera = np.eye(4)
        camera[:3, :3] = (
            Rotation.from_matrix(np.stack([s.cam_from_world[v, :3, :3] for s, v in chosen])).mean().as_matrix()
        )
        camera[:3, 3] = np.median([s.cam_from_world[v, :3, 3] for s, v in chosen], axis=0)
        cameras.append(camera)
    R, T = opencv_to_pytorch3d(torch.tensor(np.stack(cameras), dtype=torch.float32))
    return FovCameras(torch.tensor(fovs), R, T)


def with_found_files(config: SmilConfig, folders: Sequence[Path]) -> SmilConfig:
    """The configuration with whole paths that exist, so that the run can be evaluated from any folder."""
    changes: dict[str, Any] = {}
    if config.dataset.data_path is not None and not config.multi_dataset.enabled:
        found = find_file(config.dataset.data_path, "dataset.data_path", folders).resolve()
        changes["dataset"] = config.dataset.model_copy(update={"data_path": found})
    if config.smal_model.smal_file is not None:
        found = find_file(config.smal_model.smal_file, "smal_model.smal_file", folders).resolve()
        changes["smal_model"] = config.smal_model.model_copy(update={"smal_file": found})
    if config.multi_dataset.enabled:
        datasets = [
            d.model_copy(update={"path": find_file(d.path, f"multi_dataset.datasets.{d.name}.path", folders).resolve()})
            if d.enabled
            else d
            for d in config.multi_dataset.datasets
        ]
        changes["multi_dataset"] = config.multi_dataset.model_copy(update={"datasets": datasets})
    return config.model_copy(update=changes)


def _starting_weights(config: SmilConfig, folders: Sequence[Path]) -> Path | None:
    """The file or folder of `training.resume_checkpoint`, found."""
    named = config.training.resume_checkpoint
    if named is None:
        return None
    try:
        found = find_file(named, "training.resume_checkpoint", folders)
    except InputError as error:
        raise InputError(f"{error}; remove the field, or give --resume-checkpoint none, to begin without it") from None
    if _is_original(found) and config.model.rot6d_convention != "rows":
        raise InputError(
            f"training.resume_checkpoint: {found} is of the original, which needs model.rot6d_convention rows"
        )
    return found


def _is_original(checkpoint: Path | None) -> bool:
    return checkpoint is not None and checkpoint.suffix in (".pth", ".pt")


def _tell_accepted(config: SmilConfig) -> None:
    if config.model.use_unity_prior:
        logger.warning("model.use_unity_prior belongs to the legacy dog model; it has no effect on this body model")


def _keep_inputs(task: SmilTask, folder: Path) -> None:
    """Copy the body model and write the split beside the checkpoints: with them a run folder is all that is needed."""
    if not is_first_process():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if task.config.smal_model.smal_file is not None and not (folder / BODY_FILE).exists():
        keep_body(task.config, task.body_model, folder / BODY_FILE)
    dataset, seed = task.config.dataset, task.config.training.seed
    write_split(folder / SPLIT_FILE, task.data.split, task.data.whole, dataset.split_by, seed)


def _sizes(data: RunData) -> dict[str, int]:
    return {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
