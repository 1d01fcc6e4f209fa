"""The rasterisers to choose from: the choice is explicit, nothing falls back on anything else."""

import importlib.util
from typing import Literal, get_args

import torch

from posecore.errors import InputError

Backend = Literal["warp", "torch", "pytorch3d"]
"""warp: compiled kernels for CPU and CUDA, float32. torch: the same formulas in plain PyTorch, any float type,
no compilation, 10 times slower. pytorch3d: where that library is installed."""


def check_backend(backend: Backend, dtype: torch.dtype) -> None:
    """Raise where the backend is unknown, not installed, or does not compute in this float type."""
    if backend not in get_args(Backend):
        raise ValueError(f"backend is {backend!r}, must be one of {', '.join(get_args(Backend))}")
    if backend != "torch" and dtype != torch.float32:
        raise TypeError(f"backend {backend!r} computes in float32, vertices_cam is {dtype}; backend 'torch' takes any")
    if backend == "pytorch3d" and importlib.util.find_spec("pytorch3d") is None:
        raise InputError(
            "rendering: backend: 'pytorch3d' is not installed: build it as its INSTALL.md says "
            "(github.com/facebookresearch/pytorch3d), or choose 'warp', which gives the same pictures"
        )
