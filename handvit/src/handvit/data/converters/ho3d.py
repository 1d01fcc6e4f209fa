"""HO3D v3 (JPEG) and v2 (PNG): a clip is a run of consecutive listed frames of a sequence. Right hands only.

Labels are in OpenGL's frame (y up, looking along -z) and turned to OpenCV's: points by F = diag(1, -1, -1), which is a
rotation, the root by F R. Poses are absolute already, so no hand model is needed; one that is given measures the fit.
The evaluation split has the wrist and a box; where `evaluation_xyz.json` lies in the folder (released in 2024) it has all
joints. Its boxes stay the published ones.
Source: Hampali et al., HOnnotate (CVPR 2020); HO-3D_v3 (arXiv 2107.00887).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from handvit.data.converters.clip_writing import (
    box_problem,
    part_of,
    read_picture,
    shard_pattern,
    tight_boxes,
    write_conversion,
)
from handvit.data.converters.hand_frames import HandFrame, Origin, join_frames, runs
from handvit.data.converters.ho3d_files import (
    FPS,
    Ho3dFrame,
    Ho3dLabel,
    list_frames,
    picture_ending,
    read_label,
    read_truth,
)
from handvit.data.converters.mano_labels import check_hand, posed_joints_mm, rest_root_mm, turn_root
from handvit.data.converters.report import ConversionReport
from handvit.data.records import ClipRecord
from handvit.data.storage import CropStorage
from handvit.hand import HandModel
from handvit.joints import FINGERTIPS, MANO_TO_CANONICAL, WRIST
from posecore.data.headers import read_header

Split = Literal["train", "evaluation"]

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])
TIPS = FINGERTIPS["ho3d"]
TRANSLATION = "mano_trans_opengl_m"
NO_LABEL = "the frame has no hand label"
TRUTH_DISTANCE_MM = 5.0
"""The wrist of the truth and that of the frame's label are the same point."""


def convert_ho3d(
    root: Path,
    output: Path,
    *,
    split: Split,
    right: HandModel | None = None,
    shard: tuple[int, int] | None = None,
    crop: CropStorage | None = None,
    limit: int | None = None,
    allow_standin: bool = False,
) -> ConversionReport:
    """Convert one split; whether it is v2 or v3 is told by the pictures.

    Args:
        root: The folder that holds `train`, `evaluation`, `train.txt` and `evaluation.txt`.
        output: Folder for the shards and `conversion.json`.
        split: Of the data set.
        right: Hand model of the licensed file, to measure how well MANO's labels fit the joints; the conversion is the
            same without.
        shard: (i, n): the i-th of n parts of the sequences.
        crop: Store margin crops; None: the pictures as they are.
        limit: At most so many clips.
        allow_standin: Take the stand-in hand for measuring.

    Raises:
        InputError: A file or entry that is missing or damaged; names it.
    """
    frames = list_frames(root, split)
    ending = picture_ending(root, split, frames[0])
    dataset = "HO3D_v3" if ending == "jpg" else "HO3D_v2"
    report = ConversionReport(dataset, split, shard)
    hand = None
    if right is None:
        report.warn("no hand model: the fit of MANO's labels to the joints was not measured")
    elif (checked := check_hand(right, "right", report, allow_standin)) is not None:
        hand = HandModel(checked.body, tips=TIPS)
    truth = read_truth(root, len(frames)) if split == "evaluation" else None
    if split == "evaluation" and truth is None:
        report.warn(f"{root}: has no evaluation_xyz.json: only the wrist has a label")
    sequences: dict[str, list[Ho3dFrame]] = {}
    for frame in frames:
        sequences.setdefault(frame.sequence, []).append(frame)
    part = part_of(sorted(sequences), shard)
    report.sequences = len(part)
    reader = _Reader(root, split, dataset, ending, truth, hand, report)
    records = (record for name in part for record in reader.clips(name, sequences[name]))
    return write_conversion(records, output, shard_pattern(split, shard), crop, report, limit)


class _Reader:
    def __init__(
        self,
        root: Path,
        split: Split,
        dataset: str,
        ending: str,
        truth: Float[np.ndarray, "n 21 3"] | None,
        hand: HandModel | None,
        report: ConversionReport,
    ) -> None:
        self.root, self.split, self.dataset, self.ending = root, split, dataset, ending
        self.truth, self.hand, self.report = truth, hand, report

    def clips(self, sequence: str, listed: Sequence[Ho3dFrame]) -> Iterator[ClipRecord]:
        origin = Origin(self.dataset, self.split, "right", TIPS, (self.dataset, self.split, sequence))
        ordered = sorted(listed, key=lambda frame: frame.number)
        labelled = (frame for item in ordered if (frame := self._frame(item)) is not None)
        for run in runs(labelled):
            record = join_frames(run, origin)
            self._measure(record)
            yield record

    def _frame(self, item: Ho3dFrame) -> HandFrame | None:
        folder = self.root / self.split / item.sequence
        file = folder / "meta" / f"{item.name}.pkl"
        label = read_label(file, self.split)
        truth = None if self.truth is None else self.truth[item.line]
        placed = self._joints_mm(label, truth, str(file))
        if placed is None:
            self.report.skip(NO_LABEL, str(file))
            return None
        joints, valid = placed
        pixels = np.where(valid[:, None] > 0, _project(joints, label.camera), 0.0)
        picture, picture_format = read_picture(folder / "rgb" / f"{item.name}.{self.ending}", item.where)
        header = read_header(picture)
        assert header is not None  # read_picture
        box = tight_boxes(pixels, valid) if label.box is None else label.box
        if (problem := box_problem(box, (header.width, header.height))) is not None:
            self.report.skip(problem, str(file))
            return None
        return HandFrame(
            number=item.number,
            picture=picture,
            picture_format=picture_format,
            path=f"{self.split}/{item.sequence}/rgb/{item.name}.{self.ending}",
            focal=label.camera[[0, 1], [0, 1]],
            princpt=label.camera[:2, 2],
            joint_img=pixels,
            joint_cam_mm=joints,
            joint_2d_valid=valid,
            joint_3d_valid=valid,
            timestamp_ms=item.number * 1000.0 / FPS,
            mano_pose=None if label.pose is None else turn_root(label.pose[None], OPENCV_FROM_OPENGL)[0],
            mano_shape=None if label.pose is None else label.shape,
            hand_bbox=box,
            source_index={"sequence": item.sequence, "frame": item.name, "line": item.line},
            additional_desc=_translation(label),
        )

    def _joints_mm(
        self, label: Ho3dLabel, truth: Float[np.ndarray, "21 3"] | None, where: str
    ) -> tuple[Float[np.ndarray, "21 3"], Float[np.ndarray, "21"]] | None:
        """Canonical joints in OpenCV's frame, and which of them are known."""
        joints = label.joints_m if truth is None else truth
        if joints is None:
            return None
        if truth is not None and label.joints_m is not None:
            distance = float(np.linalg.norm(truth[WRIST] - label.joints_m[WRIST])) * 1000.0
            if distance > TRUTH_DISTANCE_MM:
                self.report.warn(
                    f"evaluation_xyz.json: wrists of some frames lie more than {TRUTH_DISTANCE_MM:g} mm from those of their "
                    f"labels (first: {where}, {distance:.1f} mm); is it the file of this version?"
                )
        points, valid = np.zeros((21, 3)), np.zeros(21)
        valid[: len(joints)] = 1.0
        points[: len(joints)] = joints * 1000.0 @ OPENCV_FROM_OPENGL
        order = list(MANO_TO_CANONICAL)  # a wrist alone stays first
        return points[order], valid[order]

    def _measure(self, record: ClipRecord) -> None:
        rows = np.flatnonzero(record.has_mano)
        if self.hand is None or not len(rows):
            return
        pose, shape, joints = (
            values[rows].astype(float) for values in (record.mano_pose, record.mano_shape, record.joint_cam_mm)
        )
        translation_mm = np.array([record.additional_desc[int(row)][TRANSLATION] for row in rows]) * 1000.0
        root_mm = (rest_root_mm(self.hand, shape) + translation_mm) @ OPENCV_FROM_OPENGL
        posed = posed_joints_mm(self.hand, pose, shape, root_mm)
        self.report.measure_mano(posed, joints, record.joint_3d_valid[rows])


def _translation(label: Ho3dLabel) -> dict[str, list[float]]:
    return {} if label.translation_m is None else {TRANSLATION: label.translation_m.tolist()}


def _project(points: Float[np.ndarray, "n 3"], camera: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "n 2"]:
    depth = np.where(points[:, 2] > 0, points[:, 2], 1.0)[:, None]
    return np.asarray(points[:, :2] / depth * camera[[0, 1], [0, 1]] + camera[:2, 2])
