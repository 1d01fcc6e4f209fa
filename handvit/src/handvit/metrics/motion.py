"""Errors that need more than one frame or hand: acceleration, jitter, where two hands are relative to each other."""

import numpy as np
from jaxtyping import Float

from handvit.joints import WRIST
from handvit.metrics.measure import Measurements

SPACING_TOLERANCE = 0.05
"""Frames are evenly spaced if their times are, up to this share: cameras' clocks waver."""


def motion_errors(m: Measurements) -> dict[str, Float[np.ndarray, " windows"]]:
    """Over evenly spaced frames in a row of each sequence, the mean over joints of each window.

    `acceleration`: |second difference of pred - of truth|, mm/frame^2, over three frames; `acceleration_s2`: the same in
    mm/s^2; `jitter`: |third difference of pred|, mm/frame^3, over four frames. Frames are those that were measured: in a
    dataset sampled at every fifth frame, every fifth.
    """
    order = np.lexsort((m.timestamp_ms, np.array(m.sequence)))
    times, names = m.timestamp_ms[order], np.array(m.sequence)[order]
    pred, truth = m.joint_cam_mm[order], m.true_joint_cam_mm[order]
    three, four = _windows(names, times, 3), _windows(names, times, 4)
    errors = _joint_means(np.linalg.norm(np.diff(pred - truth, n=2, axis=0), axis=-1)[three])
    seconds = ((times[2:] - times[:-2]) / 2000.0)[three]
    known = ~np.isnan(errors)
    return {
        "acceleration": errors[known],
        "acceleration_s2": (errors / seconds**2)[known],
        "jitter": np.linalg.norm(np.diff(pred, n=3, axis=0), axis=-1)[four].mean(-1),
    }


def mrrpe(m: Measurements) -> Float[np.ndarray, " pairs"]:
    """|(left - right root) predicted - true| for every picture that shows both hands, mm.

    Pictures of which some hand was predicted more than once (overlapping clips) count with its last prediction.
    """
    hands: dict[str, dict[bool, int]] = {}
    for row, image in enumerate(m.image):
        if image:
            hands.setdefault(image, {})[bool(m.is_left[row])] = row
    pairs = np.array([(both[True], both[False]) for both in hands.values() if len(both) == 2], int).reshape(-1, 2)
    offset = (m.joint_cam_mm - m.true_joint_cam_mm)[:, WRIST]
    errors = np.linalg.norm(offset[pairs[:, 0]] - offset[pairs[:, 1]], axis=-1)
    return np.asarray(errors[~np.isnan(errors)])


def _windows(names: np.ndarray, times: np.ndarray, length: int) -> np.ndarray:
    """Where `length` rows in a row belong to one sequence and are evenly spaced."""
    count = max(len(times) - length + 1, 0)
    steps = np.diff(times)
    same = names[:count] == names[length - 1 :] if count else np.zeros(0, bool)
    spaced = np.stack([steps[i : i + count] for i in range(length - 1)]) if count else np.zeros((1, 0))
    even = (np.ptp(spaced, axis=0) <= SPACING_TOLERANCE * spaced.max(0)) & (spaced.min(0) > 0)
    return np.asarray(same & even)


def _joint_means(errors: Float[np.ndarray, "w 21"]) -> Float[np.ndarray, " w"]:
    """Mean over the joints that have labels in all frames of the window; NaN where none has."""
    known = ~np.isnan(errors)
    total = np.where(known, errors, 0).sum(-1)
    return np.where(known.any(-1), total / np.maximum(known.sum(-1), 1), np.nan)
