"""One-Euro filter (Casiez, Roussel, Vogel 2012) of points and rotations, and one shape for each track.

A low-pass filter whose cut-off grows with speed: hands at rest do not tremble, fast ones do not lag. It looks back only,
so that it can run beside a camera.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from handvit.hand import HandModel
from handvit.predict import Hands
from handvit.tracking import MAX_GAP_MS

Values = Float[np.ndarray, "n ..."]


@dataclass(frozen=True)
class OneEuro:
    """Settings; `unit` is mm for points and rad for rotations."""

    rest_hz: float
    """Cut-off at rest: lower is calmer."""
    speed_gain: float
    """Growth of the cut-off, Hz for each unit per second: higher lags less."""
    derivative_hz: float = 1.0
    """Cut-off of the speed itself."""


ROOT = OneEuro(rest_hz=1.5, speed_gain=0.01)
ROTATIONS = OneEuro(rest_hz=1.5, speed_gain=1.0)


class OneEuroFilter:
    """Filters values as they come; each of the n points or rotations has a speed of its own.

    Convention: `difference(new, old)` is a tangent (n, 3) and `moved(old, tangent)` goes along it: subtraction and addition
    for points, logarithm and exponential for rotations.
    """

    def __init__(
        self,
        settings: OneEuro,
        difference: Callable[[Values, Values], Float[np.ndarray, "n 3"]],
        moved: Callable[[Values, Float[np.ndarray, "n 3"]], Values],
    ) -> None:
        self.settings, self._difference, self._moved = settings, difference, moved
        self._last: tuple[float, Values, Float[np.ndarray, "n 3"]] | None = None

    @classmethod
    def of_points(cls, settings: OneEuro) -> "OneEuroFilter":
        """Of (n, 3), in any unit."""
        return cls(settings, np.subtract, np.add)

    @classmethod
    def of_rotations(cls, settings: OneEuro) -> "OneEuroFilter":
        """Of matrices (n, 3, 3): along the shortest arcs."""
        return cls(settings, _arc, _turned)

    def __call__(self, values: Values, time_s: float) -> Values:
        """The filtered values. The first ones, and those after `reset`, come back as they are.

        Raises:
            ValueError: Time does not grow.
        """
        if self._last is None:
            self._last = (time_s, values, np.zeros((len(values), 3)))
            return values
        then, filtered, speed = self._last
        if time_s <= then:
            raise ValueError(f"time {time_s} s is not after the last, {then} s")
        step = time_s - then
        tangent = self._difference(values, filtered)
        speed = speed + _share(np.full(len(values), self.settings.derivative_hz), step) * (tangent / step - speed)
        cutoff = self.settings.rest_hz + self.settings.speed_gain * np.linalg.norm(speed, axis=-1)
        filtered = self._moved(filtered, _share(cutoff, step) * tangent)
        self._last = (time_s, filtered, speed)
        return filtered

    def reset(self) -> None:
        """Begin anew."""
        self._last = None


def smooth_track(
    hands: Hands,
    times_ms: Float[np.ndarray, " n"],
    hand: HandModel,
    *,
    norm_by_hand: bool,
    max_gap_ms: float = MAX_GAP_MS,
) -> Hands:
    """One hand's rows in the order of time: filtered root and rotations, the median shape.

    What follows from these is as before: `reposing.posed_again` brings it up to date.

    Args:
        norm_by_hand: The root was predicted in hand sizes, so it follows the size of the one shape.
        max_gap_ms: After a longer gap the filter begins anew.
    """
    shape = np.median(hands.betas, axis=0)
    points, rotations = OneEuroFilter.of_points(ROOT), OneEuroFilter.of_rotations(ROTATIONS)
    root_mm = np.array(hands.root_mm, np.float64)
    if norm_by_hand:
        with torch.no_grad():
            size_mm = float(hand.rest_size_mm(torch.from_numpy(shape).to(hand.faces.device, hand.dtype)))
        root_mm *= size_mm / hands.hand_size_mm[:, None]
    smooth_root, smooth_rotations = np.empty_like(root_mm), np.empty_like(hands.rotations)
    for row, time_ms in enumerate(times_ms.tolist()):
        if row and time_ms - times_ms[row - 1] > max_gap_ms:
            points.reset()
            rotations.reset()
        smooth_root[row] = points(root_mm[row, None], time_ms / 1000)[0]
        smooth_rotations[row] = rotations(hands.rotations[row], time_ms / 1000)
    betas = np.broadcast_to(shape, hands.betas.shape).copy()
    return replace(hands, root_mm=smooth_root.astype(hands.root_mm.dtype), rotations=smooth_rotations, betas=betas)


def _share(cutoff_hz: Float[np.ndarray, " n"], step_s: float) -> Float[np.ndarray, "n 1"]:
    """Of the new value in the filtered one."""
    constant = 2 * np.pi * cutoff_hz * step_s
    return np.asarray((constant / (constant + 1))[:, None])


def _arc(new: Values, old: Values) -> Float[np.ndarray, "n 3"]:
    return np.asarray((Rotation.from_matrix(old).inv() * Rotation.from_matrix(new)).as_rotvec())


def _turned(old: Values, tangent: Float[np.ndarray, "n 3"]) -> Values:
    return np.asarray((Rotation.from_matrix(old) * Rotation.from_rotvec(tangent)).as_matrix())
