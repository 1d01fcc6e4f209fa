"""InterHand2.6M's annotation files, read once and taken apart by sequence, camera and frame.

Layout (release 1.0, 5 and 30 fps alike): `annotations/SPLIT/InterHand2.6M_SPLIT_{data,camera,joint_3d}.json`,
`..._MANO_NeuralAnnot.json`, `images/SPLIT/CaptureN/SEQ/camID/imageFRAME.jpg`. Lengths mm, MANO's translation metres.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from handvit.data.converters.annotation_json import entry, numbers, read_json, rows, whole_number
from posecore.errors import InputError

HandType = Literal["right", "left", "interacting"]
NUM_JOINTS = 42

SequenceName = tuple[str, str]
"""Capture and sequence."""


@dataclass(frozen=True)
class View:
    """One picture and its labels."""

    image_id: int
    file_name: str
    size_wh: tuple[int, int]
    capture: str
    subject: str
    sequence: str
    camera: str
    frame: int
    hand_type: HandType
    hand_type_is_valid: bool
    joint_valid: Float[np.ndarray, "42"]
    where: str
    """The annotation, for errors."""


@dataclass(frozen=True)
class Camera:
    """X_cam = rotation (X_world - position); mm and px."""

    position_mm: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "3 3"]
    focal: Float[np.ndarray, "2"]
    princpt: Float[np.ndarray, "2"]


@dataclass(frozen=True)
class InterHandFiles:
    """The annotations of one split. Cameras, joints and MANO labels are checked when they are asked for."""

    folder: Path
    split: str
    sequences: Mapping[SequenceName, Mapping[str, Sequence[View]]]
    """Views by sequence and camera, in order of frames."""
    cameras: Any
    joints: Any
    mano: Any
    """None: not asked for."""

    def camera(self, capture: str, camera: str) -> Camera:
        where = f"{self._path('camera')}: {capture}"
        table = entry(self.cameras, capture, self._path("camera"))
        values = {}
        for name, shape in (("campos", (3,)), ("camrot", (3, 3)), ("focal", (2,)), ("princpt", (2,))):
            of_cameras = entry(table, name, where)
            place = f"{where}.{name}"
            values[name] = numbers(entry(of_cameras, camera, place), shape, f"{place}.{camera}")
        if abs(np.linalg.det(values["camrot"]) - 1) > 1e-3:
            raise InputError(f"{where}.camrot.{camera}: is no rotation matrix")
        return Camera(values["campos"], values["camrot"], values["focal"], values["princpt"])

    def joints_world_mm(self, view: View) -> tuple[Float[np.ndarray, "42 3"], Float[np.ndarray, "42"]]:
        """World coordinates and whether they are valid."""
        where = f"{self._path('joint_3d')}: {view.capture}"
        frames = entry(self.joints, view.capture, self._path("joint_3d"))
        frame = entry(frames, str(view.frame), where)
        where = f"{where}.{view.frame}"
        points = numbers(entry(frame, "world_coord", where), (NUM_JOINTS, 3), f"{where}.world_coord")
        valid = numbers(entry(frame, "joint_valid", where), (NUM_JOINTS,), f"{where}.joint_valid")
        return points, valid

    def mano_world(self, view: View, side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Pose [48], shape [10], translation [3] m; None where the hand was not fitted."""
        hands = self.mano.get(view.capture, {}).get(str(view.frame))
        label = None if hands is None else hands.get(side)
        if label is None:
            return None
        where = f"{self._path('MANO_NeuralAnnot')}: {view.capture}.{view.frame}.{side}"
        pose, shape, trans = (
            numbers(entry(label, name, where), (size,), f"{where}.{name}")
            for name, size in (("pose", 48), ("shape", 10), ("trans", 3))
        )
        return pose, shape, trans

    def _path(self, name: str) -> str:
        return self._paths[name]

    @cached_property
    def _paths(self) -> dict[str, str]:
        """Made once: they are asked for with every frame."""
        names = ("camera", "joint_3d", "MANO_NeuralAnnot")
        return {name: str(annotation_path(self.folder, self.split, name)) for name in names}


def annotation_path(folder: Path, split: str, name: str) -> Path:
    return folder / "annotations" / split / f"InterHand2.6M_{split}_{name}.json"


def read_interhand(folder: Path, split: str, with_mano: bool) -> InterHandFiles:
    """Read the annotations of a split. The train split's files have several GB; parsed they take up to ten times that.

    Raises:
        InputError: A file is missing or no JSON, or an entry of the list of pictures is not what the layout says.
    """
    data = annotation_path(folder, split, "data")
    sequences = _views(read_json(data, "the list of InterHand2.6M's pictures"), str(data))
    cameras = read_json(annotation_path(folder, split, "camera"), "the cameras of InterHand2.6M")
    joints = read_json(annotation_path(folder, split, "joint_3d"), "the joints of InterHand2.6M")
    mano = None
    if with_mano:
        path = annotation_path(folder, split, "MANO_NeuralAnnot")
        mano = read_json(path, "InterHand2.6M's MANO labels (a download of their own; without hand models not needed)")
        if not isinstance(mano, dict) or not all(isinstance(frames, dict) for frames in mano.values()):
            raise InputError(f"{path}: expected an object of captures, each an object of frames")
    return InterHandFiles(folder, split, sequences, cameras, joints, mano)


def _views(data: Any, file: str) -> dict[SequenceName, dict[str, list[View]]]:
    labels: dict[int, Any] = {}
    for place, label in enumerate(rows(entry(data, "annotations", file), f"{file}: annotations")):
        image_id = whole_number(entry(label, "image_id", f"{file}: annotations[{place}]"), f"{file}: image_id")
        if image_id in labels:
            raise InputError(f"{file}: annotations[{place}]: image {image_id} is annotated twice")
        labels[image_id] = label
    sequences: dict[SequenceName, dict[str, list[View]]] = defaultdict(lambda: defaultdict(list))
    for place, image in enumerate(rows(entry(data, "images", file), f"{file}: images")):
        where = f"{file}: images[{place}]"
        image_id = whole_number(entry(image, "id", where), f"{where}.id")
        if image_id not in labels:
            raise InputError(f"{where}: image {image_id} has no annotation")
        view = _view(image, image_id, labels[image_id], where, f"{file}: annotation of image {image_id}")
        sequences[view.capture, view.sequence][view.camera].append(view)
    for cameras in sequences.values():
        for views in cameras.values():
            views.sort(key=lambda view: view.frame)
    return {name: dict(sorted(cameras.items())) for name, cameras in sorted(sequences.items())}


def _view(image: Any, image_id: int, label: Any, where: str, label_where: str) -> View:
    hand_type = entry(label, "hand_type", label_where)
    if hand_type not in ("right", "left", "interacting"):
        raise InputError(f"{label_where}.hand_type: {hand_type!r}, expected right, left or interacting")
    return View(
        image_id=image_id,
        file_name=str(entry(image, "file_name", where)),
        size_wh=(
            whole_number(entry(image, "width", where), f"{where}.width"),
            whole_number(entry(image, "height", where), f"{where}.height"),
        ),
        capture=str(entry(image, "capture", where)),
        subject=str(entry(image, "subject", where)),
        sequence=str(entry(image, "seq_name", where)),
        camera=str(entry(image, "camera", where)),
        frame=whole_number(entry(image, "frame_idx", where), f"{where}.frame_idx"),
        hand_type=hand_type,
        hand_type_is_valid=bool(entry(label, "hand_type_valid", label_where)),
        joint_valid=numbers(entry(label, "joint_valid", label_where), (NUM_JOINTS,), f"{label_where}.joint_valid"),
        where=label_where,
    )
