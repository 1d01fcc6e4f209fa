"""What `handvit data inspect` shows: numbers of the shards, and pictures of some samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handvit.data.inspect import describe
from handvit.data.shards import ClipShards
from handvit.draw import draw_record
from handvit.hand import HandModel, read_hand
from posecore.data.shards import find_shards
from posecore.draw import write_picture


def inspect_shards(
    where: Sequence[str], pictures: Path | None = None, count: int = 8, mano_path: Path | None = None
) -> dict[str, Any]:
    """Read and check every sample's labels.

    Args:
        where: Folders, files, globs or braces.
        pictures: Folder for pictures of `count` samples, evenly spread.
        mano_path: The hand whose mesh is drawn; None: the stand-in, for samples that were made with it.

    Raises:
        InputError: A shard is missing or damaged, or a sample breaks a rule of the format.
    """
    shards = [shard for place in where for shard in find_shards(place)]
    found = describe(shards)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        found["pictures"] = [str(path) for path in _draw(shards, pictures, count, mano_path)]
    return found


def _draw(shards: Sequence[Path], folder: Path, count: int, mano_path: Path | None) -> list[Path]:
    hand = read_hand(mano_path)
    clips = ClipShards(shards, hands_mean=hand.hands_mean.numpy())
    written = []
    for index in np.unique(np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(int)).tolist():
        record = clips.read(index)
        drawn: HandModel | None = hand if mano_path is not None or record.meta.get("standin") else None
        path = folder / f"{record.key}.png"
        write_picture(path, draw_record(record, drawn))
        written.append(path)
    return written
