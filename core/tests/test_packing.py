"""Batches in one piece of memory."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from posecore.data.packing import pack


@dataclass(frozen=True)
class Batch:
    x: Tensor
    more: dict[str, Tensor]
    names: tuple[str, ...]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(7, dtype=torch.uint8),
        torch.randn(2, 3, 5, dtype=torch.float64),
        torch.randn(4, 6).T,
        torch.tensor(3),
        torch.zeros(0, 4),
        torch.tensor([True, False]),
        torch.randn(3, dtype=torch.complex64),
        torch.randn(3).bfloat16(),
    ],
    ids=lambda tensor: f"{tensor.dtype} {tuple(tensor.shape)}",
)
def test_a_tensor_of_any_kind_arrives_as_it_was(tensor):
    batch = Batch(tensor, {"twice": tensor, "other": torch.ones(3)}, ("a", "b"))
    arrived = pack(batch).unpack()
    assert arrived.names == batch.names
    for one, other in ((arrived.x, tensor), (arrived.more["twice"], tensor), (arrived.more["other"], torch.ones(3))):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_the_tensors_lie_in_one_piece_of_shared_memory_and_are_pickled_nowhere_else():
    batch = Batch(torch.randn(1000), {"y": torch.randn(1000)}, ())
    packed = pack(batch)
    assert packed.content.is_shared()
    assert len(packed.structure) < 1000
    arrived = packed.unpack()
    assert arrived.x.untyped_storage().data_ptr() == arrived.more["y"].untyped_storage().data_ptr()


def test_a_change_of_one_tensor_in_place_does_not_disturb_the_gradients_of_another():
    arrived = pack(Batch(torch.ones(3), {"y": torch.ones(3)}, ())).unpack()
    weight = torch.ones(3, requires_grad=True)
    product = weight * arrived.x  # keeps x for the backward pass
    arrived.more["y"].add_(1)
    product.sum().backward()
    assert torch.equal(weight.grad, torch.ones(3))
