"""Clips whose frames are tokens of stage 1 instead of pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from handvit.data.preparation import Preparation
from handvit.data.preprocess import PatchSettings, prepare_labels
from handvit.data.sample import Sample, changed
from handvit.data.shards import PoseMean
from handvit.data.source import ClipRules, ClipSource
from handvit.data.token_files import TokenOrigin, TokenTable


class TokenClips(ClipSource):
    """The clips of `ClipSource`, in the same order and with the same labels; no picture is read.

    Raises:
        InputError: As there; or a shard's tokens are missing or those of another network.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        settings: PatchSettings,
        rules: ClipRules,
        origin: TokenOrigin,
        *,
        pose_mean: PoseMean = "absolute",
        hands_mean: Float[np.ndarray, "45"] | None = None,
    ) -> None:
        super().__init__(shards, Preparation(settings), rules, pose_mean=pose_mean, hands_mean=hands_mean)
        self._settings = settings
        frames = np.bincount(self.clips.shard_numbers, self.table.num_frames, len(shards)).astype(int)
        self._tokens = TokenTable(shards, frames.tolist(), origin)

    def _sample(self, which: int, where: str, rng: np.random.Generator) -> Sample:
        frames = self._frames(which)
        first = int(self.table.first_frame[self._sequence[which]]) + frames.start
        tokens, size_wh = self._tokens.read(first, len(frames), frames.step, where)
        record = self._labelled(which, where, pictures=False)
        sample = prepare_labels(record, size_wh.astype(np.float64), self._settings)
        return changed(sample, tokens=tokens)
