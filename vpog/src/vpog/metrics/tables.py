"""A report as JSON, Markdown and CSV."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from vpog.metrics.report import Numbers, Report, TargetTable

HEADLINE = ("ar", "ar_vsd", "ar_mssd", "ar_mspd", "ap", "ap_mssd", "ap_mspd", "seconds_per_image")
COLUMNS = {
    "targets": "targets",
    "answered": "answered",
    "ar": "AR",
    "ar_vsd": "AR VSD",
    "ar_mssd": "AR MSSD",
    "ar_mspd": "AR MSPD",
    "ap": "AP",
    "add_or_s_recall": "ADD(-S)",
    "add_or_s_auc": "AUC ADD(-S)",
    "add_s_auc": "AUC ADD-S",
    "median_symmetric_rotation_deg": "median deg",
    "median_translation_mm": "median mm",
}


def write_report(report: Report, folder: Path) -> None:
    """`metrics.json`, `report.md`, `objects.csv`, `visibility.csv`, `targets.csv` (one row for each object to be found)."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report_to_json(report), indent=2, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.md").write_text(report_to_markdown(report), encoding="utf-8")
    write_rows(folder / "objects.csv", [{"obj_id": key} | numbers for key, numbers in report.per_object.items()])
    ranges = [{"visible_from": low, "visible_to": high} | numbers for low, high, numbers in report.per_visibility]
    write_rows(folder / "visibility.csv", ranges)
    write_rows(folder / "targets.csv", target_rows(report.targets))


def report_to_json(report: Report) -> dict[str, Any]:
    """All but the single targets; what is infinite is null."""
    return {
        "dataset": report.dataset,
        "overall": _finite(report.overall),
        "per_object": {str(obj_id): _finite(numbers) for obj_id, numbers in report.per_object.items()},
        "per_visibility": [
            {"visible_from": low, "visible_to": high} | _finite(numbers) for low, high, numbers in report.per_visibility
        ],
    }


def report_to_markdown(report: Report) -> str:
    """Headline numbers, then a table of objects and one of visible fractions; recalls in percent."""
    shown = {name: report.overall[name] for name in HEADLINE if name in report.overall}
    lines = [f"# {report.dataset}", "", *_table(["metric", "value"], [[n, _cell(n, v)] for n, v in shown.items()])]
    objects = [(str(key), numbers) for key, numbers in report.per_object.items()]
    lines += ["", *_numbers_table("object", [*objects, ("all", report.overall)])]
    ranges = [(f"{100 * low:g}-{100 * high:g} %", numbers) for low, high, numbers in report.per_visibility]
    lines += ["", *_numbers_table("visible", ranges)]
    return "\n".join(lines) + "\n"


def target_rows(table: TargetTable) -> list[dict[str, Any]]:
    """One for each object to be found."""
    names = [field.name for field in fields(table)]
    columns = [getattr(table, name).tolist() for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Cells that a row lacks, and NaN, are empty; infinite ones say inf."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(
            {k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows
        )


def _numbers_table(first: str, rows: Sequence[tuple[str, Numbers]]) -> list[str]:
    names = [name for name in COLUMNS if any(name in numbers for _, numbers in rows)]
    cells = [[key, *(_cell(name, numbers.get(name)) for name in names)] for key, numbers in rows]
    return _table([first, *(COLUMNS[name] for name in names)], cells)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name == "targets":
        return f"{value:.0f}"
    if name == "seconds_per_image":
        return f"{value:.3f} s"
    return f"{value:.2f}" if name.startswith("median") else f"{100 * value:.1f}"


def _finite(numbers: Numbers) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}
