"""From a record to a sample: the clip's draws, then `prepare_clip`."""

from dataclasses import dataclass

import numpy as np

from handvit.config.augmentation import AugmentationConfig
from handvit.data.augmentation import draw_geometry
from handvit.data.preprocess import PatchSettings, prepare_clip
from handvit.data.records import ClipRecord
from handvit.data.sample import Sample


@dataclass(frozen=True)
class Preparation:
    """How a run prepares its clips. Without augmentation nothing is drawn."""

    settings: PatchSettings
    augmentation: AugmentationConfig | None = None

    def __call__(self, record: ClipRecord, rng: np.random.Generator) -> Sample:
        """
        Raises:
            InputError: As `prepare_clip`; names the record's key.
        """
        draw = None if self.augmentation is None else draw_geometry(rng, self.augmentation)
        return prepare_clip(record, None, self.settings, draw, int(rng.integers(2**63)))
