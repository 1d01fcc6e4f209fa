"""Which hypotheses are really different, best first."""

import numpy as np
from jaxtyping import Float


def distinct_poses(
    cam_from_obj_mm: Float[np.ndarray, "h 4 4"],
    scores: Float[np.ndarray, " h"],
    count: int,
    symmetries_mm: Float[np.ndarray, "n 4 4"],
    max_angle_deg: float,
    max_distance_mm: float,
) -> list[int]:
    """Up to `count` hypotheses, best score first, none closer to a better one than both bounds.

    Poses that a symmetry of the object maps onto each other are the same.

    Args:
        symmetries_mm: Of the object, the identity among them.
    """
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        if len(kept) == count:
            break
        if not _is_among(cam_from_obj_mm[index], cam_from_obj_mm[kept], symmetries_mm, max_angle_deg, max_distance_mm):
            kept.append(index)
    return kept


def _is_among(
    pose: Float[np.ndarray, "4 4"],
    others: Float[np.ndarray, "k 4 4"],
    symmetries_mm: Float[np.ndarray, "n 4 4"],
    max_angle_deg: float,
    max_distance_mm: float,
) -> bool:
    if not len(others):
        return False
    copies = pose @ symmetries_mm  # (n 4 4)
    traces = np.einsum("nij,kij->kn", copies[:, :3, :3], others[:, :3, :3])
    angles = np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
    distances = np.linalg.norm(others[:, None, :3, 3] - copies[None, :, :3, 3], axis=-1)
    return bool(((angles < max_angle_deg) & (distances < max_distance_mm)).any())
