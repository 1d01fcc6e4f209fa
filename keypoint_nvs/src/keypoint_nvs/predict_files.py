"""From picture and video files to keypoints, views, points in space, tables and pictures."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keypoint_nvs.data.rgba_images import SUFFIXES, made_square, opaque, read_rgba
from keypoint_nvs.draw.canvas import to_picture
from keypoint_nvs.draw.maps import map_sheet
from keypoint_nvs.draw.sequences import write_gif, write_mp4
from keypoint_nvs.draw.space import SpacePoints, space_sheet
from keypoint_nvs.draw.tokens import draw_tokens, token_sheet
from keypoint_nvs.draw.turntable import TurntableViews, turntable
from keypoint_nvs.predictor import Keypoints, ObjectResult, Predictor, view_pixels
from keypoint_nvs.rig import Rig
from posecore.data.video import iter_frames, video_length
from posecore.draw import write_picture
from posecore.errors import InputError

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
FRAMES_PER_SECOND = 10
Rgba = np.ndarray


@dataclass(frozen=True)
class PredictOptions:
    """What is found and written."""

    views: bool = True
    """Novel views and points in space too, where the run can make them."""
    fit: Literal["exact", "centre_crop", "pad"] = "exact"
    maps: bool = False
    turntable: Literal["gif", "mp4"] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the configuration's `inference` that differ."""


@dataclass(frozen=True)
class Frame:
    """One picture of a file."""

    name: str
    """As its results are called."""
    source: str
    index: int
    rgba: Rgba


def predict_files(
    inputs: Sequence[Path], checkpoint: Path, output: Path, options: PredictOptions, device: str = "auto"
) -> dict[str, Any]:
    """Keypoints of all pictures and frames: keypoints.json, keypoints.csv and pictures in a folder.

    Of a run that learnt no keypoints: the generated views and their cameras.

    Raises:
        InputError: A file is missing, no picture, or not square; two have one name; the output folder holds results
            already.
    """
    if (output / "keypoints.json").exists():
        raise InputError(f"{output}: holds results already; choose another folder")
    sequences = list(find_inputs(inputs))
    _check_names(sequences)
    predictor = Predictor.load(checkpoint, device, options.changes)
    if not predictor.has_keypoints:
        _check_views_only(predictor, sequences, options)
    output.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    for sequence in sequences:
        drawn = []
        for frame in read_frames(sequence, options.fit):
            if not predictor.has_keypoints:
                entries.append(_predict_views(predictor, frame, output))
                continue
            entry, picture = _predict_frame(predictor, frame, output, options)
            entries.append(entry)
            drawn.append(picture)
        if sequence.suffix.lower() in VIDEOS:
            write_mp4(output / f"{sequence.stem}_keypoints.mp4", drawn, FRAMES_PER_SECOND)
    names = [f"token_{token}" for token in predictor.tokens.tolist()] if predictor.has_keypoints else []
    units = {"keypoints_px": "pixels of the square picture, x to the right, y down, centres at integers"}
    document = {"checkpoint": str(predictor.loaded.folder), "names": names, "units": units, "pictures": entries}
    (output / "keypoints.json").write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if names:
        _write_table(output / "keypoints.csv", entries, names)
    return {
        "output": str(output),
        "pictures": len(entries),
        "keypoints": names,
        "files": sorted(p.name for p in output.iterdir()),
    }


def find_inputs(inputs: Sequence[Path]) -> Iterator[Path]:
    """Files, and the pictures and videos of folders in order of their names.

    Raises:
        InputError: Something is not there, or is neither picture nor video.
    """
    for path in inputs:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in (*SUFFIXES, *VIDEOS))
            if not inside:
                raise InputError(f"{path}: holds no picture or video ({', '.join((*SUFFIXES, *VIDEOS))})")
            yield from inside
        elif not path.is_file():
            raise InputError(f"{path}: no such file or folder")
        elif path.suffix.lower() not in (*SUFFIXES, *VIDEOS):
            raise InputError(f"{path}: is neither picture nor video ({', '.join((*SUFFIXES, *VIDEOS))})")
        else:
            yield path


def _check_names(paths: Sequence[Path]) -> None:
    """Results are called after their files."""
    seen: dict[str, Path] = {}
    problems = []
    for path in paths:
        if path.stem in seen:
            problems.append(f"{path}: has the name of {seen[path.stem]}, and results are named after files; rename one")
        seen.setdefault(path.stem, path)
    if problems:
        raise InputError(problems)


def read_frames(path: Path, fit: str) -> Iterator[Frame]:
    """The picture, or the frames of the video, made square as `fit` says."""
    if path.suffix.lower() not in VIDEOS:
        yield Frame(path.stem, str(path), 0, made_square(read_rgba(path), fit, str(path)))
        return
    for index, rgb in enumerate(iter_frames(path, range(video_length(path)))):
        yield Frame(
            f"{path.stem}_{index:05d}", str(path), index, made_square(opaque(rgb), fit, f"{path}: frame {index}")
        )


def _check_views_only(predictor: Predictor, paths: Sequence[Path], options: PredictOptions) -> None:
    """A run of novel views alone answers with views."""
    source = predictor.loaded.folder
    if not predictor.has_views:
        raise InputError(f"{source}: has neither keypoints nor novel views to predict (it is an autoencoder's)")
    asked = {"--no-views": not options.views, "--maps": options.maps, "--turntable": options.turntable is not None}
    problems = [
        f"{name}: {source} learnt no keypoints, only views are predicted" for name, is_on in asked.items() if is_on
    ]
    problems += [
        f"{path}: is a video, but {source} learnt no keypoints; give pictures, each of one object"
        for path in paths
        if path.suffix.lower() in VIDEOS
    ]
    if problems:
        raise InputError(problems)


def _predict_views(predictor: Predictor, frame: Frame, output: Path) -> dict[str, Any]:
    views = view_pixels(predictor.novel_views([frame.rgba])[0])
    _write_views(views, predictor.rig, frame, output)
    entry: dict[str, Any] = {"name": frame.name, "source": frame.source, "frame": frame.index}
    return entry | {"views": _cameras(predictor.rig, views.shape[1])}


def _predict_frame(
    predictor: Predictor, frame: Frame, output: Path, options: PredictOptions
) -> tuple[dict[str, Any], np.ndarray]:
    entry: dict[str, Any] = {"name": frame.name, "source": frame.source, "frame": frame.index}
    is_single = not frame.source.lower().endswith(VIDEOS)
    if options.views and predictor.has_views and is_single:
        result = predictor.objects([frame.rgba])[0]
        found = result.keypoints
        entry |= _object_entry(result)
        _write_object(result, frame, output, options)
    else:
        found = predictor.keypoints([frame.rgba])[0]
    entry |= {"keypoints_px": _rounded(found.xy_px), "confidence": _rounded(found.confidence, 6)}
    rgb = _shown(frame.rgba)
    picture = draw_tokens(rgb, found.xy_px, _relative(found), side=max(192, rgb.shape[0]))
    if is_single:
        write_picture(output / f"{frame.name}_keypoints.png", picture)
        if options.maps:
            write_picture(output / f"{frame.name}_maps.png", map_sheet([rgb], found.maps[None]))
    return entry, picture


def _object_entry(result: ObjectResult) -> dict[str, Any]:
    return {
        "views": {
            "keypoints_px": [_rounded(view.xy_px) for view in result.view_keypoints],
            "confidence": [_rounded(view.confidence, 6) for view in result.view_keypoints],
            **_cameras(result.rig, result.views.shape[1]),
        },
        "points_world": _rounded(result.points_world, 5),
        "counted": result.counted.tolist(),
        "reprojection_px": _rounded(result.reprojection_px),
    }


def _cameras(rig: Rig, side: int) -> dict[str, Any]:
    return {"cam_from_world": rig.cam_from_world().round(9).tolist(), "K": rig.K(side).tolist()}


def _write_views(views: np.ndarray, rig: Rig, frame: Frame, output: Path) -> None:
    """The grid, and each view alone."""
    rows = [np.concatenate(list(views[row * rig.cols : (row + 1) * rig.cols]), 1) for row in range(rig.rows)]
    write_picture(output / f"{frame.name}_grid.png", np.concatenate(rows))
    folder = output / f"{frame.name}_views"
    folder.mkdir(exist_ok=True)
    for index, view in enumerate(views):
        write_picture(folder / f"{index:03d}.png", view)


def _write_object(result: ObjectResult, frame: Frame, output: Path, options: PredictOptions) -> None:
    views = list(result.views)
    _write_views(result.views, result.rig, frame, output)
    points = np.stack([k.xy_px for k in result.view_keypoints])
    trust = np.stack([_relative(k) for k in result.view_keypoints])
    write_picture(output / f"{frame.name}_views.png", token_sheet(views, points, trust, columns=3))
    space = SpacePoints(result.points_world, result.counted)
    write_picture(output / f"{frame.name}_points.png", space_sheet(space))
    if options.turntable is not None:
        frames = turntable(space, TurntableViews(views, result.rig.azimuth_deg, points, trust))
        write = write_gif if options.turntable == "gif" else write_mp4
        write(output / f"{frame.name}_turntable.{options.turntable}", frames, FRAMES_PER_SECOND)


def _write_table(path: Path, entries: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["picture", "frame", "name", "x", "y", "confidence"])
        for entry in entries:
            for name, (x, y), confidence in zip(names, entry["keypoints_px"], entry["confidence"], strict=True):
                table.writerow([entry["source"], entry["frame"], name, x, y, confidence])


def _relative(found: Keypoints) -> np.ndarray:
    """Confidence relative to the picture's best, for drawing."""
    return found.confidence / max(float(found.confidence.max()), 1e-12)


def _shown(rgba: Rgba) -> np.ndarray:
    """Transparent pixels on white."""
    alpha = rgba[3:].astype(np.float32) / 255
    return to_picture(rgba[:3].astype(np.float32) / 255 * alpha + (1 - alpha))


def _rounded(values: np.ndarray, digits: int = 3) -> Any:
    """Plain numbers."""
    return np.asarray(values, np.float64).round(digits).tolist()
