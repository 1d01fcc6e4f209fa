"""Batches of any make (dataclasses, dicts, lists of tensors): moved to a device, turned into plain values."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posecore.data.structure import map_tensors


def to_device(batch: Any, device: torch.device) -> Any:
    """Copies without waiting where the batch lies in pinned memory."""
    return map_tensors(lambda tensor: tensor.to(device, non_blocking=True), batch)


def to_plain(batch: Any) -> Any:
    """Tensors, dicts, lists and plain values only, on the CPU: what `torch.load(weights_only=True)` reads back."""
    if isinstance(batch, Tensor):
        return batch.detach().cpu()
    if isinstance(batch, np.ndarray):
        return torch.from_numpy(batch) if batch.dtype.kind in "biufc" else batch.tolist()
    if isinstance(batch, np.generic):
        return batch.item()
    if is_dataclass(batch) and not isinstance(batch, type):
        return {f.name: to_plain(getattr(batch, f.name)) for f in fields(batch)}
    if isinstance(batch, Mapping):
        return {str(key): to_plain(value) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return [to_plain(value) for value in batch]
    return batch if isinstance(batch, str | int | float | bool | None) else str(batch)
