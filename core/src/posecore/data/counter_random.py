"""Random numbers on any device that depend on a sample's seed and a counter alone.

A torch.Generator gives a batch one stream, so a sample's draws would depend on its neighbours and on the number of
devices. Here number i of stream s is a hash of (seed, s, i): exact in integers, so equal on CPU and GPU.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_MIX_1, _MIX_2 = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB as signed
_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15


def uniforms(seeds: Int[Tensor, " b"], stream: int, count: int) -> Float[Tensor, "b {count}"]:
    """`count` numbers in [0, 1) for each seed, 24 bits each."""
    counters = torch.arange(count, device=seeds.device, dtype=torch.int64)
    bits = _mix(_mix(seeds + counters.new_tensor(stream) * _GOLDEN)[:, None] + counters * _GOLDEN)
    return _logical_shift(bits, 40).to(torch.float32) * 2.0**-24


def normals(seeds: Int[Tensor, " b"], stream: int, count: int) -> Float[Tensor, "b {count}"]:
    """Standard normal numbers, by Box and Muller from pairs of uniforms."""
    half = (count + 1) // 2
    flat = uniforms(seeds, stream, 2 * half)
    radius = torch.sqrt(-2 * torch.log1p(-flat[:, :half]))
    angle = 2 * torch.pi * flat[:, half:]
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)[:, :count]


def _mix(values: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014); int64 products wrap around."""
    values = (values ^ _logical_shift(values, 30)) * _MIX_1
    values = (values ^ _logical_shift(values, 27)) * _MIX_2
    return values ^ _logical_shift(values, 31)


def _logical_shift(values: Int[Tensor, "*shape"], by: int) -> Int[Tensor, "*shape"]:
    """Right shift that fills with zeros; torch's repeats the sign."""
    return (values >> by) & ((1 << (64 - by)) - 1)
