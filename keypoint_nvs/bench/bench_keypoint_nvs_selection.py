"""Choosing 10 of 500 tokens from maps of 128 x 128: ours beside a loop over tokens, as public code has it.

    PYTHONPATH=core/bench python keypoint_nvs/bench/bench_keypoint_nvs_selection.py --json build/bench/FILE.json

Milliseconds for the maps of one picture. The loop finds a token's peak, builds its Gaussian, normalises it, takes the
softmax of the map and their divergence; farthest points are found pair by pair. Both choose the same tokens and agree
about the divergences (checked before timing). The other rows are parts of the same.
"""

import torch
from _measure import Target, compare, json_argument, report
from torch import Tensor

from keypoint_nvs.selection import farthest_points, gaussian_kl, select_tokens

TOKENS, SIDE, SIGMA, CANDIDATES, KEPT = 500, 128, 2.0, 25, 10


def loop_kl(maps: Tensor) -> Tensor:
    """Divergences, one token at a time."""
    row, col = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    divergences = []
    for each in maps:
        peak = int(each.argmax())
        peak_row, peak_col = peak // SIDE + 0.5, peak % SIDE + 0.5
        gaussian = torch.exp(-((row - peak_row) ** 2 + (col - peak_col) ** 2) / (2 * SIGMA**2)) + 1e-5
        gaussian = gaussian / gaussian.sum()
        log_softmax = torch.log_softmax(each.flatten(), 0).reshape(SIDE, SIDE)
        divergences.append((gaussian * (gaussian.log() - log_softmax)).sum())
    return torch.stack(divergences)


def loop_farthest(points: Tensor) -> list[int]:
    """Indices, pair by pair and candidate by candidate."""
    best, taken = -1.0, [0, 0]
    for i in range(len(points)):
        for j in range(i + 1, len(points)):
            apart = float(torch.norm(points[i] - points[j]))
            if apart > best:
                best, taken = apart, [i, j]
    while len(taken) < KEPT:
        far, farthest = -1.0, 0
        for i in range(len(points)):
            if i not in taken:
                nearest = min(float(torch.norm(points[i] - points[t])) for t in taken)
                if nearest > far:
                    far, farthest = nearest, i
        taken.append(farthest)
    return taken


def loop_select(maps: Tensor) -> Tensor:
    best = loop_kl(maps).argsort()[:CANDIDATES]
    peaks = maps[best].flatten(1).argmax(1)
    places = torch.stack((peaks // SIDE, peaks % SIDE), 1) + 0.5
    return best[loop_farthest(places)]


def main() -> None:
    path = json_argument(__doc__)
    generator = torch.Generator().manual_seed(0)
    coarse = 4 * torch.randn(1, TOKENS, 16, 16, generator=generator)
    maps = torch.nn.functional.interpolate(coarse, SIDE, mode="bicubic").softmax(1)[0]
    places = torch.rand(CANDIDATES, 2, generator=generator)
    torch.testing.assert_close(gaussian_kl(maps, SIGMA), loop_kl(maps), rtol=0, atol=1e-5)
    assert select_tokens(maps, KEPT, CANDIDATES, SIGMA).tolist() == loop_select(maps).tolist()
    assert farthest_points(places, KEPT).tolist() == loop_farthest(places)
    results = [
        compare(
            f"{TOKENS} tokens at {SIDE} px: ranking and choice",
            lambda: select_tokens(maps, KEPT, CANDIDATES, SIGMA),
            {"loop": lambda: loop_select(maps)},
            runs=5,
            target=Target(ratio=10),
        ),
        compare("  ranking", lambda: gaussian_kl(maps, SIGMA), {"loop": lambda: loop_kl(maps)}, runs=5),
        compare(
            "  farthest points", lambda: farthest_points(places, KEPT), {"loop": lambda: loop_farthest(places)}, runs=5
        ),
    ]
    report(results, path)


if __name__ == "__main__":
    main()
