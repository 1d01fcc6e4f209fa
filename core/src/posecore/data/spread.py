"""Some samples of a source, evenly from all of it."""

from typing import Any

import numpy as np

from posecore.data.loader import Source


class Spread:
    """Every k-th sample of a source, `limit` in all."""

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._indices = np.linspace(0, len(source) - 1, limit).round().astype(int)

    def __len__(self) -> int:
        return len(self._indices)

    def load(self, index: int, rng: np.random.Generator) -> Any:
        return self._source.load(int(self._indices[index]), rng)


def spread(source: Source, limit: int | None) -> Source:
    """At most `limit` samples; None: the source itself."""
    return source if limit is None or limit >= len(source) else Spread(source, limit)
