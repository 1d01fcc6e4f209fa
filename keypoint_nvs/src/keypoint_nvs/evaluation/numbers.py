"""Measured numbers as JSON has them."""

import math
from typing import Any


def or_none(values: Any) -> Any:
    """The same numbers, in dicts of any depth; null where there was nothing to measure (nan), which JSON cannot say."""
    if isinstance(values, dict):
        return {name: or_none(value) for name, value in values.items()}
    return None if isinstance(values, float) and not math.isfinite(values) else values
