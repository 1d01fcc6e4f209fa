"""Pictures in shards as BOP publishes them (MegaPose-GSO, MegaPose-ShapeNet): one tar a thousand pictures.

Members of a picture: `KEY.rgb.jpg` or `.png` or `KEY.gray.tif`, `KEY.depth.png` or `.tif`, `KEY.camera.json`,
`KEY.gt.json`, `KEY.gt_info.json`, `KEY.mask.json`, `KEY.mask_visib.json`; KEY = SCENE_IMAGE, six digits each.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from posecore.data.images import decode_image
from posecore.data.shard_fields import decode_json
from posecore.errors import InputError
from vpog.data.annotations import (
    camera_labels,
    check_size,
    instance_masks,
    instance_records,
    object_labels,
    scene_and_image,
    visible_objects,
)
from vpog.data.depth_images import decode_depth_mm
from vpog.data.object_index import ImageObjects, instance_table, read_object_index
from vpog.data.open_shards import open_shards
from vpog.data.records import ImageRecord, InstanceTable

RGB = ("rgb.jpg", "rgb.png", "rgb.jpeg", "rgb.tif", "gray.tif", "gray.png", "gray.jpg")
DEPTH = ("depth.png", "depth.tif")
LABELS = ("camera.json", "gt.json", "gt_info.json", "mask_visib.json")
ORIGIN = "bop"


class WebDatasetImages:
    """An `ImageSource` over shards.

    Args:
        shards: Paths of tar files, in the order in which their pictures count.
        dataset: Its name.
        skip_broken: Leave shards out that are not whole tars, warn once and list them in `broken`.
        object_index: A file of `object_index.write_object_index`, where the folder of the shards cannot be written to.

    Raises:
        InputError: A shard is missing or broken; `object_index` does not fit.
    """

    def __init__(
        self, shards: Sequence[Path], dataset: str, *, skip_broken: bool = False, object_index: Path | None = None
    ) -> None:
        self.shards, self.broken = open_shards(shards, skip_broken=skip_broken)
        self.dataset = dataset
        self._object_index = object_index

    def __len__(self) -> int:
        return len(self.shards)

    def where(self, index: int) -> str:
        return self.shards.where(index)

    def ids(self, index: int) -> tuple[int, int]:
        """Scene and image number, from the key.

        Raises:
            InputError: The key has none.
        """
        return scene_and_image(self.shards.key(index), self.where(index))

    @cached_property
    def instances(self) -> InstanceTable:
        """
        Raises:
            InputError: Labels of a picture are damaged.
        """
        if self._object_index is not None:
            return read_object_index(self._object_index, self.shards.indexes)
        return instance_table(self.shards, self._objects, ORIGIN)

    def read(self, index: int, *, depth: bool = True) -> ImageRecord:
        """
        Raises:
            InputError: The picture or its labels are damaged; names shard, key, field and value.
        """
        where = self.where(index)
        present = self.shards.members(index)
        rgb_field = _one_of(RGB, present, where)
        depth_field = next((name for name in DEPTH if name in present), None) if depth else None
        wanted = [rgb_field, *LABELS, *(n for n in ("mask.json", depth_field) if n is not None and n in present)]
        data = dict(zip(wanted, self.shards.read_members(index, wanted), strict=True))

        def label(field: str) -> Any:
            return decode_json(data[field], f"{where}.{field}")

        rgb = decode_image(data[rgb_field], f"{where}.{rgb_field}", apply_orientation=False)
        size_hw = (rgb.shape[0], rgb.shape[1])
        camera = camera_labels(label("camera.json"), f"{where}.camera.json")
        labels = object_labels(label("gt.json"), label("gt_info.json"), f"{where}.gt.json", f"{where}.gt_info.json")
        masks = {
            field: instance_masks(label(field), labels.visib_fract, size_hw, f"{where}.{field}")
            for field in ("mask_visib.json", "mask.json")
            if field in data
        }
        depth_mm = None
        if depth_field is not None:
            depth_mm = decode_depth_mm(data[depth_field], f"{where}.{depth_field}", camera.depth_scale)
            check_size(depth_mm.shape, size_hw, f"{where}.{depth_field}")
        instances = instance_records(labels, masks["mask_visib.json"], masks.get("mask.json"))
        return ImageRecord(self.dataset, *self.ids(index), rgb, depth_mm, camera.K, instances)

    def _objects(self, index: int) -> ImageObjects:
        where = self.where(index)
        names = ("gt.json", "gt_info.json")
        gt, info = (
            decode_json(data, f"{where}.{name}")
            for name, data in zip(names, self.shards.read_members(index, names), strict=True)
        )
        return ImageObjects(*self.ids(index), *visible_objects(gt, info, f"{where}.gt.json", f"{where}.gt_info.json"))


def _one_of(names: Sequence[str], present: Sequence[str], where: str) -> str:
    for name in names:
        if name in present:
            return name
    raise InputError(f"{where}: has no picture ({', '.join(names)}); it has {', '.join(present)}")
