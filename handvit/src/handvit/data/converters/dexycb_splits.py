"""DexYCB's four setups: which subjects, sequences and cameras belong to train, val and test.

Subjects, sequences of a subject and cameras are numbered from 0 in sorted order. s0 holds out sequences, s1 subjects,
s2 cameras, s3 grasped objects (a subject's sequences are 5 for each of 20 objects).
"""

from posecore.errors import InputError

SETUPS = ("s0", "s1", "s2", "s3")
PARTS = ("train", "val", "test")
SPLITS = ("all", *(f"{setup}_{part}" for setup in SETUPS for part in PARTS))
NUM_SUBJECTS = 10
NUM_SEQUENCES = 100
"""Of each subject."""
NUM_CAMERAS = 8


def check_split(split: str) -> None:
    """Raises InputError where there is no such split."""
    if split not in SPLITS:
        raise InputError(f"split: {split!r}; expected one of {', '.join(SPLITS)}")


def in_split(split: str, subject: int, sequence: int, camera: int) -> bool:
    """Is what the camera saw of the sequence part of the split (`s0_train`, ...; `all`)?"""
    if split == "all":
        return True
    setup, part = split.split("_")
    return (
        part
        == {
            "s0": _by_sequence(subject, sequence),
            "s1": _of(subject, val=(6,), test=(7, 8)),
            "s2": _of(camera, val=(6,), test=(7,)),
            "s3": _of(sequence // 5, val=(3, 19), test=(7, 11, 15)),
        }[setup]
    )


def subjects_of(split: str) -> list[int]:
    """Subjects that have a part in the split (not `all`)."""
    places = [(sequence, camera) for sequence in range(NUM_SEQUENCES) for camera in range(NUM_CAMERAS)]
    return [subject for subject in range(NUM_SUBJECTS) if any(in_split(split, subject, *place) for place in places)]


def _by_sequence(subject: int, sequence: int) -> str:
    if sequence % 5 != 4:
        return "train"
    return "val" if subject in (0, 1) else "test"


def _of(number: int, val: tuple[int, ...], test: tuple[int, ...]) -> str:
    return "val" if number in val else "test" if number in test else "train"
