"""Writes pictures as shards in the layout of `shards`: reading them gives the same records."""

import itertools
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from posecore.data.images import encode_jpeg, encode_png
from posecore.data.shard_index import index_path
from posecore.data.shard_writer import ShardWriter
from posecore.errors import InputError
from vpog.data.annotations import image_key
from vpog.data.depth_images import encode_depth_mm
from vpog.data.key_to_shard import write_key_to_shard
from vpog.data.records import ImageRecord, InstanceRecord

PATTERN = "shard-%06d.tar"


@dataclass(frozen=True)
class EncodedPictures:
    """Files of one picture."""

    rgb: tuple[str, bytes]
    """Member (`rgb.jpg`, `rgb.png`, `gray.tif`) and content."""
    depth: tuple[str, bytes] | None
    """Member (`depth.png`, `depth.tif`) and content."""
    depth_scale: float | None
    """Millimetres a count."""


def write_bop_shards(
    folder: Path,
    images: Iterable[ImageRecord],
    *,
    images_per_shard: int = 1000,
    depth_scale: float = 0.1,
    rgb_format: Literal["png", "jpg"] = "png",
) -> list[Path]:
    """Shards with their indexes, and `key_to_shard.json` beside them.

    Args:
        folder: Empty or new.
        images: In the order in which they shall lie; taken one by one.
        images_per_shard: The last shard may have fewer.
        depth_scale: Millimetres a count of the depth pictures; depths are rounded to it.
        rgb_format: PNG gives the same pixels back.

    Raises:
        InputError: There are shards already, or no picture at all.
        ValueError: A record that the format cannot hold, or two of the same scene and image number.
    """
    old = sorted(folder.glob("*.tar"))
    if old:
        raise InputError(f"{old[0]}: is there already; write to an empty folder, or delete the old shards")
    paths: list[Path] = []
    table: dict[str, int] = {}
    remaining = iter(images)
    for first in remaining:
        records = itertools.chain([first], itertools.islice(remaining, images_per_shard - 1))
        samples = _samples(records, table, len(paths), depth_scale, rgb_format)
        paths.append(write_shard(folder, len(paths), samples))
    if not paths:
        raise InputError(f"{folder}: no picture to write")
    write_key_to_shard(folder, table)
    return paths


def _samples(
    records: Iterable[ImageRecord],
    table: dict[str, int],
    shard: int,
    depth_scale: float,
    rgb_format: Literal["png", "jpg"],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Members of each picture; notes in `table` where it goes."""
    for record in records:
        key = image_key(record.scene_id, record.image_id)
        if key in table:
            raise ValueError(f"{key}: was written already, to shard {table[key]}")
        table[key] = shard
        yield key, bop_fields(record, _encode(record, depth_scale, rgb_format))


def write_shard(folder: Path, number: int, samples: Iterable[tuple[str, Mapping[str, Any]]]) -> Path:
    """One shard of that number, with its index; it appears when it is whole.

    A folder of its own takes the unfinished one, so that several processes can write shards of one set.
    """
    path = folder / (PATTERN % number)
    unfinished = folder / f".{path.name}.writing"
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    try:
        with ShardWriter(unfinished, PATTERN, max_samples=1 << 62, max_bytes=1 << 62) as writer:
            for key, fields in samples:
                writer.write(key, fields)
        (written,) = writer.paths
        index_path(written).replace(index_path(path))
        written.replace(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return path


def bop_fields(record: ImageRecord, pictures: EncodedPictures) -> dict[str, Any]:
    """Members of one sample.

    Raises:
        ValueError: Some instances have a whole silhouette and some have not.
    """
    gt, info = gt_json(record), gt_info_json(record)
    fields: dict[str, Any] = {pictures.rgb[0]: pictures.rgb[1]}
    if pictures.depth is not None:
        fields[pictures.depth[0]] = pictures.depth[1]
    fields |= {"camera.json": camera_json(record, pictures.depth_scale), "gt.json": gt, "gt_info.json": info}
    if has_silhouettes(record):
        fields["mask.json"] = {
            str(i): instance.mask.to_json() for i, instance in enumerate(record.instances) if instance.mask is not None
        }
    fields["mask_visib.json"] = {str(i): instance.mask_visib.to_json() for i, instance in enumerate(record.instances)}
    return fields


def has_silhouettes(record: ImageRecord) -> bool:
    """
    Raises:
        ValueError: Some instances have a whole silhouette and some have not.
    """
    with_mask = [instance.mask is not None for instance in record.instances]
    if any(with_mask) and not all(with_mask):
        raise ValueError(
            f"{image_key(record.scene_id, record.image_id)}: instance {with_mask.index(False)} has no mask, others do"
        )
    return bool(with_mask) and all(with_mask)


def camera_json(record: ImageRecord, depth_scale: float | None) -> dict[str, Any]:
    scale = {} if depth_scale is None else {"depth_scale": depth_scale}
    return {"cam_K": record.K.ravel().tolist(), **scale}


def gt_json(record: ImageRecord) -> list[dict[str, Any]]:
    """
    Raises:
        ValueError: The indices of the instances are not their places.
    """
    if [instance.gt_index for instance in record.instances] != list(range(len(record.instances))):
        raise ValueError(f"{image_key(record.scene_id, record.image_id)}: gt_index must count instances from 0")
    return [
        {
            "cam_R_m2c": instance.cam_from_obj_mm[:3, :3].ravel().tolist(),
            "cam_t_m2c": instance.cam_from_obj_mm[:3, 3].tolist(),
            "obj_id": instance.obj_id,
        }
        for instance in record.instances
    ]


def gt_info_json(record: ImageRecord) -> list[dict[str, Any]]:
    """Boxes, visible fraction, and counts of pixels.

    `px_count_all` is left out where the silhouette is not known, and `px_count_valid` where depth is not known too.
    BOP renders `px_count_all` on a larger canvas; here it counts what is in the picture.
    """
    return [
        {
            "bbox_obj": _plain(instance.bbox_obj_xywh),
            "bbox_visib": _plain(instance.bbox_visib_xywh),
            **_pixel_counts(instance, record),
            "visib_fract": instance.visib_fract,
        }
        for instance in record.instances
    ]


def _pixel_counts(instance: InstanceRecord, record: ImageRecord) -> dict[str, int]:
    counts = {"px_count_visib": instance.mask_visib.area_px}
    if instance.mask is not None:
        counts["px_count_all"] = instance.mask.area_px
        if record.depth_mm is not None:
            counts["px_count_valid"] = int(np.count_nonzero(instance.mask.decode() & (record.depth_mm > 0)))
    return counts


def _plain(box: Float[np.ndarray, "4"]) -> list[int | float]:
    """Whole numbers without a point, as BOP's files have them."""
    return [int(value) if float(value).is_integer() else float(value) for value in box]


def _encode(record: ImageRecord, depth_scale: float, rgb_format: Literal["png", "jpg"]) -> EncodedPictures:
    rgb = encode_png(record.rgb) if rgb_format == "png" else encode_jpeg(record.rgb)
    depth = None if record.depth_mm is None else ("depth.png", encode_depth_mm(record.depth_mm, depth_scale))
    return EncodedPictures((f"rgb.{rgb_format}", rgb), depth, None if depth is None else depth_scale)
