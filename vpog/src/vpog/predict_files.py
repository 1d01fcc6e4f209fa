"""`vpog predict`: pictures or folders in; results.json, a BOP file and overlays out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from posecore.data.images import decode_image, decode_mask
from posecore.draw import write_picture
from posecore.errors import InputError
from vpog.data.annotation_json import entry, numbers, read_json, rows
from vpog.data.annotations import check_K
from vpog.data.rle import Rle
from vpog.draw.poses import PosedMesh, draw_poses
from vpog.estimates import Estimate
from vpog.evaluate import changed
from vpog.objects.mesh import Mesh
from vpog.objects.mesh_list import SUFFIXES
from vpog.objects.meshes import read_mesh
from vpog.objects.symmetry_detection import model_info_of
from vpog.onboarding import add_objects
from vpog.pose_estimator import Detection, DetectionPoses, PoseEstimator
from vpog.results_csv import ResultName, write_results
from vpog.views import Level

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class PredictOptions:
    """As the command line has them."""

    objects: Path | None = None
    mesh: Path | None = None
    obj_id: int = 1
    box: str | None = None
    mask: Path | None = None
    intrinsics: str | None = None
    fov_deg: float | None = None
    mesh_unit: Literal["auto", "mm", "m"] = "auto"
    level: Level = 1
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """One picture and what is in it."""

    name: str
    rgb: UInt8[np.ndarray, "h w 3"]
    K: Float[np.ndarray, "3 3"]
    detections: tuple[Detection, ...]


def predict_files(
    inputs: Sequence[Path], checkpoint: Path, output: Path, options: PredictOptions, *, device: str = "auto"
) -> dict[str, Any]:
    """Poses of the objects in pictures; what is known of the objects comes from a folder, a mesh, or each input's own.

    Returns:
        Where the results are, and how many objects have a pose.

    Raises:
        InputError: Something is missing, damaged, or contradicts something else; names it.
    """
    _check(inputs, options)
    estimator = PoseEstimator.load(checkpoint, device)
    estimator.inference = changed(estimator.inference, options.changes)
    output.mkdir(parents=True, exist_ok=True)
    if inputs[0].is_dir():
        found = [result for folder in inputs for result in _predict_folder(estimator, folder, options, output)]
    else:
        scenes = [
            _scene(path, options) for path in inputs
        ]  # before templates are rendered: a wrong option is told at once
        found = _predict(estimator, scenes, _known(estimator, options), output)
    (output / "results.json").write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    solved = sum(bool(row["poses"]) for row in found)
    return {"results": str(output / "results.json"), "objects": len(found), "with_pose": solved}


def _predict(
    estimator: PoseEstimator, scenes: Sequence[Scene], meshes: Mapping[int, Mesh], output: Path
) -> list[dict[str, Any]]:
    asked = [
        Detection(d.obj_id, place, d.box_xyxy, d.mask, d.hint_mm)
        for place, scene in enumerate(scenes)
        for d in scene.detections
    ]
    answer = estimator.estimate([scene.rgb for scene in scenes], [scene.K for scene in scenes], asked)
    rows_of: list[dict[str, Any]] = []
    estimates = []
    for place, scene in enumerate(scenes):
        own = [result for result in answer.results if result.detection.image == place]
        _draw(scene, own, meshes, output)
        rows_of += [_row(scene, result) for result in own]
        estimates += [
            Estimate(0, place, result.detection.obj_id, pose.score, pose.cam_from_obj_mm)
            for result in own
            for pose in result.poses
        ]
    name = "_".join(scene.name for scene in scenes[:1])
    safe = "".join(c for c in name if c.isalnum()) or "pictures"
    write_results(output / ResultName("vpog", safe, "predict").file_name, estimates)
    return rows_of


def _draw(scene: Scene, results: Sequence[DetectionPoses], meshes: Mapping[int, Mesh], output: Path) -> None:
    posed = [
        PosedMesh(meshes[result.detection.obj_id], result.poses[0].cam_from_obj_mm)
        for result in results
        if result.poses
    ]
    write_picture(output / f"{scene.name}_overlay.png", draw_poses(scene.rgb, posed, scene.K))


def _row(scene: Scene, result: DetectionPoses) -> dict[str, Any]:
    box = result.detection.box_xyxy
    return {
        "picture": scene.name,
        "obj_id": result.detection.obj_id,
        "box_xyxy": None if box is None else np.asarray(box, float).tolist(),
        "poses": [
            {
                "cam_from_obj_mm": pose.cam_from_obj_mm.tolist(),
                "score": pose.score,
                "inliers": pose.num_inliers,
                "pairs": pose.num_pairs,
                "view_id": pose.view_id,
                "covariance_mm_rad": pose.covariance.astype(float).tolist(),
            }
            for pose in result.poses
        ],
        "failure": result.failure,
    }


def _known(estimator: PoseEstimator, options: PredictOptions) -> dict[int, Mesh]:
    if options.objects is not None:
        return add_objects(estimator, options.objects)
    assert options.mesh is not None
    mesh = read_mesh(options.mesh, unit=options.mesh_unit)
    estimator.add_mesh(options.obj_id, mesh, model_info_of(mesh), options.level)
    return {options.obj_id: mesh}


def _scene(path: Path, options: PredictOptions) -> Scene:
    rgb = decode_image(path)
    mask = None if options.mask is None else _mask(options.mask)
    box = None if options.box is None else _four(options.box, "--box", "x1,y1,x2,y2")
    return Scene(path.stem, rgb, _intrinsics(options, rgb), (Detection(options.obj_id, 0, box, mask),))


def _intrinsics(options: PredictOptions, rgb: np.ndarray) -> Float[np.ndarray, "3 3"]:
    if options.intrinsics is not None:
        fx, fy, cx, cy = _four(options.intrinsics, "--k", "fx,fy,cx,cy").tolist()
        return check_K(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), "--k")
    assert options.fov_deg is not None
    height, width = rgb.shape[:2]
    if not 0 < options.fov_deg < 180:
        raise InputError(f"--fov {options.fov_deg:g}: an angle between 0 and 180 degrees is needed")
    focal = width / 2 / np.tan(np.radians(options.fov_deg) / 2)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])


def _mask(path: Path) -> Bool[np.ndarray, "h w"]:
    return np.asarray(decode_mask(path))


def _four(text: str, option: str, form: str) -> Float[np.ndarray, "4"]:
    try:
        values = np.array([float(part) for part in text.split(",")])
    except ValueError:
        values = np.zeros(0)
    if len(values) != 4 or not np.isfinite(values).all():
        raise InputError(f"{option} {text}: {form} are needed, four numbers")
    return values


def _check(inputs: Sequence[Path], options: PredictOptions) -> None:
    missing = [str(path) for path in inputs if not path.exists()]
    if missing:
        raise InputError(f"{', '.join(missing)}: no such file or folder")
    folders = [path for path in inputs if path.is_dir()]
    if folders and len(folders) < len(inputs):
        raise InputError("predict: give pictures or folders, not both")
    if folders:
        given = ("objects", "mesh", "box", "mask", "intrinsics", "fov_deg")
        names = {"intrinsics": "k", "fov_deg": "fov"}
        unused = [f"--{names.get(name, name)}" for name in given if getattr(options, name) is not None]
        if unused:
            raise InputError(f"predict: {', '.join(unused)}: for pictures only; a folder's own files tell all of that")
        return
    if (options.objects is None) == (options.mesh is None):
        raise InputError("predict: give either --objects (a folder that `vpog onboard` made) or --mesh")
    if options.box is None and options.mask is None:
        raise InputError("predict: give --box x1,y1,x2,y2 or --mask: where in the picture is the object?")
    if (options.intrinsics is None) == (options.fov_deg is None):
        raise InputError("predict: give either --k fx,fy,cx,cy or --fov: what did the camera look like?")


def _predict_folder(
    estimator: PoseEstimator, folder: Path, options: PredictOptions, output: Path
) -> list[dict[str, Any]]:
    """image.*, camera.json {K}, detections.json [{label, bbox | mask}], meshes/LABEL/*.

    A mask is the name of a picture in the folder, or run lengths as BOP has them.
    """
    pictures = [file for file in sorted(folder.glob("image.*")) if file.suffix.lower() in PICTURES]
    if len(pictures) != 1:
        raise InputError(f"{folder}: has {len(pictures)} pictures named image.png (or .jpg, .webp); one is needed")
    rgb = decode_image(pictures[0])
    where = str(folder / "camera.json")
    K = check_K(
        numbers(entry(read_json(folder / "camera.json", "a camera"), "K", where), (3, 3), f"{where}: K"), f"{where}: K"
    )
    listed = rows(read_json(folder / "detections.json", "detections"), str(folder / "detections.json"))
    labels = sorted({str(entry(row, "label", f"{folder / 'detections.json'}: [{i}]")) for i, row in enumerate(listed)})
    ids = {label: place for place, label in enumerate(labels, 1)}
    detections = tuple(
        _folder_detection(folder, row, ids, f"{folder / 'detections.json'}: [{place}]")
        for place, row in enumerate(listed)
    )
    meshes = {}
    for label, obj_id in ids.items():
        mesh = read_mesh(_mesh_of(folder, label), unit=options.mesh_unit)
        estimator.add_mesh(obj_id, mesh, model_info_of(mesh), options.level)
        meshes[obj_id] = mesh
    answered = _predict(estimator, [Scene(folder.name, rgb, K, detections)], meshes, output)
    return [row | {"label": labels[row["obj_id"] - 1]} for row in answered]


def _mesh_of(folder: Path, label: str) -> Path:
    home = folder / "meshes" / label
    files = [file for file in sorted(home.glob("*")) if file.suffix.lower() in SUFFIXES]
    if len(files) != 1:
        raise InputError(f"{home}: has {len(files)} meshes ({', '.join(SUFFIXES)}); one is needed for label {label!r}")
    return files[0]


def _folder_detection(folder: Path, row: Any, ids: Mapping[str, int], where: str) -> Detection:
    obj_id = ids[str(row["label"])]
    if isinstance(row.get("mask"), str):
        return Detection(obj_id, mask=_mask(folder / row["mask"]))
    if "mask" in row:
        return Detection(obj_id, mask=Rle.from_json(row["mask"], f"{where}.mask").decode())
    x, y, width, height = numbers(entry(row, "bbox", where), (4,), f"{where}.bbox").tolist()
    return Detection(obj_id, box_xyxy=np.array([x, y, x + width, y + height]))
