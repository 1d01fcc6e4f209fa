"""FreiHAND's label files, and what they say about each hand in its camera."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from handvit.data.converters.annotation_json import numbers, read_json, rows
from handvit.data.converters.clip_writing import tight_boxes
from handvit.data.converters.mano_labels import absolute_pose, posed_hand_mm
from handvit.data.converters.report import ConversionReport
from handvit.hand import HandModel
from posecore.errors import InputError

Split = Literal["training", "evaluation"]


@dataclass(frozen=True)
class FreiHandLabels:
    """The lists of a split, one entry a label; entries are checked when they are used."""

    root: Path
    split: Split
    camera: list[object]
    scale: list[object]
    joints: list[object]
    mano: list[object] | None
    vertices: list[object] | None
    """As `mano` None where they were not asked for: the train split's file has 1 GB."""

    @classmethod
    def read(cls, root: Path, split: Split, with_mano: bool) -> "FreiHandLabels":
        """Read the files of a split; MANO's labels and the vertices only if they are asked for.

        Raises:
            InputError: One is missing, no list, or of another length than the others.
        """
        names = ("K", "scale", "xyz", *(("mano", "verts") if with_mano else ()))
        files = {name: label_file(root, split, name) for name in names}
        tables = {name: rows(read_json(file, _WHAT[split]), str(file)) for name, file in files.items()}
        for name, table in tables.items():
            if len(table) != len(tables["K"]):
                raise InputError(f"{files[name]}: has {len(table)} entries, {files['K'].name} has {len(tables['K'])}")
        mano = [_flat(entry) for entry in tables["mano"]] if with_mano else None
        return cls(root, split, tables["K"], tables["scale"], tables["xyz"], mano, tables.get("verts"))

    def file(self, name: str) -> Path:
        return label_file(self.root, self.split, name)

    def stack(self, name: str, table: list[object], labels: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
        """The entries of some labels as one array."""
        path = self.file(name)
        return np.stack([numbers(table[label], shape, f"{path}[{label}]") for label in labels])


def label_file(root: Path, split: Split, name: str) -> Path:
    return root / f"{split}_{name}.json"


_WHAT = {
    "training": "FreiHAND's labels (FreiHAND_pub_v2)",
    "evaluation": "FreiHAND's labels (those of the evaluation split are in FreiHAND_pub_v2_eval)",
}


@dataclass(frozen=True)
class Hands:
    """Labels of several pictures."""

    focal: Float[np.ndarray, "n 2"]
    princpt: Float[np.ndarray, "n 2"]
    joint_cam_mm: Float[np.ndarray, "n 21 3"]
    joint_img: Float[np.ndarray, "n 21 2"]
    hand_bbox: Float[np.ndarray, "n 4"]
    scale_mm: Float[np.ndarray, " n"]
    """Length of the bone from joint 9 to 10, which the official protocol gives away."""
    pose: Float[np.ndarray, "n 48"]
    shape: Float[np.ndarray, "n 10"]
    root_mm: Float[np.ndarray, "n 3"] | None
    """None: without MANO labels."""


def read_hands(labels: FreiHandLabels, chunk: Sequence[int], hand: HandModel | None, report: ConversionReport) -> Hands:
    K = labels.stack("K", labels.camera, chunk, (3, 3))
    for row, label in enumerate(chunk):
        x, y = K[row, 0, 0], K[row, 1, 1]
        if not np.allclose(K[row], [[x, 0, K[row, 0, 2]], [0, y, K[row, 1, 2]], [0, 0, 1]]) or x <= 0 or y <= 0:
            raise InputError(f"{labels.file('K')}[{label}]: is no camera without skew")
    focal, princpt = K[:, [0, 1], [0, 1]], K[:, :2, 2]
    joints_mm = labels.stack("xyz", labels.joints, chunk, (21, 3)) * 1000.0
    behind = (joints_mm[..., 2] <= 0).any(1)
    if behind.any():
        label = chunk[int(np.flatnonzero(behind)[0])]
        raise InputError(f"{labels.file('xyz')}[{label}]: a joint lies behind the camera")
    joint_img = joints_mm[..., :2] / joints_mm[..., 2:] * focal[:, None] + princpt[:, None]
    pose, shape, root_mm = np.zeros((len(chunk), 48)), np.zeros((len(chunk), 10)), None
    if hand is not None and labels.mano is not None:
        mano = labels.stack("mano", labels.mano, chunk, (61,))
        pose, shape = absolute_pose(mano[:, :48], hand), mano[:, 48:58]
        root_mm = _solve_root(labels, chunk, hand, (pose, shape, joints_mm), report)
    return Hands(
        focal=focal,
        princpt=princpt,
        joint_cam_mm=joints_mm,
        joint_img=joint_img,
        hand_bbox=tight_boxes(joint_img, np.ones(joint_img.shape[:2])),
        scale_mm=labels.stack("scale", labels.scale, chunk, ()) * 1000.0,
        pose=pose,
        shape=shape,
        root_mm=root_mm,
    )


def _flat(entry: object) -> object:
    """The files have each label of MANO as a list of one list."""
    return entry[0] if isinstance(entry, list) and len(entry) == 1 else entry


def _solve_root(
    labels: FreiHandLabels,
    chunk: Sequence[int],
    hand: HandModel,
    fit: tuple[Float[np.ndarray, "n 48"], Float[np.ndarray, "n 10"], Float[np.ndarray, "n 21 3"]],
    report: ConversionReport,
) -> Float[np.ndarray, "n 3"]:
    """Where the root joint must lie for the posed joints to miss the labelled ones least (squared)."""
    pose, shape, joints_mm = fit
    posed, vertices = posed_hand_mm(hand, pose, shape, np.zeros((len(pose), 3)))
    root_mm = np.asarray((joints_mm - posed).mean(1))
    report.measure_mano(posed + root_mm[:, None], joints_mm, np.ones(posed.shape[:2]))
    if labels.vertices is not None:
        labelled = labels.stack("verts", labels.vertices, chunk, (778, 3)) * 1000.0
        report.measure_mano_vertices(vertices + root_mm[:, None], labelled)
    return root_mm
