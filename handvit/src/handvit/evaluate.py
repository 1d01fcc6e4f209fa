"""Measures a trained network on held-out clips and writes the report files."""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from handvit import metrics
from handvit.config import HandvitConfig
from handvit.config.data import DatasetConfig, FilterConfig, SourceConfig
from handvit.data.mixing import MixedClips, open_part
from handvit.data.patches import fill_patches
from handvit.data.preparation import Preparation
from handvit.data.sample import Batch, collate
from handvit.dataset_joints import DatasetJoints, Joints
from handvit.draw import case_sheet
from handvit.loading import LoadedNetwork, load_network
from handvit.posing import PosedHands, last_frames, pose_hands, true_hand_size_mm
from handvit.sheets import cases_of
from handvit.submission import Submission, read_predictions, write_predictions, write_submission
from posecore.data.loader import evaluation_batches
from posecore.devices import choose_device
from posecore.draw import write_picture
from posecore.errors import InputError
from posecore.training.batches import to_device

logger = logging.getLogger(__name__)

WORST_CASES = 6
BASELINE_CLIPS = 2000
"""Training clips that the best constant hand is made of."""
PREDICTIONS = "predictions.h5"

Part = tuple[int, int]


@dataclass(frozen=True)
class Evaluation:
    """What is measured, and how."""

    loaded: LoadedNetwork
    source: MixedClips
    joints: DatasetJoints
    oracle_scale: bool
    batch_size: int
    workers: int


def evaluate(
    checkpoint: Path,
    *,
    data: Sequence[str] | None = None,
    split: Literal["val", "test"] = "test",
    output: Path | None = None,
    mano_path: Path | None = None,
    frames: int | None = None,
    oracle_scale: bool = False,
    joints: Joints | None = None,
    submission: Submission = "none",
    order: Path | None = None,
    part: Part | None = None,
    batch_size: int = 32,
    workers: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Predict the last frame of every clip and report errors.

    Writes `predictions.h5`, `metrics.json`, `breakdown.csv`, `by_joint.csv`, pictures of the worst frames and, where asked
    for, the benchmark's submission.

    Args:
        data: Shards; None: those that the network's configuration names for `split`.
        frames: Of a clip; None: the network's. A stage 1 network looks at the last of them: so that two networks are
            measured on the same frames.
        oracle_scale: Roots in hand sizes are multiplied by the true size instead of the predicted one.
        joints: Whose fingertips and inner joints are predicted: those of the labels. None: the submission's; without one
            those that the network was trained with.
        submission: No frame is left out then, however small or hidden the hand.
        part: (i, n): only the i-th of n parts, and only its `predictions.h5`, named after it.

    Returns:
        The summary that `metrics.json` holds.

    Raises:
        InputError: A missing file, or data that does not fit the network.
    """
    if frames is not None and frames < 1:
        raise InputError(f"--frames {frames}: clips have at least one frame")
    loaded = load_network(checkpoint, mano_path, choose_device(device))
    chosen_joints: Joints = joints or ("trained" if submission == "none" else submission)
    source = open_clips(
        loaded.config, data, split, frames or loaded.config.model.num_frame, loaded, filtered=submission == "none"
    )
    folder = output or loaded.run_dir / f"evaluation_{split}"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = source if part is None else source.part(*part)
    run = Evaluation(loaded, chosen, DatasetJoints(loaded.hand, chosen_joints), oracle_scale, batch_size, workers)
    constant = constant_hand(loaded) if part is None else None
    constant_rows: dict[str, list[metrics.Frames]] = {}
    started = time.perf_counter()
    parts = []
    for batch, _, found in _predicted(run):
        parts.append(found)
        for name, posed in ({} if constant is None else constant.answers(batch)).items():
            rows_of = metrics.frames_of(batch, posed, run.joints.measured, image=found.image)
            constant_rows.setdefault(name, []).append(rows_of)
    rows = metrics.concatenate_frames(parts)
    facts = _facts(run, split, chosen_joints, time.perf_counter() - started)
    if part is not None:
        file = folder / f"predictions-{part[0]:05d}-of-{part[1]:05d}.h5"
        write_predictions(file, rows, facts)
        return {"predictions": str(file), "frames": len(rows)} | facts
    write_predictions(folder / PREDICTIONS, rows, facts)
    measured = metrics.measure(rows)
    report = _report(folder, measured, facts)
    report["best_constant_hand"] = _constant_summary(constant_rows)
    _write_json(folder / "metrics.json", report)
    _draw_worst(folder / "worst", run, measured)
    if submission != "none":
        report["submission"] = str(write_submission(submission, folder, rows, order))
    return report


def evaluate_predictions(
    files: Sequence[Path], output: Path | None, submission: Submission = "none", order: Path | None = None
) -> dict[str, Any]:
    """The same report from predictions that were written before, of one evaluation or of all its parts.

    Raises:
        InputError: A file is missing, damaged, or two parts hold the same clip.
    """
    rows, facts = read_predictions(files)
    folder = output or files[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    report = _report(folder, metrics.measure(rows), facts)
    _write_json(folder / "metrics.json", report)
    if submission != "none":
        report["submission"] = str(write_submission(submission, folder, rows, order))
    return report


def open_clips(
    config: HandvitConfig,
    data: Sequence[str] | None,
    split: str,
    num_frames: int,
    loaded: LoadedNetwork,
    *,
    filtered: bool = True,
) -> MixedClips:
    """Every clip of the given shards, or of a split of the configuration, not augmented.

    Raises:
        InputError: There are none.
    """
    section: SourceConfig = getattr(config.data, split)
    if data:
        named = [DatasetConfig(name=Path(where).name, shards=where) for where in dict.fromkeys(data)]
        section = section.model_copy(update={"datasets": named})
    elif not section.datasets:
        raise InputError(f"data.{split}.datasets: the training named no shards for this split; give --data FOLDER")
    section = section.model_copy(update={"sampling": "dense", "clips_per_sequence": 1})
    if not filtered:
        section = section.model_copy(update={"filter": FilterConfig(min_valid_joints=0, min_box_px=0)})
    prepare = Preparation(loaded.patch_settings)
    hands_mean = loaded.hand.hands_mean.cpu().numpy()
    return open_part(section, prepare, num_frames, hands_mean, field="--data" if data else f"data.{split}")


def _predicted(run: Evaluation) -> Iterator[tuple[Batch, PosedHands, metrics.Frames]]:
    """Batches of last frames, what was predicted for them, and the rows of both."""
    loaded, position = run.loaded, 0
    config = loaded.config.model
    with torch.no_grad():
        for batch in evaluation_batches(run.source, run.batch_size, collate, workers=run.workers):
            batch = to_device(batch, loaded.device)
            if config.stage == 1:
                batch = last_frames(batch, 1)
            batch = fill_patches(batch, config.img_size)
            prediction = loaded.network(batch.network_input())
            batch = last_frames(batch, 1)
            size = true_hand_size_mm(batch) if run.oracle_scale else None
            posed = pose_hands(
                loaded.hand, prediction, norm_by_hand=config.norm_by_hand, hand_size_mm=size, with_vertices=True
            )
            posed = run.joints.of(posed, prediction, batch)
            origins = [run.source.origin(position + i) for i in range(len(batch))]
            image, source_index = ([getattr(o, name) for o in origins] for name in ("image", "source_index"))
            measured = run.joints.measured
            yield batch, posed, metrics.frames_of(batch, posed, measured, image=image, source_index=source_index)
            position += len(batch)


def constant_hand(loaded: LoadedNetwork) -> metrics.ConstantHand | None:
    """The best answers that look at no picture, made of the training labels; None where those are not at hand."""
    try:
        training = open_clips(loaded.config, None, "train", 1, loaded)
    except InputError as error:
        logger.warning("no best constant hand: %s", error)
        return None
    chosen = np.unique(np.linspace(0, len(training) - 1, min(len(training), BASELINE_CLIPS)).round().astype(int))
    fit = metrics.ConstantFit()
    for batch in evaluation_batches(training.select(chosen), 64, collate):
        fit.add(batch)
    return fit.answer()


def _constant_summary(rows: Mapping[str, Sequence[metrics.Frames]]) -> dict[str, float] | None:
    """The best of the constant answers for each metric."""
    if not rows:
        return None
    joined = {name: metrics.measure(metrics.concatenate_frames(parts)) for name, parts in rows.items()}
    return metrics.best_constant({name: metrics.summarise(measured) for name, measured in joined.items()})


def _facts(run: Evaluation, split: str, joints: Joints, seconds: float) -> dict[str, Any]:
    loaded = run.loaded
    return {
        "checkpoint": str(loaded.folder),
        "split": split,
        "stage": loaded.config.model.stage,
        "hand": "stand-in" if loaded.facts.is_standin else "MANO",
        "joints": joints,
        "hand_size": "true (oracle)" if run.oracle_scale else "predicted",
        "seconds": round(seconds, 2),
    }


def _report(folder: Path, measured: metrics.Measurements, facts: dict[str, Any]) -> dict[str, Any]:
    metrics.write_csv(folder / "breakdown.csv", metrics.breakdown(measured))
    metrics.write_csv(folder / "by_joint.csv", metrics.by_joint(measured))
    return facts | {"frames": len(measured), "metrics": metrics.summarise(measured)}


def _draw_worst(folder: Path, run: Evaluation, measured: metrics.Measurements) -> None:
    """Pictures of the frames with the largest errors after alignment, and with the largest of the root."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    known = np.isfinite(measured.joint_pa)
    mean_pa = np.where(known, measured.joint_pa, 0).sum(1) / np.maximum(known.sum(1), 1)
    for name, errors in (("pa", mean_pa), ("root", np.nan_to_num(measured.root))):
        worst = np.argsort(-errors)[:WORST_CASES]
        chosen = replace(run, source=run.source.select(np.sort(worst)), workers=0)
        cases = [case for batch, posed, _ in _predicted(chosen) for case in cases_of(batch, posed, run.loaded.hand)]
        write_picture(folder / f"{name}.png", case_sheet(cases, run.loaded.hand.faces.cpu().numpy()))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
