"""What the converters share: which shards a process writes, and going on where it was stopped.

Shard k holds samples k n .. k n + n - 1 of the source whoever writes it, so the parts of a job array can run at once and
in any order, and a shard that is there already need not be written again.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keypoint_nvs.data.records import MultiviewSample
from keypoint_nvs.data.store import MultiviewStore
from keypoint_nvs.data.store_writing import StoreWriter
from posecore.errors import InputError

logger = logging.getLogger(__name__)

PATTERN = "views-%05d.hdf5"
SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did."""

    shards: tuple[Path, ...]
    """Of this part, in order."""
    num_kept: int
    """How many of them were there already."""
    num_samples: int
    """In these shards."""
    left_out: tuple[str, ...]
    """Samples that were not to be converted."""


def convert_samples(
    ids: Sequence[str],
    sample_of: Callable[[int], MultiviewSample | None],
    output: Path,
    rig: str,
    *,
    samples_per_shard: int,
    shard: tuple[int, int],
) -> ConversionReport:
    """Write this part's shards.

    Args:
        ids: OBJECT/INDEX of all samples of the source.
        sample_of: Makes the sample of a number; None: it is left out.
        output: Folder of the shards.
        rig: Of the store.
        samples_per_shard: Equal in all parts.
        shard: (i, n): the i-th of n nearly equal parts, i from 0.

    Raises:
        InputError: No sample, two of one id, a damaged one, or a shard of other samples is there; names it.
    """
    if not ids:
        raise InputError(f"{output}: there is no sample to convert; check the input")
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise InputError(f"{output}: two samples are {twice}; samples of a store are told apart by their ids")
    count = -(-len(ids) // samples_per_shard)
    part, parts = shard
    paths, kept, num_samples, said = [], 0, 0, time.monotonic()
    left_out: list[str] = []
    for number in range(part * count // parts, (part + 1) * count // parts):
        wanted = range(number * samples_per_shard, min((number + 1) * samples_per_shard, len(ids)))
        names = [ids[index] for index in wanted]
        path = output / (PATTERN % number)
        if path.is_file():
            kept += 1
        else:
            _write(path, rig, wanted, sample_of)
        there = _names_in(path, names)
        left_out += [name for name in names if name not in there]
        if there:
            num_samples += len(there)
            paths.append(path)
        if time.monotonic() - said > SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            logger.info("shard %d of %d written to %s", number + 1, count, output)
    return ConversionReport(tuple(paths), kept, num_samples, tuple(left_out))


def _write(path: Path, rig: str, wanted: range, sample_of: Callable[[int], MultiviewSample | None]) -> None:
    """Nothing is written where all samples are left out."""
    with StoreWriter(path, rig) as writer:
        for index in wanted:
            sample = sample_of(index)
            if sample is not None:
                writer.append(sample)
        if len(writer):
            writer.finish()


def _names_in(path: Path, names: Sequence[str]) -> set[str]:
    if not path.is_file():
        return set()
    found = MultiviewStore(path).sample_ids
    strangers = sorted(set(found) - set(names))
    if strangers:
        raise InputError(
            f"{path}: is there already with other samples ({strangers[0]}; expected {names[0]} to {names[-1]}); write to an "
            "empty folder, or use the same samples_per_shard"
        )
    return set(found)
