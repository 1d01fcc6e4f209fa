"""Speed of a trained network on this machine, as ratios to its bare backbone in the same run."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smil_regressor.predict import Predictor, View

RUNS = 7


def measure_speed(
    checkpoint: Path, batch_sizes: Sequence[int], smal_file: Path | None, device: str
) -> list[dict[str, Any]]:
    """Median seconds of whole predictions (pictures to posed mesh) and of the backbone alone, taken in turn."""
    predictor = Predictor.load(checkpoint, smal_file, device)
    loaded = predictor.loaded
    rng = np.random.default_rng(0)
    side = loaded.config.model.resolution
    views = 1 if loaded.config.mode == "singleview" else len(loaded.facts.camera_order)
    K = np.array([[side, 0, side / 2], [0, side, side / 2], [0, 0, 1.0]])
    camera = np.eye(4)
    camera[2, 3] = loaded.facts.camera_distance
    rows = []
    for batch in batch_sizes:
        moments = [
            [View(rng.integers(0, 255, (side, side, 3), np.uint8), None, K, camera) for _ in range(views)]
            for _ in range(batch)
        ]
        images = torch.from_numpy(np.stack([view.image for moment in moments for view in moment])).to(loaded.device)

        def backbone(images: torch.Tensor = images) -> None:
            with torch.no_grad():
                loaded.network.backbone(images)

        def whole(moments: Sequence[Sequence[View]] = moments) -> None:
            predictor(moments)

        ours, bare = _in_turn(whole, backbone, loaded.device)
        rows.append(
            {
                "batch": batch,
                "views": views,
                "predict_s": ours,
                "backbone_s": bare,
                "ratio": ours / bare,
                "frames_per_s": batch / ours,
                "device": str(loaded.device),
            }
        )
    return rows


def format_speeds(rows: Sequence[dict[str, Any]]) -> str:
    """A table for the terminal."""
    lines = [f"{'batch':>6} {'views':>6} {'predict':>11} {'backbone':>11} {'ratio':>7} {'frames/s':>9}"]
    lines += [
        f"{r['batch']:>6} {r['views']:>6} {r['predict_s'] * 1e3:>8.1f} ms {r['backbone_s'] * 1e3:>8.1f} ms "
        f"{r['ratio']:>7.2f} {r['frames_per_s']:>9.1f}"
        for r in rows
    ]
    return "\n".join(lines)


def _in_turn(first: Callable[[], None], second: Callable[[], None], device: torch.device) -> tuple[float, float]:
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(RUNS + 1):
        for index, call in enumerate((first, second)):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            started = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if run:
                times[index].append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1])
