"""A moving average of a model's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """average <- d average + (1 - d) weights after each step, with d = min(decay, (1 + n) / (10 + n)) after n updates.

    The smaller d of the first steps lets the average forget the random initial weights. Buffers
    (running statistics of norm layers) are averaged too; integer buffers are copied, and so are those of modules with
    `averages_buffers = False`: counts and other records of the run itself, which an average would falsify.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._records = _records(model)
        self.averages = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = model.state_dict()
        floats = [n for n, value in current.items() if value.is_floating_point() and n not in self._records]
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average([self.averages[name] for name in floats], [current[name] for name in floats], self.updates)
        for name in current.keys() - set(floats):
            self.averages[name].copy_(current[name])
        self.updates += 1

    @contextmanager
    def swapped_in(self, model: nn.Module) -> Iterator[None]:
        """The model computes with the average inside, with its own weights again afterwards."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        _copy_into(model, self.averages)
        try:
            yield
        finally:
            _copy_into(model, own)


def _records(model: nn.Module) -> set[str]:
    """Names of buffers that are copied whatever their type."""
    return {
        f"{module_name}.{name}" if module_name else name
        for module_name, module in model.named_modules()
        if not getattr(module, "averages_buffers", True)
        for name, _ in module.named_buffers()
    }


@torch.no_grad()
def _copy_into(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, tensor in model.state_dict().items():
        tensor.copy_(values[name])
