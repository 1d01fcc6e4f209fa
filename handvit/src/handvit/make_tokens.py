"""Makes the token files that stage 2 trains on instead of pictures (`data.token_cache`)."""

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int32
from torch import Tensor

from handvit.data.frame_table import open_frame_table
from handvit.data.patches import fill_patches
from handvit.data.preprocess import PatchSettings, prepare_clip
from handvit.data.region import Picture
from handvit.data.sample import Batch, Sample, collate
from handvit.data.shards import ClipShards
from handvit.data.token_files import TokenOrigin, misfit, token_path, write_tokens
from handvit.loading import LoadedNetwork, load_network
from posecore.data.loader import evaluation_batches
from posecore.data.shards import find_shards
from posecore.devices import choose_device
from posecore.errors import InputError, RunError
from posecore.training.batches import to_device

logger = logging.getLogger(__name__)

Precision = Literal["no", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def make_tokens(
    checkpoint: Path,
    data: Sequence[str],
    *,
    mano_path: Path | None = None,
    part: tuple[int, int] = (0, 1),
    precision: Precision = "no",
    batch_size: int = 64,
    workers: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Write `X.tar.tokens.safetensors` beside every shard; those that fit already are kept.

    Args:
        checkpoint: Of stage 1 (or of stage 2: its frozen part).
        data: Shards, as the configuration names them.
        part: (i, n): only every n-th shard, from the i-th on.
        precision: Of the network; tokens are stored as float32.

    Raises:
        InputError: A shard or the checkpoint is missing or damaged, or a frame cannot be prepared.
    """
    shards = list(dict.fromkeys(shard for where in data for shard in find_shards(where)))[part[0] :: part[1]]
    loaded = load_network(checkpoint, mano_path, choose_device(device))
    origin = TokenOrigin.of(loaded.config, loaded.network.state_dict(), str(loaded.folder))
    started, made, kept, num_frames = time.perf_counter(), 0, 0, 0
    for number, shard in enumerate(shards, 1):
        if misfit(shard, origin) is None:
            kept += 1
            continue
        tokens, size_wh = _tokens_of(shard, loaded, precision, batch_size, workers)
        write_tokens(shard, origin, tokens, size_wh)
        made, num_frames = made + 1, num_frames + len(tokens)
        logger.info("%s: %d tokens (shard %d of %d)", token_path(shard), len(tokens), number, len(shards))
    return {
        "checkpoint": str(loaded.folder),
        "shards": len(shards),
        "made": made,
        "kept": kept,
        "frames": num_frames,
        "megabytes": round(sum(token_path(shard).stat().st_size for shard in shards) / 1e6, 3),
        "seconds": round(time.perf_counter() - started, 2),
    }


class FrameSource:
    """The frames of a shard in which a hand is seen, one by one, with the sizes of their pictures."""

    def __init__(self, shard: Path, settings: PatchSettings) -> None:
        table = open_frame_table([shard])
        self._settings = settings
        self._clips = ClipShards([shard], hands_mean=np.zeros(45))  # relative or not, poses are not looked at
        self.num_frames = int(table.num_frames.sum())
        self.rows = np.flatnonzero(table.box_edge_px > 0)
        self._sequence = np.repeat(np.arange(len(table.num_frames)), table.num_frames)
        self._first = table.first_frame

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, index: int, rng: np.random.Generator) -> tuple[Sample, tuple[int, int]]:
        row = int(self.rows[index])
        sequence = int(self._sequence[row])
        frame = row - int(self._first[sequence])
        record = self._clips.read(sequence, [frame], notes=False)
        where = f"{self._clips.where(sequence)}[{frame}]"
        picture = Picture.open(record.frames[0], where)
        # As training samples them: so that it is the same training, to rounding, with and without the cache.
        sample = prepare_clip(replace(record, key=where), None, self._settings, sample_patches=True)
        return sample, (picture.width, picture.height)


def _tokens_of(
    shard: Path, loaded: LoadedNetwork, precision: Precision, batch_size: int, workers: int
) -> tuple[Float32[np.ndarray, "f d"], Int32[np.ndarray, "f 2"]]:
    source = FrameSource(shard, loaded.patch_settings)
    parts, sizes = [], []
    with torch.no_grad():
        for batch, size_wh in evaluation_batches(source, batch_size, _collate, workers=workers):
            parts.append(_encode(to_device(batch, loaded.device), loaded, precision))
            sizes.append(size_wh)
    if not parts:
        raise InputError(f"{shard}: no hand is seen in any of its frames; leave it out")
    known = torch.cat(parts).cpu().numpy()
    if not np.isfinite(known).all():
        raise RunError(f"{shard}: the network gives tokens that are no finite numbers; try --precision no")
    tokens = np.full((source.num_frames, known.shape[1]), np.nan, np.float32)
    tokens[source.rows] = known
    all_sizes = np.zeros((source.num_frames, 2), np.int32)
    all_sizes[source.rows] = np.concatenate(sizes)
    return tokens, all_sizes


def _encode(batch: Batch, loaded: LoadedNetwork, precision: Precision) -> Tensor:
    batch = fill_patches(batch, loaded.config.model.img_size)
    dtype = DTYPES.get(precision)
    with nullcontext() if dtype is None else torch.autocast(loaded.device.type, dtype):
        tokens = loaded.network.encode(batch.network_input())
    return tokens[:, 0].float()


def _collate(loaded: list[tuple[Sample, tuple[int, int]]]) -> tuple[Batch, np.ndarray]:
    return collate([sample for sample, _ in loaded]), np.array([size for _, size in loaded], np.int32)
