"""`key_to_shard.json`: which shard each picture lies in, {"SSSSSS_IIIIII": number}."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from posecore.data.shard_index import ShardIndex
from posecore.errors import InputError
from vpog.data.annotation_json import describe, read_json, whole_number, write_json

NAME = "key_to_shard.json"


def find_key_to_shard(folder: Path) -> Path | None:
    """Beside the shards or one level up: published sets have both. None: there is none."""
    return next((path for path in (folder / NAME, folder.parent / NAME) if path.is_file()), None)


def read_key_to_shard(path: Path) -> dict[str, int]:
    """
    Raises:
        InputError: It is no such table.
    """
    content = read_json(path, "the table of pictures and shards")
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: is {describe(content)}, expected an object with a shard's number for each picture")
    return {key: whole_number(number, f"{path}: {key}") for key, number in content.items()}


def write_key_to_shard(folder: Path, table: Mapping[str, int]) -> None:
    write_json(folder / NAME, dict(table))


def shard_number(shard: Path) -> int:
    """7 of `shard-000007.tar`.

    Raises:
        InputError: Its name has no number.
    """
    found = re.search(r"(\d+)\.tar$", shard.name)
    if found is None:
        raise InputError(f"{shard}: its name has no number, expected shard-000007.tar")
    return int(found[1])


def check_key_to_shard(path: Path, indexes: Sequence[ShardIndex]) -> None:
    """Shards may be missing (a part of a set); the pictures of those that are there must be where the table says.

    Raises:
        InputError: They are not: files of two releases are mixed.
    """
    table = read_key_to_shard(path)
    for index in indexes:
        number = shard_number(index.path)
        odd = next((key for key in index.keys if table.get(key) != number), None)
        if odd is not None:
            said = f"says shard {table[odd]}" if odd in table else "does not name it"
            raise InputError(f"{path}: {odd}: lies in {index.path.name}, the table {said}; get both from one release")
