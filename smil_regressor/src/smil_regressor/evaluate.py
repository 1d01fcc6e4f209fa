"""Measures a trained network on held-out samples and writes the report files."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from posecore.data.loader import evaluation_batches
from posecore.devices import choose_device
from posecore.draw import draw_curves, write_picture
from posecore.errors import InputError
from posecore.training.batches import to_device
from smil_regressor import metrics
from smil_regressor.data.ground_truth import ground_truth_errors
from smil_regressor.data.mixing import open_data
from smil_regressor.data.sample import Batch, collate
from smil_regressor.data.splits import Subset, read_split
from smil_regressor.data.statistics import ConstantAnswer, constant_answer
from smil_regressor.draw import prediction_sheet
from smil_regressor.model.body import UNREAL_SCALE
from smil_regressor.model.prediction import Prediction
from smil_regressor.predict import LoadedNetwork, load_network, predicted_masks

SPLIT_FILE = "split.json"
"""Where training leaves the samples' parts in the run folder."""
WORST_CASES = 6
GROUND_TRUTH_PX, GROUND_TRUTH_RELATIVE = 0.5, 1e-4
"""What stored parameters may miss their own keypoints by."""

Part = Literal["train", "val", "test", "all"]


def evaluate(
    checkpoint: Path,
    *,
    data: Path | None = None,
    split: Part = "test",
    output: Path | None = None,
    smal_file: Path | None = None,
    ground_truth: bool = False,
    gt_cameras: bool = False,
    batch_size: int = 16,
    device: str = "auto",
) -> dict[str, Any]:
    """Predict every sample of a split and report errors.

    Writes `metrics.json`, `by_joint.csv`, `by_view.csv`, `by_session.csv`, `errors_2d_px_{native,input}.npy`,
    `errors_3d.npy`, `pck.png` and pictures of the worst samples.

    Args:
        split: Of the file the network was trained on, exactly as stored with the run; `all` for another file.
        ground_truth: Instead, feed the stored parameters through the body model; errors must be about 0.
        gt_cameras: 2D errors in the given cameras, not in the predicted ones.

    Returns:
        The summary that `metrics.json` holds.

    Raises:
        InputError: A missing file, or data that does not fit the network.
    """
    loaded = load_network(checkpoint, smal_file, choose_device(device))
    source, training_source = open_part(loaded, data, split)
    folder = output or loaded.run_dir / f"evaluation_{split}"
    folder.mkdir(parents=True, exist_ok=True)
    if ground_truth:
        return _ground_truth(loaded, source, folder)
    started = time.perf_counter()
    parts: list[metrics.Measurements] = []
    for batch, prediction in _predictions(loaded, source, batch_size):
        shown = replace(prediction, K=batch.K, cam_from_world=batch.cam_from_world) if gt_cameras else prediction
        parts.append(_measure(loaded, batch, shown))
    seconds = time.perf_counter() - started
    measured = metrics.concatenate(parts)
    scale = None if loaded.facts.world_scale is None else 1000.0
    summary: dict[str, Any] = metrics.summarise(measured, scale)
    baseline = _constant_summary(loaded, source, constant_answer(training_source), batch_size, scale)
    _write_tables(folder, measured, loaded, scale)
    _draw_worst(folder, loaded, source, measured)
    _draw_pck(folder / "pck.png", measured)
    report = {
        "checkpoint": str(loaded.folder),
        "split": split,
        "samples": len(measured.key),
        "cameras": "given" if gt_cameras else ("refined from given" if loaded.uses_given_cameras else "predicted"),
        "seconds": round(seconds, 2),
        "metrics": summary,
        "best_constant_answer": baseline,
    }
    _write_json(folder / "metrics.json", report)
    return report


def open_part(loaded: LoadedNetwork, data: Path | None, split: Part) -> tuple[Any, Any]:
    """The samples to measure, and those whose mean is the best constant answer (the training samples).

    Raises:
        InputError: A file is missing, of other data than the stored split, or the split is empty.
    """
    config = loaded.config
    if data is not None:
        dataset = config.dataset.model_copy(update={"data_path": data})
        mixing = config.multi_dataset.model_copy(update={"enabled": False})
        config = config.model_copy(update={"dataset": dataset, "multi_dataset": mixing})
    whole, _ = open_data(config, loaded.body.model, loaded.facts.camera_order)
    if split == "all":
        return whole, whole
    stored = loaded.run_dir / SPLIT_FILE
    if not stored.is_file():
        raise InputError(f"{stored}: the run's split is missing; evaluate with --split all, or beside the run")
    parts = read_split(stored, whole)
    chosen = Subset(whole, {"train": parts.train, "val": parts.validation, "test": parts.test}[split])
    if not len(chosen):
        raise InputError(
            f"{stored}: the {split} split holds no samples; raise dataset.{split}_ratio, or choose another"
        )
    return chosen, Subset(whole, parts.train)


def _predictions(loaded: LoadedNetwork, source: Any, batch_size: int) -> Iterator[tuple[Batch, Prediction]]:
    with torch.no_grad():
        for batch in evaluation_batches(source, batch_size, collate):
            moved: Batch = to_device(batch, loaded.device)
            yield moved, loaded.network(moved)


def _measure(loaded: LoadedNetwork, batch: Batch, prediction: Prediction) -> metrics.Measurements:
    with torch.no_grad():
        masks = predicted_masks(loaded, prediction, batch) if bool(batch.has_mask.any()) else None
        joints = loaded.body.joints(prediction)
    parents = loaded.body.model.parents.tolist()
    return metrics.measure(batch, joints, prediction.rotations, prediction.K, prediction.cam_from_world, masks, parents)


def _constant_summary(
    loaded: LoadedNetwork, source: Any, answer: ConstantAnswer, batch_size: int, scale: float | None
) -> dict[str, float]:
    """Errors of the mean training labels, which see no picture: 3D in the world, 2D in each view."""
    parts = []
    parents = loaded.body.model.parents.tolist()
    for batch in evaluation_batches(source, batch_size, collate):
        joints = torch.from_numpy(np.nan_to_num(answer.keypoints_world)).float().expand(len(batch), -1, -1)
        identity = torch.eye(3).expand(len(batch), joints.shape[1], 3, 3)
        measured = metrics.measure(batch, joints, identity, batch.K, batch.cam_from_world, None, parents)
        flat = torch.from_numpy(answer.keypoints_px(batch.camera_slots.numpy(), loaded.config.model.resolution))
        parts.append(replace(measured, **_constant_px(batch, flat)))
    joined = metrics.concatenate(parts)
    unit, _ = metrics.length_unit(scale)
    kept = (f"mpjpe_{unit}", f"root_aligned_{unit}", f"pa_mpjpe_{unit}", "px_input", "px_native")
    summary = metrics.summarise(joined, scale)
    return {name: summary[name] for name in kept if name in summary}


def _constant_px(batch: Batch, pixels: Tensor) -> dict[str, Any]:
    labelled = (batch.visibility > 0) & batch.view_mask[..., None]
    offset = pixels - batch.keypoints_px
    resolution = torch.tensor([batch.images.shape[3], batch.images.shape[2]])
    to_native = (batch.native_size_wh / resolution)[:, :, None]
    return {
        "px_input": torch.where(labelled, offset.norm(dim=-1), torch.nan).double().numpy(),
        "px_native": torch.where(labelled, (offset * to_native).norm(dim=-1), torch.nan).double().numpy(),
    }


def _ground_truth(loaded: LoadedNetwork, source: Any, folder: Path) -> dict[str, Any]:
    scale = UNREAL_SCALE if loaded.body.placement == "unreal" else 1.0
    errors = ground_truth_errors(source, loaded.body.model, body_scale=scale)
    known = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in vars(errors).items()}
    report = known | {
        "passed": bool(not errors.max_px > GROUND_TRUTH_PX and not errors.max_relative_3d > GROUND_TRUTH_RELATIVE)
    }
    _write_json(folder / "ground_truth.json", report)
    if not report["passed"]:
        raise InputError(
            f"ground truth: stored parameters miss their keypoints by {errors.max_px:.2f} px ({errors.worst_2d}) and "
            f"{errors.max_relative_3d:.1e} of the body ({errors.worst_3d}); at most {GROUND_TRUTH_PX} px and "
            f"{GROUND_TRUTH_RELATIVE} are right: is this the body model that the file was made with?"
        )
    return report


def _write_tables(folder: Path, measured: metrics.Measurements, loaded: LoadedNetwork, scale: float | None) -> None:
    metrics.write_csv(folder / "by_joint.csv", metrics.by_joint(measured, loaded.facts.joint_names, scale))
    views = (
        loaded.facts.camera_order
        if len(loaded.facts.camera_order) == measured.iou.shape[1]
        else [f"view {i}" for i in range(measured.iou.shape[1])]
    )
    metrics.write_csv(folder / "by_view.csv", metrics.by_view(measured, views))
    metrics.write_csv(folder / "by_session.csv", metrics.by_session(measured, scale))
    np.save(folder / "errors_2d_px_native.npy", measured.px_native)
    np.save(folder / "errors_2d_px_input.npy", measured.px_input)
    np.save(folder / f"errors_3d_{metrics.length_unit(scale)[0]}.npy", measured.mpjpe * metrics.length_unit(scale)[1])


def _draw_worst(folder: Path, loaded: LoadedNetwork, source: Any, measured: metrics.Measurements) -> None:
    """Pictures of the samples with the largest 3D error (2D where there is no 3D)."""
    by_sample = _mean_per_sample(measured.mpjpe)
    if not np.isfinite(by_sample).any():
        by_sample = _mean_per_sample(measured.px_input.reshape(len(measured.key), -1))
    order = np.argsort(-np.nan_to_num(by_sample, nan=-1.0))[:WORST_CASES]
    pictures = folder / "worst"
    pictures.mkdir(exist_ok=True)
    for rank, index in enumerate(order):
        sample = source.load(int(index), np.random.default_rng(0))
        batch: Batch = to_device(collate([sample]), loaded.device)
        with torch.no_grad():
            sheet = prediction_sheet(
                batch, loaded.network(batch), loaded.body, 0, _camera_names(loaded), loaded.config.losses.renderer
            )
        write_picture(pictures / f"{rank:02d}.png", sheet)


def _camera_names(loaded: LoadedNetwork) -> tuple[str, ...]:
    return loaded.facts.camera_order if loaded.config.mode == "multiview" else ()


def _mean_per_sample(errors: np.ndarray) -> np.ndarray:
    known = np.isfinite(errors)
    counts = known.sum(1)
    total = np.where(known, errors, 0).sum(1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _draw_pck(path: Path, measured: metrics.Measurements) -> None:
    """The PCK curve over 0 to 50 px at both resolutions."""
    thresholds = np.linspace(0, 50, 101)
    curves = {}
    for name, errors in (("native pictures", measured.px_native), ("network input", measured.px_input)):
        known = errors[~np.isnan(errors)]
        if known.size:
            curves[name] = (thresholds, 100 * (known[None] <= thresholds[:, None]).mean(1))
    write_picture(path, draw_curves(curves, "PCK: share of joints within a distance", "distance (px)", "joints (%)"))


def _write_json(path: Path, report: Any) -> None:
    path.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")


__all__: Sequence[str] = ["evaluate"]
