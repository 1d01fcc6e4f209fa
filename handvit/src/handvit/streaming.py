"""Hands in a video, one picture after the other: each track keeps the tokens of its last frames."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from handvit.data.records import Handedness
from handvit.predict import Cameras, Hands, Picture, Predictor, frozen_frames

MAX_GAP_MS = 500.0
"""A track that was not seen for longer begins anew."""
Filled = TypeVar("Filled", float, Tensor)


class HandStream:
    """Predicts the hands of each picture as it comes: one backbone pass a frame, whatever the clip length.

    With a stage 1 network every frame is seen by itself, and the stream only spares the caller a distinction.

    >>> stream = HandStream(Predictor.load("runs/stage2"))
    >>> for number, picture in enumerate(video):
    ...     hands = stream(picture, boxes[number], ["left", "right"], [0, 1], 33.3 * number, K)
    """

    def __init__(self, predictor: Predictor, max_gap_ms: float = MAX_GAP_MS) -> None:
        self.predictor, self.max_gap_ms = predictor, max_gap_ms
        self._length = predictor.loaded.config.model.num_frame
        self._tracks: dict[Hashable, list[tuple[float, Tensor]]] = {}

    def __call__(
        self,
        image: Picture,
        boxes: Float[np.ndarray, "n 4"] | Sequence[Sequence[float]],
        handedness: Sequence[Handedness],
        track_ids: Sequence[Hashable],
        timestamp_ms: float,
        intrinsics: Cameras = None,
    ) -> Hands:
        """Predict the hands of one picture; `track_ids` say which hand of earlier pictures each of them is.

        Raises:
            InputError: As the predictor.
            ValueError: A track twice in a picture, or a picture that is not later than the track's last.
        """
        self._check(track_ids, len(boxes), timestamp_ms)
        network = self.predictor.loaded.network
        request = self.predictor.request(image, boxes, handedness, intrinsics)
        with torch.no_grad():
            batch = self.predictor.batch(request)
            tokens = network.encode(batch.network_input())
            self._forget(timestamp_ms)
            clips = [self._remember(i, tokens[n, 0], timestamp_ms) for n, i in enumerate(track_ids)]
            # The network was trained on clips of one length. A short one is filled up with its own first frame, the same
            # moment seen several times, and so its hand does not depend on the other hands of the picture.
            history = torch.stack([torch.stack(self._filled([token for _, token in clip])) for clip in clips])
            # Differences first: in float32 the time itself is off by a millisecond after some hours.
            elapsed = tokens.new_tensor([self._filled([time - timestamp_ms for time, _ in clip]) for clip in clips])
            return self.predictor.answer(request, batch, network.answer(history, frozen_frames(batch, elapsed)))

    def _check(self, track_ids: Sequence[Hashable], num_boxes: int, timestamp_ms: float) -> None:
        if len(track_ids) != num_boxes:
            raise ValueError(f"{len(track_ids)} track_ids for {num_boxes} boxes; one each is needed")
        if len({*track_ids}) != len(track_ids):
            raise ValueError(f"track_ids {list(track_ids)}: a track is in a picture once")
        for track in track_ids:
            if self._tracks.get(track) and self._tracks[track][-1][0] >= timestamp_ms:
                last = self._tracks[track][-1][0]
                raise ValueError(f"timestamp_ms {timestamp_ms:g} of track {track} is not after its last, {last:g}")

    def _forget(self, timestamp_ms: float) -> None:
        """Tracks that would begin anew."""
        self._tracks = {t: clip for t, clip in self._tracks.items() if timestamp_ms - clip[-1][0] <= self.max_gap_ms}

    def _remember(self, track: Hashable, token: Tensor, timestamp_ms: float) -> list[tuple[float, Tensor]]:
        clip = self._tracks.setdefault(track, [])
        clip.append((timestamp_ms, token))
        del clip[: -self._length]
        return clip

    def _filled(self, values: list[Filled]) -> list[Filled]:
        return values[:1] * (self._length - len(values)) + values
