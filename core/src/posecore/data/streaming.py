"""Shards that lie elsewhere, streamed by the webdataset library: no index, no random access.

The order depends on the number of processes and workers, and a stream resumes only at an epoch: copy shards to a
disk and read them with `ShardSource` where that matters.
"""

import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import webdataset
from torch.utils.data import IterableDataset, get_worker_info

from posecore.data.shard_fields import Decoder, find_decoder
from posecore.errors import InputError

SCHEMES = ("http://", "https://", "gs://", "hf://", "file:")
UNSAFE = re.compile(r"[\s'\"`$;|&<>\\]")


class ShardStream(IterableDataset[Any]):
    """Decoded samples of remote shards, for torch's DataLoader. Each rank and worker reads shards of its own.

    Shards are shuffled by (seed, epoch), then samples within a buffer. Call `set_epoch` before each epoch.

    Args:
        urls: http(s), gs or hf addresses, `file:` addresses, or local paths. webdataset's `pipe:`, which runs a
            command, is refused.
        shuffle_buffer: Samples among which the next one is drawn; 0 keeps the order of the shards.

    Raises:
        InputError: An address that is not read.
        ValueError: Fewer shards than processes.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        shuffle_buffer: int = 1000,
        decoders: Mapping[str, Decoder] | None = None,
    ) -> None:
        for url in urls:
            has_scheme = re.match(r"\w+:", url) is not None
            if (has_scheme and not url.startswith(SCHEMES)) or UNSAFE.search(url):
                raise InputError(f"{url}: not an address that is read ({', '.join(SCHEMES)} and paths are)")
        if len(urls) < world_size or not 0 <= rank < world_size:
            raise ValueError(f"{len(urls)} shards cannot be shared among {world_size=} processes ({rank=})")
        self.urls, self.seed, self.rank, self.world_size = list(urls), seed, rank, world_size
        self._shuffle_buffer, self._decoders, self._epoch = shuffle_buffer, dict(decoders or {}), 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Samples as `ShardSource.read` gives them.

        Raises:
            InputError: A shard cannot be reached or is damaged.
        """
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        part, parts = self.rank * workers + worker, self.world_size * workers
        rng = np.random.default_rng((self.seed, self._epoch))
        order = rng.permutation(len(self.urls)) if self._shuffle_buffer else np.arange(len(self.urls))
        urls = [self.urls[i] for i in order[part::parts]]
        yield from _shuffled(
            self._samples(urls), self._shuffle_buffer, np.random.default_rng((self.seed, self._epoch, part))
        )

    def _samples(self, urls: list[str]) -> Iterator[dict[str, Any]]:
        for url in urls:
            try:
                for raw in webdataset.DataPipeline(webdataset.SimpleShardList([url]), webdataset.tarfile_to_samples()):
                    yield self._decoded(raw, url)
            except (OSError, EOFError, tarfile.TarError, ValueError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(f"{url}: cannot be read as a shard: {error}") from None

    def _decoded(self, raw: Mapping[str, Any], url: str) -> dict[str, Any]:
        key = raw["__key__"]
        fields = {name: data for name, data in raw.items() if not name.startswith("__")}
        decoded = {f: find_decoder(f, self._decoders)(data, f"{url}: {key}.{f}") for f, data in fields.items()}
        return {"__key__": key, **decoded}


def _shuffled(samples: Iterator[dict[str, Any]], size: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    buffer: list[dict[str, Any]] = []
    for sample in samples:
        if len(buffer) < size:
            buffer.append(sample)
            continue
        if not size:
            yield sample
            continue
        chosen = int(rng.integers(size))
        buffer[chosen], sample = sample, buffer[chosen]
        yield sample
    yield from (buffer[i] for i in rng.permutation(len(buffer)))


__all__ = ["ShardStream"]
