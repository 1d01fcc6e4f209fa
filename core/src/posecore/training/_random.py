"""The global random states of this process: seeded, saved, put back, fixed for a while."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(*seeds: int) -> None:
    """Seed Python, NumPy and torch (all devices) from a few numbers, for example seed and rank."""
    words = np.random.SeedSequence(seeds).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002  a task may use libraries that draw from the global state
    torch.manual_seed(int(words[2]))


def capture(device: torch.device) -> dict[str, Any]:
    """The states, in types that `torch.load(weights_only=True)` reads (NumPy's own tuple is not)."""
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    numpy_state = {**legacy["state"], "key": torch.from_numpy(legacy["state"]["key"].astype(np.int64))}
    return {
        "python": random.getstate(),
        "numpy": {**legacy, "state": numpy_state},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore(states: dict[str, Any], device: torch.device) -> None:
    """Put captured states back; a run that moved from CPU to GPU keeps the GPU's freshly seeded state."""
    numpy_state = {**states["numpy"]["state"], "key": states["numpy"]["state"]["key"].numpy().astype(np.uint32)}
    random.setstate(states["python"])
    np.random.set_state({**states["numpy"], "state": numpy_state})  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)


@contextmanager
def fixed(seed: int, device: torch.device) -> Iterator[None]:
    """The same random numbers each time inside, and none of the training's used up."""
    states = capture(device)
    seed_everything(seed)
    try:
        yield
    finally:
        restore(states, device)
