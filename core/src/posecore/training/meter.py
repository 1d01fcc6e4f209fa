"""Means of loss terms between two log lines, kept on the device until they are read."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from posecore.training.launch import sum_over_ranks


class Meter:
    """Adds up the shares of all micro-batches, steps and processes; a mean is per optimizer step.

    A term that a step lacks counts as 0 there.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """One step of this process; nothing waits for the device."""
        for name, value in terms.items():
            share = value.detach().double()
            self._sums[name] = self._sums[name] + share if name in self._sums else share
        self._steps += 1

    def read(self) -> dict[str, float]:
        """Means over the steps since the last reading, over all processes; waits for the device and starts again."""
        sums = sum_over_ranks(self._local())
        means = {name: total / self._steps for name, total in sums.items()} if self._steps else {}
        self._sums, self._steps = {}, 0
        return means

    def state(self) -> dict[str, Any]:
        """The sums of all processes so far, for a checkpoint between two log lines."""
        return {"sums": sum_over_ranks(self._local()), "steps": self._steps}

    def load(self, state: Mapping[str, Any], keeps_sums: bool) -> None:
        """Go on from a state; one process alone keeps the sums, so that they are not counted twice."""
        sums = state["sums"] if keeps_sums else {}
        self._sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in sums.items()}
        self._steps = state["steps"]

    def _local(self) -> dict[str, float]:
        return {name: float(value.item()) for name, value in self._sums.items()}
