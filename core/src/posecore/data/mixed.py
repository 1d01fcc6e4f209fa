"""Several sources as one, each with its share of the draws."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from posecore.data.loader import Source


class MixedSource:
    """The samples of several sources one after the other.

    With `weights` a source is drawn in proportion to its weight, whatever its size: give
    `sample_weights` to the sampler.

    Raises:
        ValueError: No source, an empty one, or weights that do not fit.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float] | None = None) -> None:
        if not sources or not all(len(source) for source in sources):
            raise ValueError(f"a mixture needs sources with samples; they have {[len(source) for source in sources]}")
        if weights is not None and (len(weights) != len(sources) or min(weights) < 0 or sum(weights) <= 0):
            raise ValueError(f"{len(sources)} sources with weights {list(weights)}")
        self.sources, self.weights = list(sources), weights
        self._starts = np.array([0, *accumulate(len(source) for source in sources)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """Which source, and which of its samples."""
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} of {len(self)}")
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        return which, index - int(self._starts[which])

    def load(self, index: int, rng: np.random.Generator) -> Any:
        which, own = self.locate(index)
        return self.sources[which].load(own, rng)

    def sample_weights(self) -> list[float] | None:
        """The weight of each sample, that of its source over its size; None: each sample once an epoch."""
        if self.weights is None:
            return None
        shares = [weight / len(source) for weight, source in zip(self.weights, self.sources, strict=True)]
        return np.repeat(shares, np.diff(self._starts)).tolist()  # type: ignore[no-any-return]
