"""A step of `fit` beside the same step in a bare PyTorch loop, at steps of about 50 ms on two cores.

Timed from the first step to the last, so that neither side pays for start-up. Ours logs and checks
for non-finite losses as in any run; the bare loop logs its loss as often.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _measure import Result, Timing, json_argument, report
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from posecore.training import FitConfig, Task, fit

FEATURES, WIDTH, BATCH, STEPS, RUNS, LOG_EVERY = 256, 1536, 128, 40, 7, 10

Pair = tuple[np.ndarray, np.ndarray]


class Examples(Dataset[Pair]):
    """Random regression samples held in memory."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(BATCH * STEPS, FEATURES)).astype(np.float32)
        self.y = rng.normal(size=(BATCH * STEPS, 16)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.x)

    def load(self, index: int, rng: np.random.Generator) -> Pair:
        return self.x[index], self.y[index]

    def __getitem__(self, index: int) -> Pair:
        return self.x[index], self.y[index]


class Regression(Task[Any]):
    """Least squares; notes when its steps begin."""

    name, version = "bench", "0"

    def __init__(self, examples: Examples) -> None:
        self.examples, self.begun = examples, list[float]()

    def resolved_config(self) -> dict[str, Any]:
        return {}

    def build_model(self) -> nn.Module:
        return network()

    def train_source(self) -> Examples:
        return self.examples

    def collate(self, samples: list[Any]) -> dict[str, Tensor]:
        x, y = zip(*samples, strict=True)
        return {"x": torch.from_numpy(np.stack(x)), "y": torch.from_numpy(np.stack(y))}

    def denominators(self, batch: Any) -> dict[str, Tensor]:
        return {"numbers": torch.tensor(batch["y"].numel())}

    def loss(self, model: nn.Module, batch: Any, denominators: Any, progress: Any) -> dict[str, Tensor]:
        self.begun.append(time.perf_counter())
        return {"total": ((model(batch["x"]) - batch["y"]) ** 2).sum() / denominators["numbers"]}


def network() -> nn.Module:
    layers = [nn.Linear(FEATURES, WIDTH), nn.GELU()]
    layers += [nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 16))


def ours(examples: Examples) -> float:
    """Milliseconds a step."""
    task = Regression(examples)
    config = FitConfig(epochs=1, batch_size=BATCH, accelerator="cpu", log_every=LOG_EVERY, figures_every=None)
    with tempfile.TemporaryDirectory() as folder:
        fit(task, config, Path(folder) / "run")
    return 1e3 * (task.begun[-1] - task.begun[0]) / (STEPS - 1)


def bare(examples: Examples) -> float:
    """Milliseconds a step."""
    model, begun = network(), list[float]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for step, (x, y) in enumerate(DataLoader(examples, BATCH, shuffle=True)):
        begun.append(time.perf_counter())
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % LOG_EVERY == 0:
            loss.item()
    return 1e3 * (begun[-1] - begun[0]) / (STEPS - 1)


def main(json_path: Path | None) -> None:
    examples = Examples()
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(RUNS):
        times["ours"].append(ours(examples))
        times["bare"].append(bare(examples))
    timings = {name: Timing(statistics.median(ms), min(ms), max(ms)) for name, ms in times.items()}
    report([Result("training step", RUNS, timings["ours"], {"bare PyTorch loop": timings["bare"]})], json_path)


if __name__ == "__main__":
    main(json_argument(__doc__))
