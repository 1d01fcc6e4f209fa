"""Shards that are whole: a few of the first public release are not."""

import logging
from collections.abc import Sequence
from pathlib import Path

from posecore.data.shard_index import open_index
from posecore.data.shards import ShardSource
from posecore.errors import InputError

log = logging.getLogger(__name__)


def open_shards(shards: Sequence[Path], *, skip_broken: bool) -> tuple[ShardSource, list[str]]:
    """The shards that are whole, to read members from, and what is wrong with the others (one warning).

    Raises:
        InputError: One is broken and `skip_broken` is False, or none is whole; names all that are broken.
    """
    try:
        return ShardSource(shards, fields=()), []
    except InputError:
        whole, problems = _sort_out(shards)
    if not skip_broken or not whole:
        raise InputError(problems)
    log.warning("%d of %d shards are broken and left out; the first: %s", len(problems), len(shards), problems[0])
    return ShardSource(whole, fields=()), problems


def _sort_out(shards: Sequence[Path]) -> tuple[list[Path], list[str]]:
    whole: list[Path] = []
    problems: list[str] = []
    for shard in shards:
        try:
            open_index(shard)
        except InputError as error:
            problems += error.problems
        else:
            whole.append(shard)
    return whole, problems
