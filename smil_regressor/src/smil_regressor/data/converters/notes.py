"""What a conversion left out or could not use: nothing is dropped without being counted and told."""

import logging
from collections import Counter

log = logging.getLogger(__name__)


class Notes:
    """Warnings, each told once, and reasons for dropped frames and views, counted."""

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Log a line the first time that it comes up."""
        if text not in self.warnings:
            self.warnings.append(text)
            log.warning(text)

    def drop(self, key: str, reason: str) -> None:
        """Count a frame or view that is left out; the first of each reason is named."""
        if reason not in self.dropped:
            log.warning("%s: left out: %s (more of these are only counted)", key, reason)
        self.dropped[reason] += 1

    def summary(self) -> list[str]:
        """Warnings, then one line for each reason with its count."""
        return self.warnings + [f"left out {count}: {reason}" for reason, count in sorted(self.dropped.items())]
