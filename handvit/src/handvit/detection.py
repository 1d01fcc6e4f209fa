"""Detectors that find the hands of a picture; any callable of this form will do.

The one here is MediaPipe's HandLandmarker (Apache-2.0; extra `handvit[detector]`). Only its boxes and sides are used.
"""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from handvit.hand_boxes import HandBox, keypoints_box
from posecore.errors import InputError

MODEL_PAGE = "https://ai.google.dev/edge/mediapipe/solutions/vision/hand_landmarker"
FIRST_VERSION = 1
"""Of mediapipe: from here on its documentation says that labels are the subject's own side; the `Hands` solution before it
assumed a mirrored selfie, so that in other pictures left and right were swapped."""
MAX_HANDS = 8


@runtime_checkable
class HandDetector(Protocol):
    """Finds hands."""

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[HandBox]:
        """Boxes and sides of the hands in an RGB picture that is not mirrored."""
        ...


class MediaPipeDetector:
    """MediaPipe's HandLandmarker on single pictures: the tight box of its 21 landmarks."""

    def __init__(self, model: Path, max_hands: int = MAX_HANDS, min_confidence: float = 0.5) -> None:
        """`model` is MediaPipe's hand_landmarker.task.

        Raises:
            InputError: MediaPipe is not installed or too old, the file is missing or no such model.
        """
        if not model.is_file():
            raise InputError(
                f"--detector {model}: no such file; download hand_landmarker.task from {MODEL_PAGE} and name it here"
            )
        _check_version()
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions
            from mediapipe.tasks.python.vision import HandLandmarker, HandLandmarkerOptions
        except ImportError as error:
            raise InputError(f"mediapipe: cannot be imported: {error}") from None
        options = HandLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            num_hands=max_hands,
            min_hand_detection_confidence=min_confidence,
        )
        try:
            self._landmarker: Any = HandLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"--detector {model}: is no model of MediaPipe's HandLandmarker ({error}); get one from {MODEL_PAGE}"
            ) from None
        self._mediapipe: Any = mediapipe

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[HandBox]:
        """Boxes and sides of the hands in an RGB picture that is not mirrored."""
        pixels = np.ascontiguousarray(picture)
        image = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=pixels)
        result = self._landmarker.detect(image)
        size_wh = (picture.shape[1], picture.shape[0])
        return landmarks_to_boxes(result.hand_landmarks, result.handedness, size_wh)


def landmarks_to_boxes(
    hand_landmarks: Sequence[Sequence[Any]], handedness: Sequence[Sequence[Any]], size_wh: tuple[int, int]
) -> list[HandBox]:
    """From the lists of MediaPipe's HandLandmarkerResult.

    Landmarks are shares of width and height counted from the picture's edge, so x = 0.5 / W is the centre of pixel 0.

    Raises:
        ValueError: A label that is neither Left nor Right.
    """
    boxes = []
    for landmarks, categories in zip(hand_landmarks, handedness, strict=True):
        best = max(categories, key=lambda category: category.score)
        points = np.array([[point.x, point.y] for point in landmarks]) * size_wh - 0.5
        if best.category_name == "Left":
            boxes.append(HandBox(keypoints_box(points), "left", score=float(best.score)))
        elif best.category_name == "Right":
            boxes.append(HandBox(keypoints_box(points), "right", score=float(best.score)))
        else:
            raise ValueError(f"handedness {best.category_name!r} is neither Left nor Right")
    return boxes


def _check_version() -> None:
    try:
        found = importlib.metadata.version("mediapipe")
    except importlib.metadata.PackageNotFoundError:
        raise InputError("--detector: needs the extra handvit[detector] (pip install 'handvit[detector]')") from None
    if int(found.split(".")[0]) < FIRST_VERSION:
        raise InputError(
            f"--detector: mediapipe {found} may call left hands right; {FIRST_VERSION}.0 or newer is needed "
            "(pip install -U 'handvit[detector]')"
        )
