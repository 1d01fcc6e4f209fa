"""From the frames of an evaluation to a benchmark's file, and from such a file to the benchmark's numbers."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from handvit.metrics.frames import Frames
from handvit.submission.dexycb import read_dexycb, score_dexycb, write_dexycb
from handvit.submission.freihand import FREIHAND_COUNT, read_freihand, score_freihand, write_freihand
from handvit.submission.hands import Hands, arranged, read_points
from handvit.submission.ho3d import read_ho3d, read_ho3d_truth, read_order, score_ho3d, write_ho3d
from posecore.errors import InputError

Submission = Literal["none", "freihand", "ho3d", "dexycb"]
FILES: dict[str, str] = {"freihand": "pred.json", "ho3d": "pred.zip", "dexycb": "dexycb.txt"}
DEXYCB_TRUTH = "dexycb_truth.txt"
TRUTH_XYZ, TRUTH_VERTS = "evaluation_xyz.json", "evaluation_verts.json"


def write_submission(benchmark: Submission, folder: Path, frames: Frames, order: Path | None = None) -> Path:
    """Write a benchmark's file of an evaluation's frames into a folder; DexYCB's true joints, where all have labels, too.

    Args:
        order: HO3D: evaluation.txt. Others: a file with a sample on each line, where only a part of the benchmark is meant:
            FreiHAND the names of pictures (00000012), DexYCB the ids.

    Raises:
        InputError: Samples are missing or there twice, frames do not tell which sample they are, or there is no mesh.
    """
    if benchmark == "none":
        raise InputError("submission: none; name a benchmark: freihand, ho3d, dexycb")
    path = folder / FILES[benchmark]
    hands = Hands(frames.joint_cam_mm.astype(np.float64), frames.vertices_mm)
    if benchmark == "ho3d":
        if order is None:
            raise InputError("--order: HO3D's evaluation.txt is needed, whose order the submission follows")
        write_ho3d(path, hands, [_sequence_and_id(image) for image in _images(frames, path)], read_order(order))
    elif benchmark == "freihand":
        ids = [PurePosixPath(image).stem for image in _images(frames, path)]
        wanted = _lines(order) if order is not None else [f"{i:08d}" for i in range(FREIHAND_COUNT)]
        write_freihand(path, _select(hands, arranged(ids, wanted, str(path))), len(wanted))
    else:
        ids = _dexycb_ids(frames, path)
        wanted = _lines(order) if order is not None else sorted(ids, key=int)
        rows = arranged(ids, wanted, str(path))
        numbers = [int(ids[row]) for row in rows]
        write_dexycb(path, _select(hands, rows), numbers)
        if frames.joint_3d_valid[rows].all():
            write_dexycb(
                folder / DEXYCB_TRUTH, _select(Hands(frames.true_joint_cam_mm.astype(np.float64)), rows), numbers
            )
    return path


def score_submission(benchmark: Submission, submission: Path, truth: Path) -> dict[str, float]:
    """The benchmark's own numbers, in mm.

    Args:
        truth: FreiHAND and HO3D: the folder with evaluation_xyz.json and evaluation_verts.json. DexYCB: a file of true joints
            in the form of a submission.

    Raises:
        InputError: A file is missing or of another form, or submission and truth are of different samples.
    """
    if benchmark == "freihand":
        xyz, verts = read_points(truth / TRUTH_XYZ, 21), read_points(truth / TRUTH_VERTS, 778)
        return score_freihand(read_freihand(submission, len(xyz)), Hands(xyz * 1000.0, verts * 1000.0))
    if benchmark == "ho3d":
        hands = read_ho3d_truth(truth / TRUTH_XYZ, truth / TRUTH_VERTS)
        return score_ho3d(read_ho3d(submission, len(hands)), hands)
    if benchmark == "dexycb":
        (ids, pred), (true_ids, hands) = read_dexycb(submission), read_dexycb(truth)
        odd = sorted({*ids.tolist()} ^ {*true_ids.tolist()})
        if odd:
            raise InputError(f"{submission}: {len(odd)} ids are not in both this and {truth}, the first is {odd[0]}")
        return score_dexycb(pred, hands)
    raise InputError("submission: none; name a benchmark: freihand, ho3d, dexycb")


def _select(hands: Hands, rows: Sequence[int]) -> Hands:
    vertices = None if hands.vertices_mm is None else hands.vertices_mm[list(rows)]
    return Hands(hands.joints_mm[list(rows)], vertices)


def _images(frames: Frames, path: Path) -> tuple[str, ...]:
    unknown = [key for key, image in zip(frames.key, frames.image, strict=True) if not image]
    if unknown:
        raise InputError(
            f"{path}: {len(unknown)} frames do not tell their picture (imgs_path), the first is {unknown[0]}"
        )
    return frames.image


def _sequence_and_id(image: str) -> str:
    """`HO3D_v3/evaluation/AP10/rgb/0003.jpg` -> `AP10/0003`."""
    parts = PurePosixPath(image).parts
    if len(parts) < 3 or parts[-2] != "rgb":
        raise InputError(f"{image}: not a picture of HO3D, which are SEQUENCE/rgb/ID.jpg")
    return f"{parts[-3]}/{PurePosixPath(image).stem}"


def _dexycb_ids(frames: Frames, path: Path) -> list[str]:
    """`id` of source_index: the number of the sample in its split."""
    ids = []
    for key, text in zip(frames.key, frames.source_index, strict=True):
        entry = json.loads(text) if text else {}
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int):
            raise InputError(f"{path}: {key} does not tell its number in the split (source_index has no id)")
        ids.append(str(entry["id"]))
    return ids


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path}: names no samples")
    return lines
