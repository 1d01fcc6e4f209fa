"""DexYCB: a clip is the hand of one sequence in one camera. Joints are the labelled ones, in canonical order already.

Poses are 45 principal components about the mean pose, posed with manopth's fingertips. Labels of left hands were fitted
with the left file as released, which carries the right hand's shape directions: their parameters mean nothing to any
other model, so left clips have joints and no MANO.
Source: Chao et al., DexYCB (CVPR 2021), and its toolkit's splits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from handvit.data.converters.clip_writing import (
    box_problem,
    part_of,
    read_picture,
    shard_pattern,
    tight_boxes,
    write_conversion,
)
from handvit.data.converters.dexycb_files import (
    ABSENT,
    FPS,
    SIZE_WH,
    DexYcbSequence,
    find_sequences,
    read_intrinsics,
    read_label,
)
from handvit.data.converters.dexycb_splits import check_split
from handvit.data.converters.hand_frames import HandFrame, Origin, join_frames, runs
from handvit.data.converters.mano_labels import check_hand, posed_joints_mm, rest_root_mm
from handvit.data.converters.report import ConversionReport
from handvit.data.records import ClipRecord, Handedness
from handvit.data.storage import CropStorage
from handvit.hand import HandModel, pca_to_axis_angle
from handvit.hand.mirror import SHARED_BASIS_BELOW
from handvit.joints import FINGERTIPS
from posecore.errors import InputError

DATASET = "DexYCB"
NO_HAND = "the hand is not there (joint_3d is -1)"
LEFT_HAS_NO_MANO = (
    "MANO labels of left hands were left out: they were fitted to the released MANO_LEFT.pkl, which has the right hand's "
    "shape directions; their joints are converted"
)


def convert_dexycb(
    root: Path,
    output: Path,
    *,
    split: str,
    right: HandModel | None = None,
    left: HandModel | None = None,
    shard: tuple[int, int] | None = None,
    crop: CropStorage | None = None,
    limit: int | None = None,
    allow_standin: bool = False,
) -> ConversionReport:
    """Convert one split.

    Args:
        root: The folder that holds the subjects' folders and `calibration`.
        output: Folder for the shards and `conversion.json`.
        split: `s0_train`, `s0_val`, ..., `s3_test`; `all`: every sequence there is.
        right: Hand model of the licensed file, for the MANO labels; None: joints only.
        left: Likewise, as released (`read_hand(..., side="left", fix_left_shapes=False)`); it only measures how well
            the labels of left hands fit their joints.
        shard: (i, n): the i-th of n parts of the sequences.
        crop: Store margin crops; None: the pictures as they are.
        limit: At most so many clips.
        allow_standin: Take the stand-in hand for MANO. For trying things out: poses and shapes are wrong.

    Raises:
        InputError: A file or entry that is missing or damaged; names it.
    """
    check_split(split)
    report = ConversionReport(DATASET, split, shard)
    hands: dict[Handedness, HandModel | None] = {"right": check_hand(right, "right", report, allow_standin)}
    hands["left"] = None if left is None else check_hand(left, "left", report, allow_standin)
    _check_is_as_released(hands["left"], hands["right"])
    part = part_of(find_sequences(root, split), shard)
    report.sequences = len(part)
    records = _records(root, split, part, {side: _as_labelled(hand, side) for side, hand in hands.items()}, report)
    return write_conversion(records, output, shard_pattern(split, shard), crop, report, limit)


def _check_is_as_released(left: HandModel | None, right: HandModel | None) -> None:
    if left is None or right is None or left.is_standin:
        return
    difference = (left.body.shapedirs[:, 0] - right.body.shapedirs[:, 0]).abs().sum()
    if difference >= SHARED_BASIS_BELOW:
        raise InputError(
            "left hand: its shape directions are mirrored; DexYCB's labels were fitted to MANO_LEFT.pkl as released "
            "(read_hand(..., fix_left_shapes=False))"
        )


def _as_labelled(hand: HandModel | None, side: Handedness) -> HandModel | None:
    """The hand with the fingertips of the labels."""
    return None if hand is None else HandModel(hand.body, tips=FINGERTIPS[f"manopth_{side}"])


def _records(
    root: Path,
    split: str,
    part: Sequence[DexYcbSequence],
    hands: Mapping[Handedness, HandModel | None],
    report: ConversionReport,
) -> Iterator[ClipRecord]:
    for sequence in part:
        if sequence.side == "left":
            report.warn(LEFT_HAS_NO_MANO)
        for camera, serial in enumerate(sequence.serials):
            tips = FINGERTIPS[f"manopth_{sequence.side}"]
            origin = Origin(DATASET, split, sequence.side, tips, (sequence.name, serial))
            first_id = sequence.first_id + camera * sequence.num_frames
            for run in runs(_frames(root, sequence, serial, first_id, hands[sequence.side], report)):
                yield join_frames(_measured(run, sequence, hands[sequence.side], report), origin)


def _frames(
    root: Path,
    sequence: DexYcbSequence,
    serial: str,
    first_id: int,
    hand: HandModel | None,
    report: ConversionReport,
) -> Iterator[HandFrame]:
    focal, princpt = read_intrinsics(root, serial)
    for number in range(sequence.num_frames):
        label_file = sequence.folder / serial / f"labels_{number:06d}.npz"
        label = read_label(label_file)
        valid_3d = (label.joint_3d_m != ABSENT).any(1).astype(float)
        valid_2d = (label.joint_2d != ABSENT).any(1).astype(float)
        if not valid_3d.any():
            report.skip(NO_HAND, str(label_file))
            continue
        if (problem := box_problem(tight_boxes(label.joint_2d, valid_2d), SIZE_WH)) is not None:
            report.skip(problem, str(label_file))
            continue
        path = sequence.folder / serial / f"color_{number:06d}.jpg"
        picture, picture_format = read_picture(path, f"{sequence.folder / 'meta.yml'}: num_frames", SIZE_WH)
        is_fitted = hand is not None and bool(label.pose_m.any())
        yield HandFrame(
            number=number,
            picture=picture,
            picture_format=picture_format,
            path=f"{sequence.name}/{serial}/{path.name}",
            focal=focal,
            princpt=princpt,
            joint_img=np.where(valid_2d[:, None] > 0, label.joint_2d, 0.0),
            joint_cam_mm=np.where(valid_3d[:, None] > 0, label.joint_3d_m * 1000.0, 0.0),
            joint_2d_valid=valid_2d,
            joint_3d_valid=valid_3d,
            timestamp_ms=number * 1000.0 / FPS,
            mano_pose=_absolute(label.pose_m[:48], hand) if hand is not None and is_fitted else None,
            mano_shape=sequence.betas if is_fitted else None,
            source_index={"id": first_id + number, "sequence": sequence.name, "serial": serial, "frame": number},
            additional_desc={"mano_trans_m": label.pose_m[48:].tolist()} if is_fitted else {},
        )


def _measured(
    run: Sequence[HandFrame], sequence: DexYcbSequence, hand: HandModel | None, report: ConversionReport
) -> list[HandFrame]:
    """The frames after their MANO labels were compared with their joints; those of left hands are then dropped."""
    fitted = [frame for frame in run if frame.mano_pose is not None]
    if hand is not None and fitted:
        poses, joints, valid = (
            np.stack([getattr(frame, name) for frame in fitted])
            for name in ("mano_pose", "joint_cam_mm", "joint_3d_valid")
        )
        betas = np.tile(sequence.betas, (len(fitted), 1))
        translation_mm = np.array([frame.additional_desc["mano_trans_m"] for frame in fitted]) * 1000.0
        posed = posed_joints_mm(hand, poses, betas, rest_root_mm(hand, betas) + translation_mm)
        report.measure_mano(posed, joints, valid)
    if sequence.side == "right":
        return list(run)
    return [replace(frame, mano_pose=None, mano_shape=None, additional_desc={}) for frame in run]


def _absolute(label: Float[np.ndarray, "48"], hand: HandModel) -> Float[np.ndarray, "48"]:
    components, mean = (values.double().cpu() for values in (hand.hands_components, hand.hands_mean))
    fingers = pca_to_axis_angle(torch.from_numpy(label[3:]), components, mean).numpy()
    return np.concatenate([label[:3], fingers])
