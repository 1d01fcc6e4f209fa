"""Where metrics and pictures go: metrics.jsonl always, other writers behind the same call."""

import importlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from posecore.errors import InputError
from posecore.training._atomic import write_bytes

logger = logging.getLogger(__name__)

Values = Mapping[str, float | int | None]
METRICS = "metrics.jsonl"


@runtime_checkable
class Tracker(Protocol):
    """Something that keeps numbers and pictures of a run; None stands for a number that is not finite."""

    def log(self, step: int, values: Values) -> None: ...

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None: ...

    def close(self) -> None: ...


class Trackers:
    """All trackers of a run as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def log(self, step: int, values: Values) -> None:
        finite = {k: None if v is None or not math.isfinite(v) else v for k, v in values.items()}
        for tracker in self._trackers:
            tracker.log(step, finite)

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        for tracker in self._trackers:
            tracker.picture(step, name, image)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.close()


def open_trackers(names: Sequence[str], run_dir: Path, config: dict[str, Any], resumed_at: int) -> Trackers:
    """Open metrics.jsonl and the named trackers; what they hold beyond the step resumed at is dropped.

    Raises:
        InputError: The package of a tracker is not installed.
    """
    kinds: dict[str, Callable[[Path, dict[str, Any], int], Tracker]] = {
        "tensorboard": TensorBoard,
        "aim": Aim,
        "wandb": WandB,
    }
    for name in names:
        if name != "tensorboard":
            _import_extra(name)  # before anything is written
    others = [kinds[name](run_dir, config, resumed_at) for name in names]
    return Trackers([MetricsFile(run_dir, resumed_at), *others])


class MetricsFile:
    """metrics.jsonl: one JSON object a line, and the pictures as PNG files.

    {"step": 20, "epoch": 0, "train/total": 0.31, "lr": 0.0001, ...} and
    {"step": 20, "epoch": 1, "validation/mpjpe": 0.012, ...}
    """

    def __init__(self, run_dir: Path, resumed_at: int) -> None:
        path = run_dir / METRICS
        if path.exists():
            kept = [line for line in read_metrics(path) if line["step"] <= resumed_at and resumed_at > 0]
            write_bytes(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._file = path.open("a", encoding="utf-8")
        self._figures = run_dir / "figures"

    def log(self, step: int, values: Values) -> None:
        self._file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
        self._file.flush()

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        from posecore.data.images import encode_png

        self._figures.mkdir(exist_ok=True)
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
        write_bytes(self._figures / f"step-{step:08d}-{safe}.png", encode_png(image))

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that a killed process left unfinished is left out.

    Raises:
        InputError: Another line is broken.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    metrics = []
    for number, line in enumerate(lines, 1):
        try:
            metrics.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise InputError(f"{path}:{number}: not a line of metrics: {error.msg}") from None
    return metrics


class TensorBoard:
    """TensorBoard event files in the run folder."""

    def __init__(self, run_dir: Path, config: dict[str, Any], resumed_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(run_dir, purge_step=resumed_at + 1 if resumed_at else None)  # type: ignore[no-untyped-call]

    def log(self, step: int, values: Values) -> None:
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)  # type: ignore[no-untyped-call]

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        self._writer.add_image(name, image, step, dataformats="HWC")  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._writer.close()  # type: ignore[no-untyped-call]


class Aim:
    """A run in the Aim repository of the folder that holds the runs; resuming goes on with the same Aim run."""

    def __init__(self, run_dir: Path, config: dict[str, Any], resumed_at: int) -> None:
        self._aim = _import_extra("aim")
        known = run_dir / "aim_run"
        run_hash = known.read_text().strip() if resumed_at and known.is_file() else None
        self._run = self._aim.Run(run_hash=run_hash, repo=str(run_dir.parent), experiment=run_dir.name)
        write_bytes(known, self._run.hash.encode())
        self._run["config"] = config

    def log(self, step: int, values: Values) -> None:
        for name, value in values.items():
            if value is not None:
                self._run.track(value, name=name, step=step)

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        self._run.track(self._aim.Image(image), name=name, step=step)

    def close(self) -> None:
        self._run.close()


class WandB:
    """A Weights & Biases run, its files in the run folder; WANDB_MODE=offline keeps it off the network."""

    def __init__(self, run_dir: Path, config: dict[str, Any], resumed_at: int) -> None:
        self._wandb = _import_extra("wandb")
        known = run_dir / "wandb_run"
        run_id = known.read_text().strip() if resumed_at and known.is_file() else None
        self._run = self._wandb.init(dir=str(run_dir), name=run_dir.name, config=config, id=run_id, resume="allow")
        write_bytes(known, self._run.id.encode())

    def log(self, step: int, values: Values) -> None:
        self._run.log({name: value for name, value in values.items() if value is not None}, step=step)

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        self._run.log({name: self._wandb.Image(image)}, step=step)

    def close(self) -> None:
        self._run.finish()


def _import_extra(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(f"trackers: {name} is not installed; `pip install 'posecore[{name}]'` adds it") from None
