"""Which objects are in which picture of some shards, known without decoding a picture.

Reading the labels of a shard takes a third of a second, and sets have a thousand shards. So the rows of each shard lie
beside it (`shard-000000.tar.objects.npz`) and are made again when it changes. `write_object_index` puts the rows of
many shards and the place of every member into one `object_index.json`, for shards in folders that cannot be written to.
"""

import logging
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from posecore.data.shard_index import ShardIndex
from posecore.data.shards import ShardSource
from posecore.errors import InputError
from vpog.data.annotation_json import describe, entry, read_json, rows, unfinished_path, write_json
from vpog.data.records import ImageSource, InstanceTable

log = logging.getLogger(__name__)

FORMAT = "vpog-object-index"
VERSION = 2
"""1.0 is another program's."""
SECONDS_BETWEEN_LINES = 30.0
COLUMNS = tuple(field.name for field in fields(InstanceTable))


@dataclass(frozen=True)
class ImageObjects:
    """The objects of one picture."""

    scene_id: int
    image_id: int
    obj_id: Int64[np.ndarray, " n"]
    visib_fract: Float[np.ndarray, " n"]
    bbox_visib_xywh: Float[np.ndarray, "n 4"]


def instance_table(source: ShardSource, objects_of: Callable[[int], ImageObjects], origin: str) -> InstanceTable:
    """The rows of all shards, from the files beside them where these fit.

    Args:
        source: The shards.
        objects_of: Reads the labels of one sample.
        origin: What the rows depend on besides the shard (kind of labels, names of objects): rows of another origin
            are made again.

    Raises:
        InputError: A picture's labels are damaged.
    """
    tables = []
    start, said = 0, time.monotonic()
    for number, index in enumerate(source.indexes):
        table = _stored(index, origin)
        if table is None:
            table = make_table([objects_of(start + row) for row in range(len(index))])
            _store(table, index, origin)
        tables.append(_shifted(table, start))
        start += len(index)
        if time.monotonic() - said > SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            log.info("objects of %d of %d shards are listed", number + 1, len(source.indexes))
    return concatenated(tables)


def make_table(pictures: Sequence[ImageObjects]) -> InstanceTable:
    """One row an object, in order."""
    counts = np.array([len(picture.obj_id) for picture in pictures], dtype=np.int64)

    def repeated(values: Sequence[int]) -> Int64[np.ndarray, " n"]:
        return np.repeat(np.array(values, dtype=np.int64), counts)

    return InstanceTable(
        image=repeated(range(len(pictures))),
        gt_index=np.concatenate([np.arange(0), *(np.arange(count) for count in counts)]).astype(np.int64),
        scene_id=repeated([picture.scene_id for picture in pictures]),
        image_id=repeated([picture.image_id for picture in pictures]),
        obj_id=np.concatenate([np.zeros(0), *(picture.obj_id for picture in pictures)]).astype(np.int64),
        visib_fract=np.concatenate([np.zeros(0), *(picture.visib_fract for picture in pictures)]).astype(np.float32),
        longer_side_px=np.concatenate([np.zeros(0), *(p.bbox_visib_xywh[:, 2:].max(-1) for p in pictures)]).astype(
            np.float32
        ),
    )


def concatenated(tables: Sequence[InstanceTable]) -> InstanceTable:
    """Their rows, one table after the other; picture numbers stay as they are."""
    return InstanceTable(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in COLUMNS})


def check_objects(source: ImageSource, known: Collection[int], what: str) -> None:
    """
    Args:
        source: The pictures.
        known: Objects that there is something of.
        what: What that is, for the error: "templates", "meshes".

    Raises:
        InputError: A picture shows another object; names the first and counts the rest.
    """
    table = source.instances
    unknown = np.flatnonzero(~np.isin(table.obj_id, list(known)))
    if len(unknown):
        row = int(unknown[0])
        some = ", ".join(map(str, sorted(known)[:8]))
        raise InputError(
            f"{source.where(int(table.image[row]))}: object {table.obj_id[row]} (number {table.gt_index[row]} of the "
            f"picture) has no {what}; there are {what} of {some or 'none'}{', ...' if len(known) > 8 else ''} "
            f"({len(unknown)} of {len(table)} instances lack them)"
        )


def objects_path(shard: Path) -> Path:
    return shard.with_name(f"{shard.name}.objects.npz")


def _stamp(shard: Path) -> Int64[np.ndarray, "2"]:
    """Bytes and time of the last change: a shard that was written again rarely has both."""
    status = shard.stat()
    return np.array([status.st_size, status.st_mtime_ns], dtype=np.int64)


def _stored(index: ShardIndex, origin: str) -> InstanceTable | None:
    path = objects_path(index.path)
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            fits = (
                arrays["version"] == VERSION
                and str(arrays["origin"]) == origin
                and np.array_equal(arrays["stamp"], _stamp(index.path))
            )
            return InstanceTable(**{name: arrays[name] for name in COLUMNS}) if fits else None
    except (ValueError, KeyError, OSError, EOFError):
        raise InputError(f"{path}: is damaged; delete it, it is made again") from None


def _store(table: InstanceTable, index: ShardIndex, origin: str) -> None:
    path = objects_path(index.path)
    if not os.access(path.parent, os.W_OK):
        return
    unfinished = unfinished_path(path)
    columns: dict[str, Any] = {name: getattr(table, name) for name in COLUMNS}
    with unfinished.open("wb") as file:
        np.savez_compressed(file, version=VERSION, origin=origin, stamp=_stamp(index.path), **columns)
    unfinished.replace(path)


def _shifted(table: InstanceTable, start: int) -> InstanceTable:
    columns = {name: getattr(table, name) for name in COLUMNS}
    return InstanceTable(**columns | {"image": table.image + start})


def write_object_index(path: Path, indexes: Sequence[ShardIndex], table: InstanceTable) -> None:
    """One file for all shards: rows column by column, and offset and bytes of every member of every picture.

    Args:
        path: The file, `object_index.json`.
        indexes: Of the shards, in their order.
        table: Of a source of these shards.
    """
    shards = [
        {
            "shard": index.path.name,
            "bytes": index.path.stat().st_size,
            "keys": index.keys,
            "fields": list(index.fields),
            "offsets": index.offsets.tolist(),
            "sizes": index.sizes.tolist(),
        }
        for index in indexes
    ]
    instances = {name: getattr(table, name).tolist() for name in COLUMNS}
    write_json(path, {"format": FORMAT, "version": VERSION, "shards": shards, "instances": instances})


def read_object_index(path: Path, indexes: Sequence[ShardIndex]) -> InstanceTable:
    """The rows that `write_object_index` wrote.

    Raises:
        InputError: It is none, or one of other shards.
    """
    content = read_json(path, "an index of objects")
    if entry(content, "format", str(path)) != FORMAT or entry(content, "version", str(path)) != VERSION:
        found = f"{describe(content['format'])} {content.get('version')}"
        raise InputError(f"{path}: is {found}, expected {FORMAT} {VERSION}; make it again from the shards")
    shards = rows(entry(content, "shards", str(path)), f"{path}: shards")
    listed = [(entry(s, "shard", f"{path}: shards"), entry(s, "bytes", f"{path}: shards")) for s in shards]
    there = [(index.path.name, index.path.stat().st_size) for index in indexes]
    if listed != there:
        odd = next((pair for pair in there if pair not in listed), None) or next(p for p in listed if p not in there)
        raise InputError(f"{path}: was made of other shards ({odd[0]} of {odd[1]} bytes differs); make it again")
    columns = entry(content, "instances", str(path))
    kinds = {name: np.float32 if name in ("visib_fract", "longer_side_px") else np.int64 for name in COLUMNS}
    return InstanceTable(**{name: np.array(entry(columns, name, str(path)), dtype=kinds[name]) for name in COLUMNS})
