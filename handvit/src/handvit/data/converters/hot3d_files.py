"""The tar of one HOT3D clip. Members are read in memory; nothing is unpacked.

Layout: `{train,test}_{aria,quest3}/clip-*.tar`; in it `FRAME.image_STREAM.jpg`, `FRAME.cameras.json`, `FRAME.hands.json`,
`FRAME.info.json` and `__hand_shapes.json__`. Test clips whose hands are not public lack hands and shapes.
"""

import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from handvit.data.converters.annotation_json import entry, numbers, whole_number
from handvit.data.records import Handedness
from posecore.errors import InputError

Device = Literal["aria", "quest3"]
SHAPES = "__hand_shapes.json__"
NUM_COMPONENTS = 15
_FRAME = re.compile(r"(\d+)\.cameras\.json")


@dataclass(frozen=True)
class Hot3dPose:
    """A hand in a frame, in the world; radians and metres."""

    components: Float[np.ndarray, "15"]
    """Principal components of the fingers' pose about the mean."""
    root: Float[np.ndarray, "3"]
    """Axis-angle."""
    translation_m: Float[np.ndarray, "3"]


@dataclass(frozen=True)
class Hot3dHand:
    """A hand's label in a frame."""

    pose: Hot3dPose | None
    """None: MANO was not fitted."""
    visibility: Mapping[str, float]
    """0..1, by stream."""
    boxes: Mapping[str, Float[np.ndarray, "4"]]
    """x1, y1, x2, y2 of the whole hand in the picture as it is, by stream."""


class Hot3dClip:
    """An open clip; use it in a `with`."""

    def __init__(self, path: Path) -> None:
        """Raises InputError where the file is missing, no tar, cut off, or has no frames."""
        self.path = path
        try:
            self._tar = tarfile.open(path, "r:")  # noqa: SIM115 (closed by __exit__)
            self._members = {member.name: member for member in self._tar.getmembers() if member.isreg()}
        except (OSError, tarfile.TarError) as error:
            raise InputError(f"{path}: is no readable tar: {error}") from None
        self.frames = sorted(match[1] for name in self._members if (match := _FRAME.fullmatch(name)))
        if not self.frames:
            raise InputError(f"{path}: has no FRAME.cameras.json; expected a clip of HOT3D-Clips")

    def __enter__(self) -> "Hot3dClip":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.close()

    @property
    def has_hands(self) -> bool:
        return SHAPES in self._members and f"{self.frames[0]}.hands.json" in self._members

    @cached_property
    def betas(self) -> Float[np.ndarray, "10"]:
        """Of both hands."""
        return numbers(entry(self._json(SHAPES), "mano", self.where(SHAPES)), (10,), f"{self.where(SHAPES)}: mano")

    def cameras(self, frame: str) -> Mapping[str, Any]:
        """Camera by stream, as stored."""
        return self._table(f"{frame}.cameras.json")

    def hands(self, frame: str) -> dict[Handedness, Hot3dHand]:
        """Those that have a label."""
        name = f"{frame}.hands.json"
        content = self._table(name)
        sides: tuple[Handedness, ...] = ("right", "left")
        return {side: _hand(content[side], f"{self.where(name)}: {side}") for side in sides if content.get(side)}

    def time_ns(self, frame: str, stream: str) -> int:
        name = f"{frame}.info.json"
        times = entry(self._json(name), "image_timestamps_ns", self.where(name))
        where = f"{self.where(name)}: image_timestamps_ns"
        return whole_number(entry(times, stream, where), f"{where}.{stream}")

    def picture(self, frame: str, stream: str) -> bytes:
        return self._read(picture_name(frame, stream))

    def where(self, name: str) -> str:
        """For errors."""
        return f"{self.path}: {name}"

    def _table(self, name: str) -> Mapping[str, Any]:
        content = self._json(name)
        if not isinstance(content, Mapping):
            raise InputError(f"{self.where(name)}: is a {type(content).__name__}, expected an object")
        return content

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._read(name))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.where(name)}: is not JSON: {error}") from None

    def _read(self, name: str) -> bytes:
        if name not in self._members:
            raise InputError(f"{self.path}: has no member {name}")
        try:
            file = self._tar.extractfile(self._members[name])
            assert file is not None  # a regular member
            data = file.read()
        except (OSError, tarfile.TarError) as error:
            raise InputError(f"{self.where(name)}: cannot be read: {error}") from None
        if len(data) != self._members[name].size:
            raise InputError(f"{self.where(name)}: the tar is cut off; copy it again")
        return data


def picture_name(frame: str, stream: str) -> str:
    return f"{frame}.image_{stream}.jpg"


def find_clips(root: Path, split: str, devices: tuple[Device, ...]) -> list[Path]:
    """Tars of a split, by device and name.

    Raises:
        InputError: There are none.
    """
    folders = [root / f"{split}_{device}" for device in devices]
    clips = [path for folder in folders for path in sorted(folder.glob("*.tar"))]
    if not clips:
        raise InputError(f"{root}: no clip-*.tar in {' or '.join(folder.name for folder in folders)}")
    return clips


def _hand(label: Any, where: str) -> Hot3dHand:
    pose = label.get("mano_pose") if isinstance(label, Mapping) else None
    visibility = entry(label, "visibilities_modeled", where)
    boxes = entry(label, "boxes_amodal", where)
    return Hot3dHand(
        pose=None if pose is None else _pose(pose, f"{where}.mano_pose"),
        visibility={
            stream: float(numbers(value, (), f"{where}.visibilities_modeled.{stream}"))
            for stream, value in visibility.items()
            if value is not None
        },
        boxes={
            stream: numbers(box, (4,), f"{where}.boxes_amodal.{stream}")
            for stream, box in boxes.items()
            if box is not None
        },
    )


def _pose(label: Any, where: str) -> Hot3dPose:
    components = numbers(entry(label, "thetas", where), (NUM_COMPONENTS,), f"{where}.thetas")
    wrist = numbers(entry(label, "wrist_xform", where), (6,), f"{where}.wrist_xform")
    return Hot3dPose(components, wrist[:3], wrist[3:])
