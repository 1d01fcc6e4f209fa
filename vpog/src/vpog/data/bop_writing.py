"""Writes pictures as BOP scene folders, in the layout of `bop_scenes`: reading them gives the same records."""

from collections import Counter, defaultdict
from pathlib import Path
from types import TracebackType
from typing import Any

from posecore.data.images import encode_png
from posecore.errors import InputError
from vpog.data.annotation_json import write_json
from vpog.data.bop_layout import TARGETS
from vpog.data.depth_images import encode_depth_mm
from vpog.data.records import ImageRecord
from vpog.data.shard_writing import camera_json, gt_info_json, gt_json, has_silhouettes
from vpog.data.targets import Target, write_targets

LEAST_VISIBLE = 0.1
"""Instances that show less are no targets of a BOP test."""


class BopSceneWriter:
    """Writes `ROOT/SPLIT/SCENE/...`; the JSON files appear when it is closed.

    Left by an error it writes none of them, and the folder cannot be read as a split.

    Args:
        root: Folder of the set.
        split: `test`, `train_pbr`, `test_primesense`: the name of the folder as it is.
        depth_scale: Millimetres a count of the depth pictures; depths are rounded to it.
        targets: Also write `ROOT/test_targets_bop19.json` with all instances that are visible enough.

    Raises:
        InputError: The split is there already.
    """

    def __init__(self, root: Path, split: str, *, depth_scale: float = 0.1, targets: bool = False) -> None:
        self.root, self.folder = root, root / split
        self._depth_scale, self._with_targets = depth_scale, targets
        if self.folder.exists():
            raise InputError(f"{self.folder}: is there already; write to a new folder, or delete the old split")
        self.folder.mkdir(parents=True)
        self._cameras: dict[int, dict[int, Any]] = defaultdict(dict)
        self._gt: dict[int, dict[int, Any]] = defaultdict(dict)
        self._info: dict[int, dict[int, Any]] = defaultdict(dict)
        self._visible: Counter[tuple[int, int, int]] = Counter()

    def write(self, record: ImageRecord) -> None:
        """Add a picture.

        Raises:
            ValueError: It was written already, or the format cannot hold it.
        """
        scene_id, image_id = record.scene_id, record.image_id
        if image_id in self._cameras[scene_id]:
            raise ValueError(f"scene {scene_id}, image {image_id}: was written already")
        with_silhouettes = has_silhouettes(record)
        gt, info = gt_json(record), gt_info_json(record)
        folder = self.folder / f"{scene_id:06d}"
        _write(folder / "rgb" / f"{image_id:06d}.png", encode_png(record.rgb))
        if record.depth_mm is not None:
            depth = encode_depth_mm(record.depth_mm, self._depth_scale)
            _write(folder / "depth" / f"{image_id:06d}.png", depth)
        for place, instance in enumerate(record.instances):
            name = f"{image_id:06d}_{place:06d}.png"
            _write(folder / "mask_visib" / name, encode_png(instance.mask_visib.decode()))
            if with_silhouettes and instance.mask is not None:
                _write(folder / "mask" / name, encode_png(instance.mask.decode()))
            if instance.visib_fract >= LEAST_VISIBLE:
                self._visible[scene_id, image_id, instance.obj_id] += 1
        scale = None if record.depth_mm is None else self._depth_scale
        self._cameras[scene_id][image_id] = camera_json(record, scale)
        self._gt[scene_id][image_id], self._info[scene_id][image_id] = gt, info

    def close(self) -> None:
        """Write the labels of all scenes, and the targets."""
        for scene_id in self._cameras:
            folder = self.folder / f"{scene_id:06d}"
            write_json(folder / "scene_gt.json", self._gt[scene_id])
            write_json(folder / "scene_gt_info.json", self._info[scene_id])
            write_json(folder / "scene_camera.json", self._cameras[scene_id])
        if self._with_targets:
            counted = sorted(self._visible.items())
            write_targets(self.root / TARGETS, [Target(*ids, count) for ids, count in counted])

    def __enter__(self) -> "BopSceneWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
