"""Ours beside the library that a user would pick instead: interleaved runs, medians, ratios.

Benchmarks are plain scripts that import this file by name, so `core/bench` has to be on
PYTHONPATH, where `make bench` puts it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MIN_RUN_SECONDS = 0.02
"""A run repeats its function until it lasts this long, so that the clock's grain does not show."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call."""

    median_ms: float
    fastest_ms: float
    slowest_ms: float


@dataclass(frozen=True)
class Target:
    """What the project asks for; None: nothing."""

    ratio: float | None = None
    ms: float | None = None


NO_TARGET = Target()


@dataclass(frozen=True)
class Result:
    """One comparison. `ratio` is the fastest rival's median over ours: above 1, ours is faster."""

    name: str
    runs: int
    ours: Timing
    others: dict[str, Timing]
    target: Target = NO_TARGET

    @property
    def rival(self) -> str | None:
        return min(self.others, key=lambda other: self.others[other].median_ms) if self.others else None

    @property
    def ratio(self) -> float | None:
        return None if self.rival is None else self.others[self.rival].median_ms / self.ours.median_ms

    @property
    def is_met(self) -> bool:
        fast = self.target.ratio is None or (self.ratio is not None and self.ratio >= self.target.ratio)
        return fast and (self.target.ms is None or self.ours.median_ms <= self.target.ms)


def compare(
    name: str,
    ours: Callable[[], object],
    others: dict[str, Callable[[], object]],
    runs: int = 7,
    target: Target = NO_TARGET,
) -> Result:
    """Time all functions in turn, `runs` times over, so that a slow minute of the machine falls on all of them."""
    if runs < 5:
        raise ValueError(f"runs: {runs} is too few for a median and a spread; take 5 or more")
    functions = {"": ours, **others}
    repeats = {label: _repeats(function) for label, function in functions.items()}
    times: dict[str, list[float]] = {label: [] for label in functions}
    for _ in range(runs):
        for label, function in functions.items():
            times[label].append(_milliseconds(function, repeats[label]))
    timings = {label: Timing(statistics.median(ms), min(ms), max(ms)) for label, ms in times.items()}
    return Result(name, runs, timings.pop(""), timings, target)


def report(results: Sequence[Result], json_path: Path | None) -> None:
    """Print one table; where a path is given, write it there and gather the folder's tables in its `all.json`."""
    width = max(len(result.name) for result in results)
    head = f"{'':{width}}  {'ours ms (range)':25}  {'fastest other ms (range)':35}  {'ratio':>7}"
    print(f"{machine()}\n{head}")
    for result in results:
        rival, ratio = "", ""
        if result.rival is not None:
            rival, ratio = f"{result.rival} {_cell(result.others[result.rival])}", f"{result.ratio:.2f}x"
        line = f"{result.name:{width}}  {_cell(result.ours):25}  {rival:35}  {ratio:>7}"
        print(f"{line}{_verdict(result)}", flush=True)
    if json_path is not None:
        rows = [
            asdict(result) | {"rival": result.rival, "ratio": result.ratio, "is_met": result.is_met}
            for result in results
        ]
        page = {"command": " ".join(sys.argv), "commit": _commit(), "machine": machine(), "results": rows}
        json_path.parent.mkdir(parents=True, exist_ok=True)
        _write(json_path, page | {"finished": datetime.now(UTC).isoformat(timespec="seconds")})
        _gather(json_path.parent)


def _gather(folder: Path) -> None:
    tables = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("bench_*.json"))}
    _write(folder / "all.json", {"machine": machine_facts(), "tables": tables})


def _write(path: Path, page: dict[str, Any]) -> None:
    path.write_text(json.dumps(page, indent=2) + "\n")


def json_argument(description: str | None) -> Path | None:
    """The path of `--json PATH` from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, default=None, help="write the table here too, e.g. build/bench/x.json")
    path: Path | None = parser.parse_args().json
    return path


def machine() -> str:
    """Processor, threads, Python and torch in one line."""
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{_processor()} x {os.cpu_count()}, {torch.get_num_threads()} threads{gpu}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def machine_facts() -> dict[str, Any]:
    """What the figures depend on, the load of the last minute included: on a busy machine only ratios tell something."""
    import cv2
    import numpy as np
    import torch
    import warp

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_1_min": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "torch_threads": torch.get_num_threads(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{module.__name__: str(module.__version__) for module in (torch, np, cv2, warp)},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _repeats(function: Callable[[], object]) -> int:
    function()  # the first call compiles, allocates and fills caches
    once = _milliseconds(function, 1) / 1e3
    if once < MIN_RUN_SECONDS:  # on a busy machine one call may take several times its due
        once = min(once, _milliseconds(function, 5) / 1e3)
    return max(1, round(MIN_RUN_SECONDS / max(once, 1e-6)))


def _milliseconds(function: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return 1e3 * (time.perf_counter() - start) / repeats


def _verdict(result: Result) -> str:
    ratio, ms = result.target.ratio, result.target.ms
    asked = [] if ratio is None else [f">= {ratio:g}x"]
    asked += [] if ms is None else [f"<= {ms:g} ms"]
    return f"  {'met' if result.is_met else 'MISSED'}: {' and '.join(asked)}" if asked else ""


def _cell(timing: Timing) -> str:
    return f"{timing.median_ms:.3g} ({timing.fastest_ms:.3g}-{timing.slowest_ms:.3g})"
