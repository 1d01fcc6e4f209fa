"""What the converters share: which shards a process writes, and going on where it was stopped.

Shard k holds pictures k n .. k n + n - 1 of the source whoever writes it, so the parts of a job array can run at once
and in any order, and a shard that is there already need not be written again.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posecore.data.shard_index import open_index
from posecore.errors import InputError
from vpog.data.annotations import image_key
from vpog.data.key_to_shard import write_key_to_shard
from vpog.data.shard_writing import PATTERN, write_shard

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did."""

    shards: tuple[Path, ...]
    """Of this part, in order."""
    num_kept: int
    """How many of them were there already."""
    num_images: int
    """In these shards."""


def convert_images(
    ids: Sequence[tuple[int, int]],
    fields_of: Callable[[int], Mapping[str, Any]],
    output: Path,
    *,
    images_per_shard: int,
    shard: tuple[int, int] | None,
) -> ConversionReport:
    """Write this part's shards, and `key_to_shard.json` of the whole set.

    Args:
        ids: Scene and image number of all pictures of the source.
        fields_of: Members of the sample of a picture.
        output: Folder of the shards.
        images_per_shard: Equal in all parts.
        shard: (i, n): the i-th of n nearly equal parts, i from 0; None: all.

    Raises:
        InputError: Two pictures have the same numbers, there is no such part, or a shard of other pictures is there.
    """
    keys = [image_key(*pair) for pair in ids]
    if len(set(keys)) < len(keys):
        twice = Counter(keys).most_common(1)[0][0]
        raise InputError(f"{output}: two pictures are {twice} (scene_image); shards name pictures by these numbers")
    count = -(-len(keys) // images_per_shard)
    numbers = part_of(count, shard)
    output.mkdir(parents=True, exist_ok=True)
    paths, kept, said = [], 0, time.monotonic()
    for place, number in enumerate(numbers):
        wanted = range(number * images_per_shard, min((number + 1) * images_per_shard, len(keys)))
        path = output / (PATTERN % number)
        if path.is_file():
            _check_same(path, [keys[index] for index in wanted])
            kept += 1
        else:
            write_shard(output, number, ((keys[index], fields_of(index)) for index in wanted))
        paths.append(path)
        if time.monotonic() - said > SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            log.info("%d of %d shards written to %s", place + 1, len(numbers), output)
    write_key_to_shard(output, {key: place // images_per_shard for place, key in enumerate(keys)})
    num_images = sum(min(images_per_shard, len(keys) - number * images_per_shard) for number in numbers)
    return ConversionReport(tuple(paths), kept, num_images)


def part_of(count: int, shard: tuple[int, int] | None) -> range:
    """The i-th of n nearly equal, contiguous parts of 0 .. count - 1; shard = (i, n), i from 0; None: all.

    Raises:
        InputError: No such part.
    """
    if shard is None:
        return range(count)
    part, parts = shard
    if not 0 <= part < parts:
        raise InputError(f"shard: {part}/{parts}: the first number counts from 0 to {max(parts, 1) - 1}")
    return range(part * count // parts, (part + 1) * count // parts)


def _check_same(path: Path, keys: Sequence[str]) -> None:
    found = open_index(path).keys
    if found != list(keys):
        raise InputError(
            f"{path}: is there already with {len(found)} other pictures ({found[0]} to {found[-1]}; expected "
            f"{len(keys)}, {keys[0]} to {keys[-1]}); write to an empty folder, or use the same images_per_shard"
        )
