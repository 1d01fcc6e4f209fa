"""Pictures in BOP's scene folders: `SPLIT/SCENE/{rgb|gray,depth,mask,mask_visib}` and `scene_*.json`.

Each picture takes one file an object and more; for training convert scenes to shards (`converters.bop`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from posecore.data.images import decode_image, decode_mask
from posecore.errors import InputError
from vpog.data.annotation_json import describe, read_json, whole_number
from vpog.data.annotations import (
    CameraLabels,
    ObjectLabels,
    camera_labels,
    check_size,
    instance_records,
    object_labels,
)
from vpog.data.depth_images import decode_depth_mm
from vpog.data.object_index import ImageObjects, make_table
from vpog.data.records import ImageRecord, InstanceRecord, InstanceTable
from vpog.data.rle import Rle

ENDINGS = (".png", ".jpg", ".jpeg", ".tif")


@dataclass(frozen=True)
class Scene:
    """What the JSON files of one scene say."""

    folder: Path
    scene_id: int
    cameras: dict[int, CameraLabels]
    objects: dict[int, ObjectLabels] | None
    """By image. None: the scene has no ground truth, as test scenes whose poses are kept secret."""


class BopScenes:
    """An `ImageSource` over all pictures of a split, scene by scene, in the order of their numbers.

    Args:
        folder: Of the split (`bop_layout.split_folder` finds it): `lmo/test`, `tless/test_primesense`.
        dataset: BOP's name of the set; None: the name of the folder above.
        images: Only these (scene, image), as the targets of a test list them; None: all.

    Raises:
        InputError: A folder or file is missing or damaged.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dataset: str | None = None,
        images: frozenset[tuple[int, int]] | set[tuple[int, int]] | None = None,
    ) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected the folder of a split, with scenes of six digits")
        self.folder = folder
        self.dataset = dataset or folder.resolve().parent.name
        wanted = None if images is None else {scene for scene, _ in images}
        scenes = [f for f in sorted(self.folder.iterdir()) if re.fullmatch(r"\d{6}", f.name)]
        self.scenes = {int(f.name): read_scene(f) for f in scenes if wanted is None or int(f.name) in wanted}
        every = [(scene.scene_id, image) for scene in self.scenes.values() for image in sorted(scene.cameras)]
        lacking = set() if images is None else set(images) - set(every)
        if lacking:
            scene_id, image_id = min(lacking)
            raise InputError(f"{self.folder}: has no image {image_id} in scene {scene_id}, which is asked for")
        self._ids = [ids for ids in every if images is None or ids in images]
        if not self._ids:
            raise InputError(f"{self.folder}: holds no scene (folders of six digits with scene_camera.json)")

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self, index: int) -> tuple[int, int]:
        """Scene and image number."""
        return self._ids[index]

    def where(self, index: int) -> str:
        scene_id, image_id = self._ids[index]
        return f"{self.scenes[scene_id].folder}: image {image_id}"

    @cached_property
    def instances(self) -> InstanceTable:
        return make_table([self._objects(*ids) for ids in self._ids])

    def read(self, index: int, *, depth: bool = True) -> ImageRecord:
        """
        Raises:
            InputError: The picture or its masks are missing or damaged; names the file.
        """
        scene_id, image_id = self._ids[index]
        scene = self.scenes[scene_id]
        camera = scene.cameras[image_id]
        picture = self.rgb_file(index)
        rgb = decode_image(picture, apply_orientation=False)
        size_hw = (rgb.shape[0], rgb.shape[1])
        depth_file = self.depth_file(index) if depth else None
        depth_mm = None
        if depth_file is not None:
            depth_mm = decode_depth_mm(_bytes(depth_file), str(depth_file), camera.depth_scale)
            check_size(depth_mm.shape, size_hw, str(depth_file))
        instances: tuple[InstanceRecord, ...] = ()
        if scene.objects is not None and len(scene.objects[image_id]):
            labels = scene.objects[image_id]
            visible = self._masks(scene, "mask_visib", image_id, len(labels), size_hw)
            has_silhouettes = (scene.folder / "mask").is_dir()
            whole = self._masks(scene, "mask", image_id, len(labels), size_hw) if has_silhouettes else None
            instances = instance_records(labels, visible, whole)
        return ImageRecord(self.dataset, scene_id, image_id, rgb, depth_mm, camera.K.copy(), instances)

    def check_ground_truth(self) -> None:
        """
        Raises:
            InputError: A scene has none.
        """
        for scene in self.scenes.values():
            if scene.objects is None:
                raise InputError(f"{scene.folder}: has no scene_gt.json; its poses are not public or not downloaded")

    def rgb_file(self, index: int) -> Path:
        """
        Raises:
            InputError: There is none.
        """
        scene_id, image_id = self._ids[index]
        folder = self.scenes[scene_id].folder
        found = _picture(folder / "rgb", image_id) or _picture(folder / "gray", image_id)
        if found is None:
            raise InputError(f"{self.where(index)}: no picture {image_id:06d} in rgb or gray ({', '.join(ENDINGS)})")
        return found

    def depth_file(self, index: int) -> Path | None:
        """None: the scene has no folder of depth.

        Raises:
            InputError: The folder is there, the picture is not.
        """
        scene_id, image_id = self._ids[index]
        folder = self.scenes[scene_id].folder / "depth"
        found = _picture(folder, image_id)
        if found is None and folder.is_dir():
            raise InputError(f"{folder}: has no picture {image_id:06d} ({', '.join(ENDINGS)})")
        return found

    def _objects(self, scene_id: int, image_id: int) -> ImageObjects:
        objects = self.scenes[scene_id].objects
        if objects is None:
            return ImageObjects(scene_id, image_id, np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros((0, 4)))
        labels = objects[image_id]
        return ImageObjects(scene_id, image_id, labels.obj_id, labels.visib_fract, labels.bbox_visib_xywh)

    @staticmethod
    def _masks(scene: Scene, kind: str, image_id: int, count: int, size_hw: tuple[int, int]) -> list[Rle]:
        masks = []
        for gt in range(count):
            path = scene.folder / kind / f"{image_id:06d}_{gt:06d}.png"
            mask = decode_mask(_bytes(path), str(path))
            check_size(mask.shape, size_hw, str(path))
            masks.append(Rle.of(mask))
        return masks


def read_scene(folder: Path) -> Scene:
    """The labels of one scene. Without `scene_gt.json` it has no ground truth.

    Raises:
        InputError: A file is missing or damaged, or they name different images.
    """
    file = folder / "scene_camera.json"
    cameras = {
        image_id: camera_labels(value, f"{file}: {image_id}")
        for image_id, value in _by_image(read_json(file, "the cameras of a BOP scene"), file).items()
    }
    gt_file, info_file = folder / "scene_gt.json", folder / "scene_gt_info.json"
    if not gt_file.is_file():
        return Scene(folder, int(folder.name), cameras, None)
    gt = _by_image(read_json(gt_file, "the poses of a BOP scene"), gt_file)
    info = _by_image(read_json(info_file, "boxes and visible fractions of a BOP scene (calc_gt_info.py)"), info_file)
    for path, table in ((gt_file, gt), (info_file, info)):
        if table.keys() != cameras.keys():
            odd = min(table.keys() ^ cameras.keys())
            raise InputError(f"{path}: image {odd} is in only one of it and scene_camera.json")
    objects = {
        image: object_labels(gt[image], info[image], f"{gt_file}: {image}", f"{info_file}: {image}") for image in gt
    }
    return Scene(folder, int(folder.name), cameras, objects)


def _by_image(content: Any, file: Path) -> dict[int, Any]:
    if not isinstance(content, Mapping):
        raise InputError(f"{file}: is {describe(content)}, expected an object with an entry for each image")
    return {whole_number(key, f"{file}: image"): value for key, value in content.items()}


def _picture(folder: Path, image_id: int) -> Path | None:
    paths = (folder / f"{image_id:06d}{ending}" for ending in ENDINGS)
    return next((path for path in paths if path.is_file()), None)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
