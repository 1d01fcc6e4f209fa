"""The page of one run: where it stands, curves, pictures, numbers, and all that made them."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posecore.errors import InputError
from posecore.report import page
from posecore.report.chart import Chart, Line, render_chart
from posecore.report.html import Html, number, tag
from posecore.training.trackers import METRICS, read_metrics

FIGURE = re.compile(r"step-(\d+)-(.+)\.png")
MOST_STAGES = 6
"""Pictures of one name shown from the course of training, the newest apart."""
FIRST_CHARTS = ("total", "loss")

Metrics = list[dict[str, Any]]


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into the run folder; what the run has not written yet is said in its place.

    Raises:
        InputError: The folder is none of a run, or one of its files is damaged.
    """
    if not (run_dir / METRICS).is_file() and not (run_dir / "config.json").is_file():
        raise InputError(f"{run_dir}: is no run folder: neither {METRICS} nor config.json is there")
    metrics = read_metrics(run_dir / METRICS) if (run_dir / METRICS).is_file() else []
    environment = _json(run_dir / "environment.json")
    best = _json(run_dir / "checkpoints" / "best" / "meta.json")
    name = run_dir.resolve().name
    content = page.page(
        name,
        tag("h1", name),
        _heading(environment),
        _facts(metrics, _best_steps(run_dir / "checkpoints")),
        tag("h2", "Curves"),
        _curves(metrics),
        tag("h2", "Predictions"),
        *_figures(run_dir / "figures"),
        tag("h2", "Numbers"),
        _numbers(metrics, best),
        tag("h2", "What made them"),
        _document("Configuration", run_dir / "config.json"),
        _document("Versions, command and machine", run_dir / "environment.json"),
        _text("Changes that were not committed", run_dir / "uncommitted.diff"),
    )
    report, unfinished = run_dir / "report.html", run_dir / ".report.html.writing"
    unfinished.write_text(content, encoding="utf-8")
    return unfinished.replace(report)


def metric_charts(metrics: Metrics) -> list[Chart]:
    """A chart for each quantity, its training and validation curves together; the loss first."""
    lines: dict[str, dict[str, tuple[list[float], list[float | None]]]] = defaultdict(dict)
    for entry in metrics:
        for name in entry.keys() - {"step", "epoch"}:
            part, _, quantity = name.rpartition("/")
            steps, values = lines[quantity].setdefault(part or quantity, ([], []))
            steps.append(entry["step"])
            values.append(entry[name])
    ordered = sorted(lines, key=lambda quantity: _chart_place(quantity, lines[quantity].keys()))
    return [
        Chart(title=q, lines=[Line(name=n, steps=s, values=v) for n, (s, v) in sorted(lines[q].items())])
        for q in ordered
    ]


def _chart_place(quantity: str, parts: Any) -> tuple[int, str]:
    if quantity in FIRST_CHARTS:
        return FIRST_CHARTS.index(quantity), quantity
    kind = 2 if "validation" in parts else 3 if "train" in parts else 4
    return kind, quantity


def _heading(environment: Mapping[str, Any] | None) -> Html | None:
    if environment is None:
        return None
    commit = environment.get("commit")
    told = [
        str(environment.get("system", "")),
        f"commit {commit[:10]}" if commit else "",
        environment.get("platform", ""),
    ]
    return tag("p", " · ".join(part for part in told if part), class_="muted")


def _best_steps(checkpoints: Path) -> dict[str, int]:
    """Of the best checkpoint, and of those that are best by a further metric."""
    contents = {link.name: _json(link / "meta.json") for link in sorted(checkpoints.glob("best*"))}
    found = {name: int(meta["step"]) for name, meta in contents.items() if meta is not None}
    return {"best checkpoint" + name.removeprefix("best").replace("-", " by ", 1): step for name, step in found.items()}


def _facts(metrics: Metrics, best_steps: Mapping[str, int]) -> Html:
    last: dict[str, Any] = {}
    for entry in metrics:
        last |= entry
    named = {"steps": number(last.get("step")), "epochs ended": number(last.get("epoch"))}
    for name, shown in (("train/total", "training loss"), ("samples_per_s", "samples / s")):
        if last.get(name) is not None:
            named[shown] = number(last[name], 3)
    named |= {name: f"step {number(step)}" for name, step in best_steps.items()}
    return page.facts(named)


def _curves(metrics: Metrics) -> Html:
    charts = metric_charts(metrics)
    if not charts:
        return page.missing(f"No step has been logged: {METRICS} is missing or empty.")
    return tag("div", *(render_chart(chart) for chart in charts), class_="grid-cards")


def _figures(folder: Path) -> list[Html]:
    """The newest picture of each name large, those before it in a strip to unfold."""
    stages: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for path in sorted(folder.glob("*.png")):
        matched = FIGURE.fullmatch(path.name)
        if matched:
            stages[matched[2]].append((int(matched[1]), path))
    if not stages:
        return [page.missing("No pictures have been drawn: figures/ is missing or empty.")]
    newest = [
        page.picture(pictures[-1][1], f"{name}, step {number(pictures[-1][0])}") for name, pictures in stages.items()
    ]
    strips = [_strip(name, pictures[:-1]) for name, pictures in stages.items() if len(pictures) > 1]
    return [tag("div", *newest, class_="grid-wide"), *strips]


def _strip(name: str, earlier: list[tuple[int, Path]]) -> Html:
    count = min(len(earlier), MOST_STAGES)
    chosen = [earlier[i * (len(earlier) - 1) // max(count - 1, 1)] for i in range(count)]
    pictures = [page.picture(path, f"step {number(step)}", None) for step, path in chosen]
    return page.folded(f"{name}: how it came there", tag("div", *pictures, class_="strip"))


def _numbers(metrics: Metrics, best: Mapping[str, Any] | None) -> Html:
    """First, lowest, highest and last of each validation metric (training terms where nothing was validated)."""
    names = sorted({name for entry in metrics for name in entry if name.startswith("validation/")})
    names = names or sorted({name for entry in metrics for name in entry if name.startswith("train/")})
    if not names:
        return page.missing("No metrics have been logged.")
    of_best = {} if best is None else best.get("metrics", {})
    rows = []
    for name in names:
        known = [entry[name] for entry in metrics if entry.get(name) is not None]
        told = [known[0], min(known), max(known), known[-1]] if known else [None] * 4
        at_best = of_best.get(name.removeprefix("validation/"))
        rows.append([name, *(number(value) for value in told), number(at_best)])
    return page.table(["", "first", "lowest", "highest", "last", "best checkpoint"], rows)


def _document(title: str, path: Path) -> Html:
    content = _json(path)
    if content is None:
        return page.missing(f"{title}: {path.name} is missing.")
    return page.folded(title, tag("pre", json.dumps(content, indent=2, ensure_ascii=False)))


def _text(title: str, path: Path) -> Html | None:
    return page.folded(title, tag("pre", path.read_text(errors="replace"))) if path.is_file() else None


def _json(path: Path) -> dict[str, Any] | None:
    """None where there is no such file.

    Raises:
        InputError: It is no JSON object.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object")
    return content
