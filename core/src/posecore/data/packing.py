"""A batch on its way from a worker process: all its tensors in one piece of shared memory.

torch sends the memory of each tensor through a socket of its own, which for a batch of twenty small tensors takes
longer than moving their bytes.
"""

import io
import pickle
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 64
"""Bytes; of the start of each tensor."""


@dataclass(frozen=True)
class Place:
    """Where a tensor begins, in bytes, and what it is."""

    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Packed:
    """A batch as three things to send: its bytes, where its tensors are among them, and everything else, pickled."""

    content: Tensor
    places: tuple[Place, ...]
    structure: bytes

    def pin_memory(self) -> "Packed":
        return Packed(self.content.pin_memory(), self.places, self.structure)

    def unpack(self) -> Any:
        """The batch; its tensors lie in `content`, but each counts its own changes for autograd."""
        storage = self.content.untyped_storage()
        tensors = [
            torch.empty(0, dtype=place.dtype).set_(
                storage,
                place.start // place.dtype.itemsize,
                place.shape,
                torch.empty(place.shape, device="meta").stride(),
            )
            for place in self.places
        ]
        return _Unpickler(io.BytesIO(self.structure), tensors).load()


def pack(batch: Any) -> Packed:
    """Copies the batch's dense CPU tensors to shared memory.

    Raises:
        TypeError: Something in the batch cannot be pickled, as a class that is defined within a function.
    """
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    try:
        pickler.dump(batch)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(f"batches go between processes, so their classes must stand in modules: {error}") from None
    places, end = [], 0
    for tensor in pickler.tensors:
        places.append(Place(end, tensor.dtype, tuple(tensor.shape)))
        end += -(-tensor.numel() * tensor.itemsize // ALIGNMENT) * ALIGNMENT
    content = torch.empty(0, dtype=torch.uint8).set_(_shared_storage(end))
    for place, tensor in zip(places, pickler.tensors, strict=True):
        flat = tensor.detach().reshape(-1).view(torch.uint8)
        content[place.start : place.start + len(flat)] = flat
    return Packed(content, tuple(places), buffer.getvalue())


def _shared_storage(size: int) -> torch.UntypedStorage:
    """New shared memory. `share_memory_` would fill it with a copy of what it was called for, which is nothing yet."""
    storage: torch.UntypedStorage = torch.UntypedStorage._new_shared(size, device="cpu")  # type: ignore[no-untyped-call]
    return storage


class _Pickler(pickle.Pickler):
    """Leaves tensors out and collects them."""

    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__(buffer, pickle.HIGHEST_PROTOCOL)
        self.tensors: list[Tensor] = []
        self._numbers: dict[int, int] = {}

    def persistent_id(self, value: Any) -> int | None:
        if type(value) is not Tensor or value.device.type != "cpu" or value.layout != torch.strided:
            return None
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.tensors)
            self.tensors.append(value)
        return self._numbers[id(value)]


class _Unpickler(pickle.Unpickler):
    """Reads what this program's own worker has written."""

    def __init__(self, buffer: io.BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(buffer)
        self._tensors = tensors

    def persistent_load(self, number: int) -> Tensor:
        return self._tensors[number]
