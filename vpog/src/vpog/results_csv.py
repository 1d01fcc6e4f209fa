"""Result files of the BOP challenge: one line a pose, read and written as its server accepts them.

Source: "How to participate" of the BOP challenge, and `load_bop_results` of its toolkit.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from posecore.errors import InputError
from vpog.data.annotation_json import unfinished_path
from vpog.data.annotations import check_rotation
from vpog.estimates import Estimate

HEADER = "scene_id,im_id,obj_id,score,R,t,time"


@dataclass(frozen=True)
class ResultName:
    """What the name of a result file says: `METHOD_DATASET-SPLIT[-TYPE][_ID].csv`."""

    method: str
    dataset: str
    split: str
    split_type: str | None = None
    result_id: str | None = None

    def __post_init__(self) -> None:
        for field, value in self.__dict__.items():
            forbidden = "_/\\" if field in ("method", "result_id") else "_-/\\"
            if value is not None and (not value or any(character in value for character in forbidden)):
                hint = " (an underscore ends the method's name)" if field == "method" else ""
                raise InputError(f"{field}: {value!r} is empty or holds one of {forbidden!r}{hint}")

    @property
    def file_name(self) -> str:
        kind = "" if self.split_type is None else f"-{self.split_type}"
        number = "" if self.result_id is None else f"_{self.result_id}"
        return f"{self.method}_{self.dataset}-{self.split}{kind}{number}.csv"


def parse_name(file_name: str) -> ResultName:
    """Of `vpog-rgb_tless-test-primesense_run1.csv`: method vpog-rgb, set tless, split test, type primesense, id run1.

    Raises:
        InputError: The name is not of that form.
    """
    pattern = (
        r"(?P<method>[^_]+)_(?P<dataset>[^_-]+)-(?P<split>[^_-]+)(-(?P<split_type>[^_-]+))?(_(?P<result_id>[^_]+))?"
    )
    found = re.fullmatch(pattern + r"\.csv", Path(file_name).name)
    if found is None:
        raise InputError(
            f"{file_name}: the name of a result file is METHOD_DATASET-SPLIT[-TYPE][_ID].csv, without _ in METHOD, "
            "as in vpog-rgb_lmo-test.csv"
        )
    return ResultName(**found.groupdict())


def write_results(path: Path, estimates: Iterable[Estimate]) -> None:
    """All digits of every number; the file appears when it is whole.

    Raises:
        InputError: The name is none of a result file, a pose or score is not finite, or the estimates of a picture
            differ in time: BOP's server rejects such files.
    """
    parse_name(path.name)
    listed = list(estimates)
    for row, estimate in enumerate(listed):
        _check(estimate, f"{path}: estimate {row}")
    check_times(listed, [f"{path}: estimate {row}" for row in range(len(listed))])
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unfinished_path(path)
    unfinished.write_text("".join(f"{line}\n" for line in [HEADER, *map(_line, listed)]))
    unfinished.replace(path)


def read_results(path: Path) -> list[Estimate]:
    """In the order of the file; the header may be missing, as in old files.

    Raises:
        InputError: A line is damaged or times of a picture differ; names file, line and field.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not text; a result file is CSV with the header {HEADER}") from None
    estimates: list[Estimate] = []
    places: list[str] = []
    for number, line in enumerate(lines, start=1):
        if line.strip() and not (number == 1 and line.strip() == HEADER):
            places.append(f"{path}: line {number}")
            estimates.append(_estimate(line, places[-1]))
    check_times(estimates, places)
    return estimates


def check_times(estimates: Sequence[Estimate], places: Sequence[str]) -> None:
    """
    Args:
        estimates: Of any pictures.
        places: Where each was found, for the error.

    Raises:
        InputError: Two estimates of a picture have different times.
    """
    first: dict[tuple[int, int], Estimate] = {}
    for estimate, place in zip(estimates, places, strict=True):
        known = first.setdefault((estimate.scene_id, estimate.image_id), estimate)
        if known.time_s != estimate.time_s:
            raise InputError(
                f"{place}: time: is {estimate.time_s} s, an earlier estimate of scene {estimate.scene_id}, image "
                f"{estimate.image_id} says {known.time_s} s; it is the time of the whole picture, equal in all its lines"
            )


def _line(estimate: Estimate) -> str:
    rotation, translation = estimate.cam_from_obj_mm[:3, :3], estimate.cam_from_obj_mm[:3, 3]
    columns = (
        str(estimate.scene_id),
        str(estimate.image_id),
        str(estimate.obj_id),
        repr(float(estimate.score)),
        " ".join(repr(float(value)) for value in rotation.ravel()),
        " ".join(repr(float(value)) for value in translation),
        repr(float(estimate.time_s)),
    )
    return ",".join(columns)


def _check(estimate: Estimate, where: str) -> None:
    for field in ("score", "time_s"):
        if not math.isfinite(getattr(estimate, field)):
            raise InputError(f"{where}: {field} is {getattr(estimate, field)}, expected a finite number")
    if not np.isfinite(estimate.cam_from_obj_mm).all():
        raise InputError(f"{where}: its pose of object {estimate.obj_id} is not finite; leave failed estimates out")
    check_rotation(estimate.cam_from_obj_mm[:3, :3], f"{where}: R")


def _estimate(line: str, where: str) -> Estimate:
    columns = line.split(",")
    names = HEADER.split(",")
    if len(columns) != len(names):
        raise InputError(f"{where}: has {len(columns)} columns, expected {len(names)}: {HEADER}")
    text = dict(zip(names, columns, strict=True))
    scene_id, image_id, obj_id = (_whole(text[name], f"{where}: {name}") for name in ("scene_id", "im_id", "obj_id"))
    pose = np.eye(4)
    pose[:3, :3] = check_rotation(_numbers(text["R"], 9, f"{where}: R").reshape(3, 3), f"{where}: R")
    pose[:3, 3] = _numbers(text["t"], 3, f"{where}: t")
    score, time_s = (float(_numbers(text[name], 1, f"{where}: {name}")[0]) for name in ("score", "time"))
    return Estimate(scene_id, image_id, obj_id, score, pose, time_s)


def _whole(text: str, where: str) -> int:
    if not text.strip().isdecimal():
        raise InputError(f"{where}: {text!r} is not a whole number")
    return int(text)


def _numbers(text: str, count: int, where: str) -> Float[np.ndarray, " n"]:
    try:
        values = np.array([float(part) for part in text.split()])
    except ValueError:
        raise InputError(f"{where}: {text!r} is not {count} numbers with spaces between them") from None
    if len(values) != count or not np.isfinite(values).all():
        raise InputError(f"{where}: {text!r} is not {count} finite numbers with spaces between them")
    return values
