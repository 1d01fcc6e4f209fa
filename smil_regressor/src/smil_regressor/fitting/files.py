"""`smil fit`: from a labelled data file to parameters, overlays, meshes and, on request, a file with the poses as labels."""

import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posecore.bodymodel import read_model
from posecore.devices import choose_device
from posecore.errors import InputError
from posecore.rendering import Backend
from smil_regressor.animation import write_animation
from smil_regressor.assembly import file_sha256
from smil_regressor.data.files import open_file
from smil_regressor.data.insect import insect_body
from smil_regressor.data.labels import LabelRules
from smil_regressor.data.sample import Batch, Sample, collate
from smil_regressor.data.source import MultiViewSource
from smil_regressor.fitting.labels import label_writer, with_fit
from smil_regressor.fitting.measure import fit_poses, measure
from smil_regressor.fitting.optimise import fit
from smil_regressor.fitting.options import FitOptions
from smil_regressor.model.body import Body
from smil_regressor.predict import View
from smil_regressor.predict_files import MeshFormat, concatenate, write_frame

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitter:
    """Body model and renderer of a fit, as drawing wants them."""

    body: Body
    renderer: Backend


def fit_file(
    data: Path,
    output: Path,
    options: FitOptions,
    *,
    smal_file: Path | None = None,
    samples: Sequence[int] | None = None,
    labels: Path | None = None,
    mesh_format: MeshFormat | None = "obj",
    batch_size: int = 32,
    device: str = "auto",
) -> dict[str, Any]:
    """Fit samples of a data file; see `smil fit --help` for the arguments.

    Writes for each sample sample_N.json, sample_N_overlay.png and a mesh, for all animation.npz, cameras.json and
    fit.json, and the samples with their fitted parameters to `labels`.

    Raises:
        InputError: Unreadable files, no such samples, or samples whose labels are too few.
    """
    where = choose_device(device)
    model = insect_body() if smal_file is None else read_model(smal_file)
    fitter = Fitter(Body(model, "mesh_scale").to(where), options.backend)
    source = _open(data, fitter.body)
    rows = _rows(source, samples)
    sha256 = None if smal_file is None else file_sha256(smal_file)
    output.mkdir(parents=True, exist_ok=True)
    parts, names, told = [], [], []
    with ExitStack() as stack:
        writer = None if labels is None else stack.enter_context(label_writer(labels, source, model, sha256, data))
        for group in _groups(source, rows, batch_size, options):
            loaded = [source.load(row, np.random.default_rng(0)) for row in group]
            batch = collate(loaded)
            result = fit(_to(batch, where), fitter.body, options)
            poses = fit_poses(result, batch, fitter.body, source.camera_order)
            for number, (row, sample) in enumerate(zip(group, loaded, strict=True)):
                name = f"sample_{source.rows[row]:06d}"
                write_frame(output, name, poses, number, _views(sample, source.camera_order), fitter, mesh_format)
                names.append(name)
                if writer is not None:
                    writer.add(with_fit(sample, result, number))
            parts.append(poses)
            told += measure(result, batch, fitter.body, options.backend)
            logger.info("%d of %d samples", len(names), len(rows))
    write_animation(output, names, concatenate(parts), fitter)
    summary = {"output": str(output), "labels": None if labels is None else str(labels), **_overall(told)}
    text = json.dumps(summary | {"samples": dict(zip(names, told, strict=True))}, indent=2, allow_nan=False)
    (output / "fit.json").write_text(text + "\n", encoding="utf-8")
    return summary


def parse_samples(text: str) -> list[int] | None:
    """`all` or numbers between commas; None: all."""
    if text == "all":
        return None
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise InputError(f"--samples {text}: all, or numbers between commas are needed, for example 0,4,7") from None


def _open(data: Path, body: Body) -> MultiViewSource:
    model = body.model
    file = open_file(data, body=model)
    rules = LabelRules.between(str(data), file.joint_names, file.num_joints, model.joint_names, model.num_betas)
    resolution = file.table.attribute("target_resolution")
    if resolution is None:
        raise InputError(f"{data}: metadata.target_resolution: missing; the side of the pictures is needed")
    return MultiViewSource(file, int(resolution), rules)


def _rows(source: MultiViewSource, samples: Sequence[int] | None) -> list[int]:
    """Indices in the source of the file's samples."""
    if samples is None:
        return list(range(len(source)))
    known = {int(row): index for index, row in enumerate(source.rows)}
    wrong = [str(sample) for sample in samples if sample not in known]
    if wrong or not samples:
        raise InputError(
            f"--samples {','.join(wrong)}: {source.file.table.path} has samples 0 to {len(source.file) - 1}"
        )
    return [known[sample] for sample in samples]


def _groups(source: MultiViewSource, rows: Sequence[int], size: int, options: FitOptions) -> list[list[int]]:
    """Samples that are fitted at once; sessions stay whole where their frames share cameras or shape."""
    if not (options.share_shape or options.refine_cameras):
        return [list(rows[start : start + size]) for start in range(0, len(rows), size)]
    sessions: dict[str, list[int]] = {}
    for row in rows:
        sessions.setdefault(source.sessions[row], []).append(row)
    return list(sessions.values())


def _views(sample: Sample, camera_order: Sequence[str]) -> list[View]:
    present = np.flatnonzero(sample.view_mask)  # padding comes last
    return [View(sample.images[v], camera_order[sample.camera_slots[v]]) for v in present]


def _to(batch: Batch, device: torch.device) -> Batch:
    moved: dict[str, Any] = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in vars(batch).items()}
    return Batch(**moved)


def _overall(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Number of samples and medians of what was measured of them."""
    medians: dict[str, Any] = {"samples_fitted": len(told)}
    for key in told[0]:
        values = [entry[key] for entry in told if isinstance(entry[key], float)]
        if values:
            medians[f"median_{key}"] = float(np.median(values))
    return medians
