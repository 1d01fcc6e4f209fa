"""DexYCB's files: which sequences and cameras a split has, calibrations, and the labels of a picture.

Layout: `DATE-subject-XX/SEQ/SERIAL/{color,labels}_%06d.{jpg,npz}`, `SEQ/meta.yml`, `calibration/mano_*/mano.yml`,
`calibration/intrinsics/SERIAL_640x480.yml`.
"""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float

from handvit.data.converters.annotation_json import entry, numbers, rows, whole_number
from handvit.data.converters.dexycb_splits import NUM_CAMERAS, NUM_SEQUENCES, in_split, subjects_of
from handvit.data.records import Handedness
from posecore.errors import InputError

SIZE_WH = (640, 480)
FPS = 30.0
ABSENT = -1.0
"""Joints of a hand that is not there."""
_SUBJECT = re.compile(r"\d{8}-subject-(\d\d)")


@dataclass(frozen=True)
class DexYcbSequence:
    """A sequence and the cameras of it that belong to the split."""

    folder: Path
    name: str
    """`DATE-subject-XX/SEQ`."""
    num_frames: int
    side: Handedness
    betas: Float[np.ndarray, "10"]
    serials: Sequence[str]
    first_id: int
    """Number, in the split, of its first camera's first picture: submissions count so."""


@dataclass(frozen=True)
class DexYcbLabel:
    """Of one picture; metres and pixels."""

    joint_3d_m: Float[np.ndarray, "21 3"]
    joint_2d: Float[np.ndarray, "21 2"]
    pose_m: Float[np.ndarray, "51"]
    """Root axis-angle, 45 principal components, translation; zeros: not fitted."""


def find_sequences(root: Path, split: str) -> list[DexYcbSequence]:
    """Of the split, in the order of the toolkit: by subject, then sequence.

    Raises:
        InputError: The folder of a subject of the split is missing, a subject has not its 100 sequences or a sequence not
            its 8 cameras (the split counts them; `all` takes what there is), or a meta or calibration file is damaged.
    """
    subjects = sorted(path for path in root.glob("*") if path.is_dir() and _SUBJECT.fullmatch(path.name))
    if not subjects:
        raise InputError(f"{root}: has no folder DATE-subject-XX; expected DexYCB's ten subjects and calibration")
    by_number = {int(folder.name[-2:]) - 1: folder for folder in subjects}
    wanted = list(by_number) if split == "all" else subjects_of(split)
    missing = [subject for subject in wanted if subject not in by_number]
    if missing:
        names = ", ".join(f"subject-{subject + 1:02d}" for subject in missing)
        raise InputError(f"{root}: has no folder of {names}; {split} has them (split `all` converts what is there)")
    sequences: list[DexYcbSequence] = []
    next_id = 0
    for subject in sorted(wanted):
        folder = by_number[subject]
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
        if split != "all" and len(inside) != NUM_SEQUENCES:
            raise InputError(
                f"{folder}: has {len(inside)} sequences; the split {split} counts all {NUM_SEQUENCES} "
                "(split `all` converts what is there)"
            )
        for number, path in enumerate(inside):
            serials = _serials(path, split)
            chosen = [serial for camera, serial in enumerate(serials) if in_split(split, subject, number, camera)]
            if chosen:
                sequences.append(_read_sequence(root, path, chosen, next_id))
                next_id += sequences[-1].num_frames * len(chosen)
    return sequences


def _serials(path: Path, split: str) -> list[str]:
    serials = sorted(camera.name for camera in path.iterdir() if camera.is_dir() and camera.name.isdigit())
    if not serials or (split != "all" and len(serials) != NUM_CAMERAS):
        raise InputError(f"{path}: has {len(serials)} cameras' folders; expected {NUM_CAMERAS}")
    return serials


def _read_sequence(root: Path, path: Path, serials: Sequence[str], first_id: int) -> DexYcbSequence:
    file = path / "meta.yml"
    meta = read_yaml(file)
    sides, calibrations = (rows(entry(meta, key, str(file)), f"{file}: {key}") for key in ("mano_sides", "mano_calib"))
    if len(sides) != 1 or len(calibrations) != 1 or sides[0] not in ("right", "left"):
        raise InputError(f"{file}: mano_sides {sides}, mano_calib {calibrations}; expected one each, right or left")
    shape = root / "calibration" / f"mano_{calibrations[0]}" / "mano.yml"
    return DexYcbSequence(
        folder=path,
        name=f"{path.parent.name}/{path.name}",
        num_frames=whole_number(entry(meta, "num_frames", str(file)), f"{file}: num_frames"),
        side=sides[0],
        betas=numbers(entry(read_yaml(shape), "betas", str(shape)), (10,), f"{shape}: betas"),
        serials=serials,
        first_id=first_id,
    )


def read_intrinsics(root: Path, serial: str) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
    """Focal lengths and principal point of a colour camera, px.

    Raises:
        InputError: The file is missing or damaged.
    """
    file = root / "calibration" / "intrinsics" / f"{serial}_{SIZE_WH[0]}x{SIZE_WH[1]}.yml"
    color = entry(read_yaml(file), "color", str(file))
    values = [entry(color, key, f"{file}: color") for key in ("fx", "fy", "ppx", "ppy")]
    fx, fy, cx, cy = numbers(values, (4,), f"{file}: color")
    return np.array([fx, fy]), np.array([cx, cy])


def read_label(path: Path) -> DexYcbLabel:
    """The hand's part of `labels_%06d.npz`.

    Raises:
        InputError: Missing, damaged, or without one of the arrays.
    """
    shapes = {"joint_3d": (1, 21, 3), "joint_2d": (1, 21, 2), "pose_m": (1, 51)}
    try:
        with np.load(path, allow_pickle=False) as stored:
            missing = shapes.keys() - set(stored.files)
            if missing:
                raise InputError(f"{path}: has no {', '.join(sorted(missing))}; it has {', '.join(stored.files)}")
            arrays = {key: stored[key] for key in shapes}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except InputError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is no .npz of plain arrays: {error}") from None
    joints, pixels, pose = (numbers(arrays[key], shape, f"{path}: {key}")[0] for key, shape in shapes.items())
    return DexYcbLabel(joints, pixels, pose)


def read_yaml(path: Path) -> Any:
    """A YAML file of plain values.

    Raises:
        InputError: It is missing, or no such YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no YAML of plain values: {' '.join(str(error).split())}") from None
