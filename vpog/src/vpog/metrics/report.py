"""The numbers of an evaluation: of each true object, and from these of objects, of visibilities and of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int64

from vpog.metrics.settings import ScoreSettings, area_under_recall

Numbers = dict[str, float]


@dataclass(frozen=True)
class TargetTable:
    """One row for each object to be found; errors are those of the estimate that fits it, infinite where none is left."""

    scene_id: Int64[np.ndarray, " n"]
    image_id: Int64[np.ndarray, " n"]
    gt_index: Int64[np.ndarray, " n"]
    obj_id: Int64[np.ndarray, " n"]
    visib_fract: Float[np.ndarray, " n"]
    diameter_mm: Float[np.ndarray, " n"]
    is_symmetric: Bool[np.ndarray, " n"]
    estimate: Int64[np.ndarray, " n"]
    """Place in the list of estimates, -1: none."""
    score: Float[np.ndarray, " n"]
    """NaN where there is no estimate."""
    mssd_mm: Float[np.ndarray, " n"]
    mspd_px: Float[np.ndarray, " n"]
    """Of a picture 640 px wide."""
    add_mm: Float[np.ndarray, " n"]
    add_s_mm: Float[np.ndarray, " n"]
    projection_px: Float[np.ndarray, " n"]
    rotation_deg: Float[np.ndarray, " n"]
    symmetric_rotation_deg: Float[np.ndarray, " n"]
    translation_mm: Float[np.ndarray, " n"]
    recall_mssd: Float[np.ndarray, " n"]
    """Share of the thresholds at which it is found."""
    recall_mspd: Float[np.ndarray, " n"]
    recall_vsd: Float[np.ndarray, " n"]
    """NaN: VSD was not computed."""

    def __len__(self) -> int:
        return len(self.obj_id)

    @property
    def add_or_s_mm(self) -> Float[np.ndarray, " n"]:
        """ADD-S of symmetric objects, ADD of others."""
        return np.where(self.is_symmetric, self.add_s_mm, self.add_mm)

    def select(self, rows: Bool[np.ndarray, " n"]) -> "TargetTable":
        """Some rows."""
        return TargetTable(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Report:
    """Result of `score_estimates`."""

    dataset: str
    overall: Numbers
    """By name; all but errors, counts and times are shares of 1."""
    per_object: dict[int, Numbers]
    per_visibility: tuple[tuple[float, float, Numbers], ...]
    """From and up to (the last range includes its end) which visible fraction; ranges without targets are left out."""
    targets: TargetTable

    def worst(self, count: int) -> Int64[np.ndarray, " m"]:
        """Rows of targets with the largest errors in diameters, those without estimate first."""
        return np.argsort(-self.targets.mssd_mm / self.targets.diameter_mm, kind="stable")[:count]


def summarise(table: TargetTable, settings: ScoreSettings) -> Numbers:
    """Recalls of BOP 2019 and pose errors; medians are over targets that have an estimate, `answered` is their share.

    `ar_vsd` and `ar`, the mean of all three recalls, are there where VSD was computed; `ar_mssd_mspd` is always.
    """
    has_estimate = table.estimate >= 0
    out = {"targets": float(len(table)), "answered": float(has_estimate.mean())}
    recalls = {name: float(getattr(table, f"recall_{name}").mean()) for name in ("vsd", "mssd", "mspd")}
    if np.isfinite(recalls["vsd"]):
        out |= {"ar": float(np.mean(list(recalls.values()))), "ar_vsd": recalls["vsd"]}
    out |= {"ar_mssd": recalls["mssd"], "ar_mspd": recalls["mspd"]}
    out["ar_mssd_mspd"] = (recalls["mssd"] + recalls["mspd"]) / 2
    limit = settings.add_share * table.diameter_mm
    columns = {"add": table.add_mm, "add_s": table.add_s_mm, "add_or_s": table.add_or_s_mm}
    for name, errors in columns.items():
        out[f"{name}_recall"] = float((errors < limit).mean())
        out[f"{name}_auc"] = float(area_under_recall(errors, settings.auc_max_mm).mean())
    medians = {
        "rotation_deg": table.rotation_deg,
        "symmetric_rotation_deg": table.symmetric_rotation_deg,
        "translation_mm": table.translation_mm,
        "projection_px": table.projection_px,
        "mssd_mm": table.mssd_mm,
        "mspd_px": table.mspd_px,
    }
    if has_estimate.any():
        out |= {f"median_{name}": float(np.median(errors[has_estimate])) for name, errors in medians.items()}
    return out


def by_object(
    table: TargetTable, precisions: Mapping[str, Mapping[int, float]], settings: ScoreSettings
) -> dict[int, Numbers]:
    """One entry for each object that is a target.

    Args:
        precisions: Average precisions by name and object.
    """
    out = {}
    for obj_id in np.unique(table.obj_id).tolist():
        own = {name: values[obj_id] for name, values in precisions.items() if obj_id in values}
        out[obj_id] = summarise(table.select(table.obj_id == obj_id), settings) | own
    return out


def by_visibility(table: TargetTable, settings: ScoreSettings) -> tuple[tuple[float, float, Numbers], ...]:
    """Ranges that have targets."""
    out = []
    for low, high in pairwise(settings.visibility_edges):
        is_last = high == settings.visibility_edges[-1]
        within = (table.visib_fract >= low) & ((table.visib_fract <= high) if is_last else (table.visib_fract < high))
        if within.any():
            out.append((low, high, summarise(table.select(within), settings)))
    return tuple(out)


def mean_over_datasets(reports: Sequence[Report]) -> Numbers:
    """BOP's final scores: the plain mean over data sets of each recall and precision that all of them have."""
    if not reports:
        raise ValueError("there are no reports to average")
    names = [n for n in reports[0].overall if n.startswith(("ar", "ap")) and all(n in r.overall for r in reports)]
    return {name: float(np.mean([report.overall[name] for report in reports])) for name in names}
