"""The running mean of the pose weights' scale: what the Monte Carlo loss is divided by."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class RunningScale(nn.Module):
    """Lives in the model, so that checkpoints keep it. It moves once an optimiser step, by the mean of all micro-batches
    and processes, so accumulated and distributed steps equal the step on the whole batch. Nothing waits for the device.
    """

    value: Float[Tensor, ""]
    pending_sum: Float[Tensor, ""]
    pending_count: Float[Tensor, ""]
    last_step: Int64[Tensor, ""]

    def __init__(self, momentum: float = 0.01) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.tensor(1.0))
        self.register_buffer("pending_sum", torch.tensor(0.0))
        self.register_buffer("pending_count", torch.tensor(0.0))
        self.register_buffer("last_step", torch.tensor(-1))

    @torch.no_grad()
    def add(self, scale: Float[Tensor, "b 2"], step: int) -> Float[Tensor, ""]:
        """Note a micro-batch of a step. All processes must call it equally often.

        Returns:
            The running mean over the steps before this one.
        """
        is_new = self.last_step != step
        mean = self.pending_sum / self.pending_count.clamp_min(1)
        moved = torch.lerp(self.value, mean, self.momentum)
        self.value.copy_(torch.where(is_new & (self.pending_count > 0), moved, self.value))
        here = torch.stack([scale.detach().float().sum(), torch.tensor(float(scale.numel()), device=scale.device)])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(here)
        self.pending_sum.copy_(torch.where(is_new, 0, self.pending_sum) + here[0])
        self.pending_count.copy_(torch.where(is_new, 0, self.pending_count) + here[1])
        self.last_step.fill_(step)
        return self.value.clone()


def running_scale_of(model: nn.Module) -> RunningScale:
    """That of a model, wrapped or not.

    Raises:
        ValueError: It has none, or several.
    """
    found = [module for module in model.modules() if isinstance(module, RunningScale)]
    if len(found) != 1:
        raise ValueError(f"the pose loss needs one RunningScale in the model, found {len(found)}")
    return found[0]
