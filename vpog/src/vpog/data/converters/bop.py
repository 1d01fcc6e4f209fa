"""Scene folders of BOP to shards: pictures and labels are taken as they are, masks become run lengths."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from vpog.data.annotation_json import entry, read_json
from vpog.data.bop_layout import split_folder
from vpog.data.bop_scenes import BopScenes
from vpog.data.converters.shard_parts import ConversionReport, convert_images

ENDING = {".jpeg": "jpg"}


def convert_bop(
    root: Path,
    split: str,
    output: Path,
    *,
    dataset: str | None = None,
    images_per_shard: int = 1000,
    shard: tuple[int, int] | None = None,
) -> ConversionReport:
    """Convert one split; a shard that is there already is kept.

    Args:
        root: Folder of the set: `lmo`.
        split: `test`, `train_pbr`, ...; `bop_layout.split_folder` adds the usual sensor.
        output: Folder of the shards.
        dataset: BOP's name of the set; None: the name of the folder.
        images_per_shard: The last shard may have fewer.
        shard: (i, n): the i-th of n parts, i from 0; None: all.

    Raises:
        InputError: A file is missing or damaged; names it. Pictures without ground truth are refused too: a shard
            would say that they show nothing.
    """
    folder = split_folder(root, split, dataset)
    source = BopScenes(folder, dataset=dataset or root.name)
    source.check_ground_truth()
    ids = [source.ids(index) for index in range(len(source))]

    def fields_of(index: int) -> dict[str, Any]:
        return _fields(source, index)

    return convert_images(ids, fields_of, output, images_per_shard=images_per_shard, shard=shard)


def _fields(source: BopScenes, index: int) -> dict[str, Any]:
    record = source.read(index)  # also checks that each file can be read
    picture, depth = source.rgb_file(index), source.depth_file(index)
    fields: dict[str, Any] = {f"{picture.parent.name}.{_ending(picture)}": picture.read_bytes()}
    if depth is not None:
        fields[f"depth.{_ending(depth)}"] = depth.read_bytes()
    scene = source.scenes[record.scene_id].folder
    for name in ("camera", "gt", "gt_info"):
        fields[f"{name}.json"] = _label(scene / f"scene_{name}.json", record.image_id)
    if all(instance.mask is not None for instance in record.instances):
        fields["mask.json"] = {str(i): m.mask.to_json() for i, m in enumerate(record.instances) if m.mask is not None}
    fields["mask_visib.json"] = {str(i): m.mask_visib.to_json() for i, m in enumerate(record.instances)}
    return fields


def _label(path: Path, image_id: int) -> Any:
    return entry(_by_number(path), str(image_id), str(path))


@lru_cache(maxsize=3)
def _by_number(path: Path) -> dict[str, Any]:
    """Pictures come scene by scene: the three files of one are enough."""
    return {str(int(key)): value for key, value in read_json(path, "labels of a BOP scene").items()}


def _ending(path: Path) -> str:
    return ENDING.get(path.suffix, path.suffix[1:])
