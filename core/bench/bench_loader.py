"""Loading batches of JPEG pictures and poses: our store and loader beside a plain h5py loop over variable-length rows.

Both decode with OpenCV to the same pixels. `2 workers` is what training uses.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import torch
from _measure import Target, compare, json_argument, report

from posecore.data.hdf5 import Hdf5Reader, Hdf5Writer
from posecore.data.images import decode_image, encode_jpeg
from posecore.data.loader import Loader, make_loader
from posecore.data.sampler import GlobalBatchSampler
from posecore.data.shards import ShardSource, ShardWriter

SAMPLES, BATCH, SIZE, JOINTS = 256, 16, 256, 55
WORKERS = 2

Example = tuple[np.ndarray, np.ndarray]


class Table:
    """Pictures and poses of a store in our layout."""

    def __init__(self, path: Path) -> None:
        self._reader = Hdf5Reader(path)

    def __len__(self) -> int:
        return SAMPLES

    def load(self, index: int, rng: np.random.Generator) -> Example:
        return decode_image(self._reader.blob("image", index), "picture"), self._reader.row("pose", index)


def main(folder: Path) -> None:
    rows = [{"image": encode_jpeg(picture), "pose": pose} for picture, pose in examples()]
    for layout in ("packed", "vlen"):
        with Hdf5Writer(folder / f"{layout}.h5", layout) as writer:
            for row in rows:
                writer.append(row)
            writer.finish({})
    with ShardWriter(folder / "shards") as shards:
        for index, row in enumerate(rows):
            shards.write(f"{index:06d}", {"jpg": row["image"], "npy": row["pose"]})
    tar = ShardSource(shards.paths, transform=lambda sample, rng: (sample["jpg"], sample["npy"]))
    table = Table(folder / "packed.h5")
    loaders = [loader(table, 0), loader(table, WORKERS), loader(tar, 0)]
    plain = {"plain h5py": lambda: plain_epoch(folder / "vlen.h5")}
    results = [
        compare("epoch, HDF5, this process", epochs(loaders[0]), plain, target=Target(ratio=1)),
        compare(f"epoch, HDF5, {WORKERS} workers", epochs(loaders[1]), plain, target=Target(ratio=1)),
        compare("epoch, tar shards, this process", epochs(loaders[2]), plain, target=Target(ratio=1)),
    ]
    report(results, json_path)
    for each in loaders:
        each.close()


def examples() -> list[Example]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (SAMPLES, 12, 12, 3), np.uint8)
    pictures = [cv2.resize(c, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for c in coarse]
    return [(picture, rng.standard_normal((JOINTS, 3)).astype(np.float32)) for picture in pictures]


def loader(source: Table | ShardSource, workers: int) -> Loader:
    sampler = GlobalBatchSampler(SAMPLES, BATCH, seed=0)
    return make_loader(source, sampler, collate, workers=workers, seed=0)


def collate(samples: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    pictures, poses = zip(*samples, strict=True)
    return torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(poses))


def epochs(loader: Loader) -> Callable[[], int]:
    """One epoch a call, in a row, as training reads them."""
    position = iter(range(1_000_000))
    return lambda: sum(len(batch[0]) for batch in loader.epoch(next(position)))


def plain_epoch(path: Path) -> int:
    """What one writes first: shuffle, open, index, decode, stack."""
    seen = 0
    order = np.random.default_rng(0).permutation(SAMPLES)
    with h5py.File(path) as file:
        for start in range(0, SAMPLES, BATCH):
            samples = []
            for index in order[start : start + BATCH]:
                bgr = cv2.imdecode(file["image"][index], cv2.IMREAD_COLOR)
                samples.append((cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), file["pose"][index]))
            seen += len(collate(samples)[0])
    return seen


if __name__ == "__main__":
    json_path = json_argument(__doc__)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch))
