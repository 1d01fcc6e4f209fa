"""Orders of hand joints, and which vertices are the fingertips.

Canonical order (OpenPose, FreiHAND, DexYCB): the wrist, then thumb, index, middle, ring and little finger, four joints
each from the base to the tip. A gather reads `target = source[..., GATHER, :]`.
"""

from itertools import chain

WRIST = 0
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_MANO_FINGERS = ("index", "middle", "pinky", "ring", "thumb")

JOINT_NAMES: tuple[str, ...] = ("wrist", *(f"{finger}{i}" for finger in _FINGERS for i in (1, 2, 3, 4)))
"""The canonical 21; 4 is the tip."""
PARENTS: tuple[int, ...] = (-1, *chain.from_iterable((0, base, base + 1, base + 2) for base in (1, 5, 9, 13, 17)))
MANO_JOINT_NAMES: tuple[str, ...] = ("wrist", *(f"{finger}{i}" for finger in _MANO_FINGERS for i in (1, 2, 3)))
"""The 16 joints of MANO's files."""
MANO_PARENTS: tuple[int, ...] = (-1, *chain.from_iterable((0, base, base + 1) for base in (1, 4, 7, 10, 13)))
MIDDLE_CHAIN: tuple[int, ...] = (9, 10, 11, 12)
"""Canonical joints of the middle finger, whose length is the hand's size."""

MANO_TO_CANONICAL: tuple[int, ...] = (
    *(0, 13, 14, 15, 16),
    *(1, 2, 3, 17),
    *(4, 5, 6, 18),
    *(10, 11, 12, 19),
    *(7, 8, 9, 20),
)
"""Gather from MANO's 16 joints followed by the five tips (thumb, index, middle, ring, pinky): HO3D's order."""
CANONICAL_TO_HO3D: tuple[int, ...] = (
    *(0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3),
    *(4, 8, 12, 16, 20),
)
INTERHAND_TO_CANONICAL: tuple[int, ...] = (
    20,
    *(3, 2, 1, 0),
    *(7, 6, 5, 4),
    *(11, 10, 9, 8),
    *(15, 14, 13, 12),
    *(19, 18, 17, 16),
)
"""Gather from one hand's 21 joints of InterHand2.6M (each finger from the tip to the base, the wrist last)."""

FINGERTIPS: dict[str, tuple[int, ...]] = {
    "smplx": (744, 320, 443, 554, 671),
    "manopth_right": (745, 317, 444, 556, 673),
    "manopth_left": (745, 317, 445, 556, 673),
    "interhand": (745, 317, 445, 556, 673),
    "freihand": (744, 320, 443, 555, 672),
    "ho3d": (744, 333, 444, 555, 672),
}
"""Vertices of MANO's mesh that stand for the tips of thumb, index, middle, ring and pinky, by source.

smplx 0.1.28, HaMeR, WiLoR and HOT3D share one set; DexYCB uses manopth's. They differ by millimetres: score each dataset
with its own.
"""
