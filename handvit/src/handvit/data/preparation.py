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
    sample_patches: bool = False
    """Patches are sampled where clips are loaded and rounded to 8 bits; else on the device. For training: a worker has
    less to send than a region of the picture, and a computer without GPU is spared the slower of the two ways."""

    def __call__(self, record: ClipRecord, rng: np.random.Generator) -> Sample:
        """
        Raises:
            InputError: As `prepare_clip`; names the record's key.
        """
        draw = None if self.augmentation is None else draw_geometry(rng, self.augmentation)
        seed = int(rng.integers(2**63))
        return prepare_clip(record, None, self.settings, draw, seed, sample_patches=self.sample_patches)
