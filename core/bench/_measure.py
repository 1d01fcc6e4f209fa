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
from pathlib import Path

MIN_RUN_SECONDS = 0.02
"""A run repeats its function until it lasts this long, so that the clock's grain does not show."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call."""

    median_ms: float
    fastest_ms: float
    slowest_ms: float


@dataclass(frozen=True)
class Result:
    """One comparison. `ratio` is the fastest rival's median over ours: above 1, ours is faster."""

    name: str
    runs: int
    ours: Timing
    others: dict[str, Timing]

    @property
    def rival(self) -> str | None:
        return min(self.others, key=lambda other: self.others[other].median_ms) if self.others else None

    @property
    def ratio(self) -> float | None:
        return None if self.rival is None else self.others[self.rival].median_ms / self.ours.median_ms


def compare(name: str, ours: Callable[[], object], others: dict[str, Callable[[], object]], runs: int = 7) -> Result:
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
    return Result(name, runs, timings.pop(""), timings)


def report(results: Sequence[Result], json_path: Path | None) -> None:
    """Print one table; write it with command, commit and machine where a path is given."""
    width = max(len(result.name) for result in results)
    print(f"{machine()}\n{'':{width}}  ours ms (range)            fastest other ms (range)             ratio")
    for result in results:
        line = f"{result.name:{width}}  {_cell(result.ours):25}"
        if result.rival is not None:
            line += f"  {result.rival + ' ' + _cell(result.others[result.rival]):35}  {result.ratio:5.2f}x"
        print(line)
    if json_path is not None:
        rows = [asdict(result) | {"rival": result.rival, "ratio": result.ratio} for result in results]
        page = {"command": " ".join(sys.argv), "commit": _commit(), "machine": machine(), "results": rows}
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(page, indent=2) + "\n")


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
    return max(1, round(MIN_RUN_SECONDS / max(once, 1e-6)))


def _milliseconds(function: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return 1e3 * (time.perf_counter() - start) / repeats


def _cell(timing: Timing) -> str:
    return f"{timing.median_ms:.3g} ({timing.fastest_ms:.3g}-{timing.slowest_ms:.3g})"
