"""Mixed precision: autocast around the model's forward, float32 outside, a gradient scaler for float16.

Losses, cameras and body models outside the model's forward stay in float32.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from posecore.data.structure import map_tensors

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Autocast(nn.Module):
    """A model whose forward runs under autocast and whose outputs come back as float32.

    Fabric's own wrapper would do this too, but refuses frozen dataclasses as inputs and outputs.
    """

    def __init__(self, module: nn.Module, precision: Precision, device_type: str) -> None:
        super().__init__()
        self.module = module
        self.dtype = _DTYPES.get(precision)
        self.device_type = device_type

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.dtype is None:
            return self.module(*args, **kwargs)
        with torch.autocast(self.device_type, self.dtype):
            output = self.module(*args, **kwargs)
        return map_tensors(self._to_float32, output)

    def _to_float32(self, tensor: Tensor) -> Tensor:
        return tensor.float() if tensor.dtype == self.dtype else tensor


def gradient_scaler(precision: Precision, device_type: str) -> torch.amp.GradScaler:
    """Scales the loss so that small float16 gradients do not vanish; does nothing for the other precisions."""
    return torch.amp.GradScaler(device_type, enabled=precision == "16-mixed")
