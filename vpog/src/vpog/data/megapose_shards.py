"""The original shards of MegaPose: poses as quaternions in metres, one picture of instance numbers.

Members of a picture: `KEY.rgb.png`, `segmentation.png`, `depth.png`, `infos.json` {scene_id, view_id},
`camera_data.json` {K, TWC, resolution, camera_id}, `object_datas.json` [{label, TWO, unique_id, bbox_modal,
bbox_amodal, visib_fract}]; KEY = hash of the picture. `infos.json` beside the shards says what a count of depth means.

Convention: a pose is [[qx, qy, qz, qw], [x, y, z]] in metres. TWO maps the object to the world and TWC the camera to
the world, so camera-from-object is TWC^-1 TWO. Files whose TWO maps to the camera already have TWC = identity.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from posecore.data.images import decode_image
from posecore.data.shard_fields import decode_json
from posecore.errors import InputError
from vpog.data.annotation_json import entry, number, numbers, read_json, rows, whole_number
from vpog.data.annotations import ObjectLabels, check_K, check_size, instance_records, visible_fraction
from vpog.data.depth_images import decode_depth_mm, decode_ids
from vpog.data.object_index import ImageObjects, instance_table
from vpog.data.open_shards import open_shards
from vpog.data.records import ImageRecord, InstanceTable
from vpog.data.rle import Rle

MM_PER_M = 1000.0
RGB = ("rgb.png", "rgb.jpg")
NO_BOX = [-1.0, -1.0, -1.0, -1.0]
LABELS = ("camera_data.json", "infos.json", "object_datas.json")


class MegaPoseShards:
    """An `ImageSource` over original MegaPose shards.

    Args:
        shards: Paths of tar files in one folder, which has `infos.json` {"depth_scale": counts a metre}.
        dataset: Its name.
        obj_ids: Object ids of labels, as `read_obj_ids` gives them; None: labels are numbers or `obj_000003`.
        skip_broken: Leave shards out that are not whole tars, warn once and list them in `broken`.

    Raises:
        InputError: A shard or `infos.json` is missing or broken.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        dataset: str,
        *,
        obj_ids: Mapping[str, int] | None = None,
        skip_broken: bool = False,
    ) -> None:
        self.shards, self.broken = open_shards(shards, skip_broken=skip_broken)
        self.dataset = dataset
        self.depth_scale = MM_PER_M / _counts_per_metre(self.shards.shard(0).parent / "infos.json")
        """Millimetres a count."""
        self._obj_ids = None if obj_ids is None else dict(obj_ids)

    def __len__(self) -> int:
        return len(self.shards)

    def where(self, index: int) -> str:
        return self.shards.where(index)

    def ids(self, index: int) -> tuple[int, int]:
        """Scene and view number."""
        where = f"{self.where(index)}.infos.json"
        infos = decode_json(self.shards.read_members(index, ["infos.json"])[0], where)
        return _ids(infos, where)

    @cached_property
    def instances(self) -> InstanceTable:
        """
        Raises:
            InputError: Labels of a picture are damaged, or one has no object id.
        """
        ids = hashlib.sha256(json.dumps(self._obj_ids, sort_keys=True).encode()).hexdigest()[:16]
        return instance_table(self.shards, self._objects, f"megapose-{ids}")

    def read(self, index: int, *, depth: bool = True) -> ImageRecord:
        """
        Raises:
            InputError: The picture or its labels are damaged; names shard, key, field and value.
        """
        where, present = self.where(index), self.shards.members(index)
        rgb_field = next((name for name in RGB if name in present), RGB[0])
        wanted = [rgb_field, "segmentation.png", *LABELS, *(["depth.png"] if depth and "depth.png" in present else [])]
        data = dict(zip(wanted, self.shards.read_members(index, wanted), strict=True))
        camera, infos, objects = (decode_json(data[name], f"{where}.{name}") for name in LABELS)
        rgb = decode_image(data[rgb_field], f"{where}.{rgb_field}", apply_orientation=False)
        size_hw = (rgb.shape[0], rgb.shape[1])
        instance_ids = decode_ids(data["segmentation.png"], f"{where}.segmentation.png")
        check_size(instance_ids.shape, size_hw, f"{where}.segmentation.png")
        depth_mm = None
        if "depth.png" in data:
            depth_mm = decode_depth_mm(data["depth.png"], f"{where}.depth.png", self.depth_scale)
            check_size(depth_mm.shape, size_hw, f"{where}.depth.png")
        K, world_from_cam = _camera(camera, size_hw, f"{where}.camera_data.json")
        place = f"{where}.object_datas.json"
        labels = self._labels(objects, np.linalg.inv(world_from_cam), place)
        numbers_in_picture = [
            whole_number(entry(row, "unique_id", f"{place}[{i}]"), f"{place}[{i}].unique_id")
            for i, row in enumerate(objects)
        ]
        masks = [Rle.of(instance_ids == instance) for instance in numbers_in_picture]
        scene_id, view_id = _ids(infos, f"{where}.infos.json")
        return ImageRecord(self.dataset, scene_id, view_id, rgb, depth_mm, K, instance_records(labels, masks, None))

    def _labels(self, objects: Any, cam_from_world: Float[np.ndarray, "4 4"], where: str) -> ObjectLabels:
        obj_id, visib_fract, bbox_visib_xywh = self._visible_objects(objects, where)
        poses = np.tile(np.eye(4), (len(obj_id), 1, 1))
        bbox_obj_xywh = np.zeros((len(obj_id), 4))
        for place, row in enumerate(objects):
            here = f"{where}[{place}]"
            poses[place] = cam_from_world @ pose_of(entry(row, "TWO", here), f"{here}.TWO")
            bbox_obj_xywh[place] = _xywh(row, "bbox_amodal", here)
        poses[:, :3, 3] *= MM_PER_M
        return ObjectLabels(obj_id, poses, visib_fract, bbox_visib_xywh, bbox_obj_xywh)

    def _visible_objects(
        self, objects: Any, where: str
    ) -> tuple[Int64[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, "n 4"]]:
        places = [f"{where}[{place}]" for place in range(len(rows(objects, where)))]
        ids = [self._obj_id(str(entry(row, "label", p)), f"{p}.label") for row, p in zip(objects, places, strict=True)]
        visible = [visible_fraction(row, place) for row, place in zip(objects, places, strict=True)]
        boxes = np.zeros((len(ids), 4))
        for place, row in enumerate(objects):
            boxes[place] = _xywh(row, "bbox_modal", places[place])
        return np.array(ids, dtype=np.int64), np.array(visible, dtype=np.float64), boxes

    def _obj_id(self, label: str, where: str) -> int:
        if self._obj_ids is None:
            text = label.removeprefix("obj_")
            if not text.isdecimal():
                raise InputError(f"{where}: {label!r} is no object number; give the models_info.json that names it")
            return int(text)
        if label not in self._obj_ids:
            raise InputError(f"{where}: unknown object {label!r}; models_info.json has {len(self._obj_ids)} others")
        return self._obj_ids[label]

    def _objects(self, index: int) -> ImageObjects:
        where = f"{self.where(index)}.object_datas.json"
        objects = decode_json(self.shards.read_members(index, ["object_datas.json"])[0], where)
        return ImageObjects(*self.ids(index), *self._visible_objects(objects, where))


def read_obj_ids(models_info: Path) -> dict[str, int]:
    """Object ids of MegaPose's labels, from `models_info.json`: a list of {obj_id, gso_id} or of {obj_id,
    shapenet_synset_id, shapenet_source_id}. Labels are `gso_NAME` and `shapenet_SYNSET_SOURCE`; the plain name counts too.

    Raises:
        InputError: The file is missing, damaged, or names an object twice.
    """
    ids: dict[str, int] = {}
    for place, row in enumerate(rows(read_json(models_info, "names of the models"), str(models_info))):
        where = f"{models_info}: [{place}]"
        obj_id = whole_number(entry(row, "obj_id", where), f"{where}.obj_id")
        if "gso_id" in row:
            name, prefix = str(row["gso_id"]), "gso"
        else:
            synset, source = (entry(row, f"shapenet_{part}_id", where) for part in ("synset", "source"))
            name, prefix = f"{synset}_{source}", "shapenet"
        for label in {name, f"{prefix}_{name.removeprefix(prefix + '_')}"}:
            if ids.setdefault(label, obj_id) != obj_id:
                raise InputError(f"{where}: {label} is object {ids[label]} already, here {obj_id}")
    return ids


def pose_of(value: Any, where: str) -> Float[np.ndarray, "4 4"]:
    """Of [[qx, qy, qz, qw], [x, y, z]]; metres stay metres.

    Raises:
        InputError: It is none, or its quaternion has not length 1.
    """
    parts = rows(value, where)
    if len(parts) != 2:
        raise InputError(f"{where}: has {len(parts)} parts, expected [[qx, qy, qz, qw], [x, y, z]]")
    quat_xyzw = numbers(parts[0], (4,), f"{where}[0]")
    length = np.linalg.norm(quat_xyzw)
    if abs(length - 1.0) > 1e-3:
        raise InputError(f"{where}[0]: its quaternion has length {length:.4g}, expected 1")
    pose = np.eye(4)
    pose[:3, :3] = _rotation(quat_xyzw / length)
    pose[:3, 3] = numbers(parts[1], (3,), f"{where}[1]")
    return pose


def _rotation(quat_xyzw: Float[np.ndarray, "4"]) -> Float[np.ndarray, "3 3"]:
    """Of a unit quaternion: 1 + 2 w [v]_x + 2 [v]_x^2. (posecore's takes tensors; this runs for each object read.)"""
    x, y, z, w = quat_xyzw
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + 2.0 * w * cross + 2.0 * cross @ cross)


def _xywh(row: Any, name: str, where: str) -> list[float]:
    """From corners: w = x1 - x0, as BOP counts. An object of which nothing is visible may have none: -1, as in BOP."""
    if row.get(name) is None and row["visib_fract"] == 0:
        return NO_BOX
    x0, y0, x1, y1 = numbers(entry(row, name, where), (4,), f"{where}.{name}")
    return [x0, y0, x1 - x0, y1 - y0]


def _camera(
    value: Any, size_hw: tuple[int, int], where: str
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"]]:
    height, width = numbers(entry(value, "resolution", where), (2,), f"{where}: resolution")
    check_size((int(height), int(width)), size_hw, f"{where}: resolution")
    K = check_K(numbers(entry(value, "K", where), (3, 3), f"{where}: K"), f"{where}: K")
    return K, pose_of(entry(value, "TWC", where), f"{where}: TWC")


def _ids(infos: Any, where: str) -> tuple[int, int]:
    scene_id, view_id = (whole_number(entry(infos, f, where), f"{where}: {f}") for f in ("scene_id", "view_id"))
    return scene_id, view_id


def _counts_per_metre(path: Path) -> float:
    scale = number(
        entry(read_json(path, "depth_scale of the shards"), "depth_scale", str(path)), f"{path}: depth_scale"
    )
    if scale <= 0:
        raise InputError(f"{path}: depth_scale: is {scale:g}, expected counts per metre, above 0 (1000: millimetres)")
    return scale
