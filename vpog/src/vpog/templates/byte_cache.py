"""What was used last, up to a number of bytes."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable


@runtime_checkable
class Sized(Protocol):
    @property
    def num_bytes(self) -> int: ...


Item = TypeVar("Item", bound=Sized)


class ByteCache(Generic[Item]):
    """Keeps the items that were used last; never more than `max_bytes` of them.

    Threads may share it. A forked process has what its parent had, and its own lock; a pickled one starts empty.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._empty()

    def _empty(self) -> None:
        self._items: OrderedDict[Hashable, Item] = OrderedDict()
        self._bytes = 0
        self._lock, self._process = threading.Lock(), os.getpid()

    def get(self, key: Hashable, make: Callable[[], Item]) -> Item:
        """The item of that key, made where it is not there. An item larger than the cache is not kept."""
        with self._guard():
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        item = make()  # unlocked: files are read side by side
        with self._guard():
            if key not in self._items and item.num_bytes <= self.max_bytes:
                self._items[key] = item
                self._bytes += item.num_bytes
                while self._bytes > self.max_bytes:
                    self._bytes -= self._items.popitem(last=False)[1].num_bytes
        return item

    @property
    def num_bytes(self) -> int:
        return self._bytes

    def __len__(self) -> int:
        return len(self._items)

    def _guard(self) -> threading.Lock:
        if self._process != os.getpid():  # forked, perhaps while another thread of the parent held the lock
            self._lock, self._process = threading.Lock(), os.getpid()
        return self._lock

    def __getstate__(self) -> dict[str, Any]:
        return {"max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.max_bytes = state["max_bytes"]
        self._empty()
