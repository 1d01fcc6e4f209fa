"""From shards to patches on the CPU: ours beside what one writes with webdataset, OpenCV and a plain DataLoader.

    PYTHONPATH=core/bench python handvit/bench/bench_handvit_loader.py --json build/bench/bench_handvit_loader.json

Milliseconds a frame, two workers on either side, in mid-epoch: from the first batch to the last. Both give patches of
224 px, 0..1, and labels; ours draws clips at random, checks pictures, and moves joints and cameras with the patch. Its
labels were read and checked when the shards were opened first, which is not timed: that is once for all runs.
Pictures are JPEG files of 640 x 480 px with a hand of 120 to 200 px.
"""

import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import webdataset
from _measure import Result, Target, Timing, compare, json_argument, report
from torch import Tensor
from torch.utils.data import DataLoader

from handvit.data.patches import fill_patches
from handvit.data.preparation import Preparation
from handvit.data.preprocess import PatchSettings
from handvit.data.records import ClipRecord
from handvit.data.sample import collate
from handvit.data.shards import write_clip
from handvit.data.source import ClipRules, ClipSource
from posecore.data.images import encode_jpeg
from posecore.data.loader import make_loader
from posecore.data.sampler import GlobalBatchSampler
from posecore.data.shards import ShardWriter

WIDTH, HEIGHT, QUALITY = 640, 480, 90
PATCH, EXPANSION, WORKERS, PREFETCH = 224, 2.0, 2, 2
PICTURES = 32
"""Different ones; clips share them."""


@dataclass(frozen=True)
class Clips:
    """What is loaded: sequences of `frames`, in clips of `length`."""

    folder: Path
    sequences: int
    frames: int
    length: int
    batch: int


def write_clips(clips: Clips, per_shard: int = 100) -> None:
    rng = np.random.default_rng(0)
    pictures = [encode_jpeg(textured(rng), QUALITY) for _ in range(PICTURES)]
    with ShardWriter(clips.folder, "train-%06d.tar", max_samples=per_shard) as writer:
        for number in range(clips.sequences):
            write_clip(writer, made_up(f"{number:06d}", pictures, clips.frames, rng))


def textured(rng: np.random.Generator) -> np.ndarray:
    """As detailed as a photograph: the files are of some 60 kB."""
    layers = [
        rng.normal(0, 60 / level, (HEIGHT // scale, WIDTH // scale, 3)) for level, scale in enumerate((40, 12, 3), 1)
    ]
    return np.clip(128 + sum(cv2.resize(layer, (WIDTH, HEIGHT)) for layer in layers), 0, 255).astype(np.uint8)


def made_up(key: str, pictures: list[bytes], frames: int, rng: np.random.Generator) -> ClipRecord:
    """21 points around a slowly moving centre, with all labels."""
    focal, princpt = np.full((frames, 2), 600.0), np.tile([(WIDTH - 1) / 2, (HEIGHT - 1) / 2], (frames, 1))
    size, depth = rng.uniform(120, 200), rng.uniform(400, 900)
    path = rng.uniform([120, 120], [WIDTH - 120, HEIGHT - 120]) + np.cumsum(rng.normal(0, 2, (frames, 2)), 0)
    pixels = path[:, None] + size * rng.uniform(-0.5, 0.5, (21, 2))
    z = depth + rng.uniform(-40, 40, (frames, 21, 1))
    joints = np.concatenate([(pixels - princpt[:, None]) / focal[:, None] * z, z], -1)
    arrays = {
        "hand_bbox": np.concatenate([path - size / 2, path + size / 2], 1),
        "joint_img": pixels,
        "joint_cam_mm": joints,
        "joint_2d_valid": np.ones((frames, 21)),
        "joint_3d_valid": np.ones((frames, 21)),
        "has_mano": np.ones(frames),
        "has_intr": np.ones(frames),
        "mano_pose": rng.normal(0, 0.3, (frames, 48)),
        "mano_shape": rng.normal(0, 1, (frames, 10)),
        "timestamp_ms": 33.0 * np.arange(frames),
        "focal": focal,
        "princpt": princpt,
    }
    first = int(rng.integers(PICTURES))
    return ClipRecord(
        key=key,
        frames=[pictures[(first + i) % PICTURES] for i in range(frames)],
        frame_format="jpg",
        handedness="right" if rng.random() < 0.5 else "left",
        data_source="made up",
        source_split="train",
        **{name: values.astype(np.float32) for name, values in arrays.items()},
    )


def our_batches(clips: Clips) -> Iterator[Tensor]:
    prepare = Preparation(PatchSettings(PATCH, EXPANSION), sample_patches=True)  # as `open_sources` does for training
    shards = sorted(clips.folder.glob("*.tar"))
    source = ClipSource(shards, prepare, ClipRules(clips.length, per_sequence=1))
    sampler = GlobalBatchSampler(len(source), clips.batch, seed=0)
    loader = make_loader(source, sampler, collate, workers=WORKERS, prefetch=PREFETCH, seed=0)
    try:
        for batch in loader.epoch(0):
            patches = fill_patches(batch, PATCH).patches
            assert patches is not None
            yield patches
    finally:
        loader.close()


class ByHand:
    """A sample of the webdataset, decoded as one does it first."""

    def __init__(self, length: int) -> None:
        self.length, self.rng = length, np.random.default_rng(0)

    def __call__(self, sample: dict[str, Any]) -> dict[str, Tensor]:
        labels = {name[:-4]: np.load(io.BytesIO(data)) for name, data in sample.items() if name.endswith(".npy")}
        start = int(self.rng.integers(len(labels["timestamp"]) - self.length + 1))
        rows = range(start, start + self.length)
        is_left = json.loads(sample["handedness.json"]) == "left"
        patches = np.stack([self.patch(sample[f"frame_{i:04d}.jpg"], labels["hand_bbox"][i], is_left) for i in rows])
        cut = {name: torch.from_numpy(values[start : start + self.length]) for name, values in labels.items()}
        return cut | {"patches": torch.from_numpy(patches).permute(0, 3, 1, 2)}

    @staticmethod
    def patch(data: bytes, box: np.ndarray, is_left: bool) -> np.ndarray:
        picture = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        side = EXPANSION * max(box[2] - box[0], box[3] - box[1])
        scale = PATCH / side
        x1, y1 = (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2
        matrix = np.array([[scale, 0, -x1 * scale - 0.5], [0, scale, -y1 * scale - 0.5]])
        patch = cv2.warpAffine(picture, matrix, (PATCH, PATCH), flags=cv2.INTER_LINEAR)
        return np.ascontiguousarray(patch[:, ::-1]) if is_left else patch


def plain_batches(clips: Clips) -> Iterator[Tensor]:
    shards = sorted(str(path) for path in clips.folder.glob("*.tar"))
    samples = webdataset.WebDataset(shards, shardshuffle=len(shards)).shuffle(100).map(ByHand(clips.length))
    loader = DataLoader(
        samples, clips.batch, num_workers=WORKERS, prefetch_factor=PREFETCH, worker_init_fn=one_thread, drop_last=True
    )
    for batch in loader:
        yield batch["patches"].float().div_(255)


def one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def milliseconds_a_frame(batches: Callable[[Clips], Iterator[Tensor]], clips: Clips) -> float:
    running = batches(clips)
    next(running)  # workers have started and their queues fill
    start, count = time.perf_counter(), 0
    for patches in running:
        assert patches.shape[1:] == (clips.length, 3, PATCH, PATCH)
        count += len(patches) * clips.length
    return 1e3 * (time.perf_counter() - start) / count


def race(name: str, clips: Clips, runs: int) -> Result:
    """In turn, a new loader each time: none works ahead while the other is timed."""
    sides = {"": our_batches, "webdataset, OpenCV, DataLoader": plain_batches}
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(runs):
        for side, batches in sides.items():
            times[side].append(milliseconds_a_frame(batches, clips))
    timings = {side: Timing(statistics.median(ms), min(ms), max(ms)) for side, ms in times.items()}
    return Result(name, runs, timings.pop(""), timings, Target(ratio=1.5))


def decoding(clips: Clips) -> Result:
    """The part that no side can do without: one picture on one core."""
    with webdataset.WebDataset(sorted(str(p) for p in clips.folder.glob("*.tar")), shardshuffle=False) as samples:
        data = np.frombuffer(next(iter(samples))["frame_0000.jpg"], np.uint8)
    return compare(
        f"decoding a JPEG of {len(data) / 1e3:.0f} kB, one core", lambda: cv2.imdecode(data, cv2.IMREAD_COLOR), {}
    )


def loaders(folder: Path, *, singles: int = 640, sequences: int = 120, runs: int = 7) -> list[Result]:
    single = Clips(folder / "single", singles, 1, 1, 32 if singles >= 96 else 4)
    clips = Clips(folder / "clips", sequences, 10, 7, 6 if sequences >= 24 else 2)
    for each in (single, clips):
        write_clips(each)
    return [
        race("single frames", single, runs),
        race("clips of 7 of 10 frames", clips, runs),
        decoding(single),
    ]


def main() -> None:
    json_path = json_argument(__doc__)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        report(loaders(Path(folder)), json_path)


if __name__ == "__main__":
    main()
