"""One training loop for all systems: `fit(task, config, run_dir)`.

Names are imported on first use, so that `posecore.training.preemption` and `posecore.training.config`
can be had without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posecore.training.checkpoints import (
        Checkpoint,
        find_checkpoint,
        latest_checkpoint,
        load_checkpoint,
        save_checkpoint,
    )
    from posecore.training.config import FitConfig
    from posecore.training.loop import FitResult, fit
    from posecore.training.task import ParameterGroup, Progress, SampleSource, Task, Terms

_HOMES = {
    "Checkpoint": "checkpoints",
    "find_checkpoint": "checkpoints",
    "latest_checkpoint": "checkpoints",
    "load_checkpoint": "checkpoints",
    "save_checkpoint": "checkpoints",
    "FitConfig": "config",
    "FitResult": "loop",
    "fit": "loop",
    "ParameterGroup": "task",
    "Progress": "task",
    "SampleSource": "task",
    "Task": "task",
    "Terms": "task",
}

__all__ = [
    "Checkpoint",
    "FitConfig",
    "FitResult",
    "ParameterGroup",
    "Progress",
    "SampleSource",
    "Task",
    "Terms",
    "find_checkpoint",
    "fit",
    "latest_checkpoint",
    "load_checkpoint",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
