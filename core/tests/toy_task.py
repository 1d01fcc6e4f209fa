"""A small system for the tests of the training loop; as a script, one run in a process of its own.

    python toy_task.py RUN_DIR '{"epochs": 2, ...}'

TOY_DIE_AT_STEP and TOY_SIGNAL_AT_STEP make the process (of local rank TOY_ONLY_RANK) kill or signal itself in a step;
TOY_DROPOUT and TOY_UNFREEZE_EPOCH set the task's arguments.
"""

import hashlib
import json
import logging
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from posecore.training import FitConfig, ParameterGroup, Task, fit

SAMPLES, FEATURES = 48, 6


def local_rank():
    return os.environ.get("SLURM_LOCALID", os.environ.get("LOCAL_RANK", "0"))


@dataclass(frozen=True)
class Batch:
    key: tuple[str, ...]
    x: torch.Tensor
    y: torch.Tensor
    mask: torch.Tensor


class Source:
    """y = A x with noise on x that changes from epoch to epoch; some labels are missing, not equally many a batch."""

    def __init__(self, samples=SAMPLES, noise=0.05, damage=None):
        draw = np.random.default_rng(5)
        truth = draw.normal(size=(FEATURES, 3))
        self.x = draw.normal(size=(samples, FEATURES)).astype(np.float32)
        self.y = (self.x @ truth).astype(np.float32)
        self.mask = draw.random((samples, 3)) < 0.6
        self.noise, self.damage = noise, damage

    def __len__(self):
        return len(self.x)

    def load(self, index, rng):
        x = self.x[index] + rng.normal(scale=self.noise, size=FEATURES).astype(np.float32)
        if index == self.damage:
            x = np.full_like(x, np.nan)
        return f"sample-{index}", x, self.y[index], self.mask[index]


class Model(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.backbone = nn.Linear(FEATURES, 16)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return {"y": self.head(self.dropout(torch.relu(self.backbone(x))))}


class Toy(Task):
    name, version = "toy", "0.1.0"
    monitor = "error"

    def __init__(self, config=None, dropout=0.0, source=None, unfreeze_epoch=0, has_validation=True):
        self.config = config or {}
        self.dropout, self.unfreeze_epoch, self.has_validation = dropout, unfreeze_epoch, has_validation
        self.source = source or Source()
        self.seen, self.validated, self.progresses, self.output_dtype = [], [], [], None

    def resolved_config(self):
        return {"training": self.config}

    def build_model(self):
        return Model(self.dropout)

    def train_source(self):
        return self.source

    def validation_source(self):
        return Source(samples=13, noise=0.0) if self.has_validation else None

    def collate(self, samples):
        keys, *arrays = zip(*samples, strict=True)
        return Batch(keys, *(torch.from_numpy(np.stack(a)) for a in arrays))

    def parameter_groups(self, model):
        return [
            ParameterGroup("head", list(model.head.parameters())),
            ParameterGroup("backbone", list(model.backbone.parameters()), lr_multiplier=0.1),
        ]

    def begin_epoch(self, model, progress):
        model.train()
        model.backbone.requires_grad_(progress.epoch >= self.unfreeze_epoch)

    def denominators(self, batch):
        return {"labels": batch.mask.sum()}

    def loss(self, model, batch, denominators, progress):
        for name, number in (("TOY_DIE_AT_STEP", signal.SIGKILL), ("TOY_SIGNAL_AT_STEP", signal.SIGUSR1)):
            if (
                os.environ.get(name) == f"{progress.step}"
                and os.environ.get("TOY_ONLY_RANK", local_rank()) == local_rank()
            ):
                os.kill(os.getpid(), number)
        self.seen.extend(batch.key)
        self.progresses.append(progress)
        predicted = model(batch.x)["y"]
        self.output_dtype = predicted.dtype
        squares = ((predicted - batch.y) ** 2 * batch.mask).sum() / denominators["labels"]
        return {"total": squares, "squares": squares}

    def validate(self, model, batch):
        self.validated.extend(batch.key)
        errors = (model(batch.x)["y"] - batch.y).abs()[batch.mask]
        return {"error": (errors.sum(), torch.tensor(errors.numel()))}

    def figures(self, model, batch):
        model(batch.x)
        return {"prediction": np.full((8, 8, 3), 200, np.uint8)}


def weights_digest(checkpoint):
    """One word for all weights."""
    data = b"".join(checkpoint.weights[name].numpy().tobytes() for name in sorted(checkpoint.weights))
    return hashlib.sha256(data).hexdigest()


def main(run_dir, settings, resume=None, environment=None):
    os.environ.update(environment or {})
    multiprocessing.set_start_method("fork", force=True)  # as in any script; from a test it would be that process's own
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(1)
    unfreeze_epoch = int(os.environ.get("TOY_UNFREEZE_EPOCH", "0"))
    task = Toy(settings, dropout=float(os.environ.get("TOY_DROPOUT", "0")), unfreeze_epoch=unfreeze_epoch)
    outcome = fit(task, FitConfig(**settings), run_dir, resume=resume)
    facts = {"step": outcome.step, "was_preempted": outcome.was_preempted, "metrics": outcome.metrics}
    Path(f"{run_dir}.rank{torch.distributed.get_rank() if torch.distributed.is_initialized() else 0}.json").write_text(
        json.dumps(facts)
    )


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
