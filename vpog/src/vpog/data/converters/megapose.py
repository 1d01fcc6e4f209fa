"""Original MegaPose shards to ours: poses in millimetres, masks as run lengths, pictures as they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posecore.data.shards import find_shards
from vpog.data.converters.shard_parts import ConversionReport, convert_images
from vpog.data.megapose_shards import RGB, MegaPoseShards
from vpog.data.shard_writing import EncodedPictures, bop_fields


def convert_megapose(
    shards: str | Path,
    output: Path,
    *,
    dataset: str,
    obj_ids: Mapping[str, int] | None = None,
    images_per_shard: int = 1000,
    shard: tuple[int, int] | None = None,
    skip_broken: bool = False,
) -> ConversionReport:
    """Convert shards; one that is there already is kept.

    Args:
        shards: Folder, file, glob or braces of .tar files, `infos.json` beside them.
        output: Another folder, for the new shards.
        dataset: Name of the set.
        obj_ids: Object ids of labels (`megapose_shards.read_obj_ids`); None: labels are numbers.
        images_per_shard: The last shard may have fewer.
        shard: (i, n): the i-th of n parts, i from 0; None: all.
        skip_broken: Leave broken shards out. All parts must see the same ones.

    Raises:
        InputError: A shard or sample is damaged; names it.
    """
    source = MegaPoseShards(find_shards(shards), dataset, obj_ids=obj_ids, skip_broken=skip_broken)

    def fields_of(index: int) -> dict[str, Any]:
        return _fields(source, index)

    return convert_images(_ids(source), fields_of, output, images_per_shard=images_per_shard, shard=shard)


def _ids(source: MegaPoseShards) -> list[tuple[int, int]]:
    """From the table of objects, which is kept beside the shards; pictures without an object are opened."""
    table = source.instances
    known = {
        int(image): (int(scene_id), int(image_id))
        for image, scene_id, image_id in zip(table.image, table.scene_id, table.image_id, strict=True)
    }
    return [known[index] if index in known else source.ids(index) for index in range(len(source))]


def _fields(source: MegaPoseShards, index: int) -> dict[str, Any]:
    record = source.read(index)  # also checks that each member can be read
    present = source.shards.members(index)
    rgb_field = next(name for name in RGB if name in present)
    members = [rgb_field, *(["depth.png"] if "depth.png" in present else [])]
    rgb, *depth = source.shards.read_members(index, members)
    pictures = EncodedPictures(
        rgb=(rgb_field, rgb),
        depth=("depth.png", depth[0]) if depth else None,
        depth_scale=source.depth_scale if depth else None,
    )
    return bop_fields(record, pictures)
