"""Which of the many tokens mark keypoints: the most compact ones, far apart (StableKeypoints).

All functions take every object at once; nothing loops over tokens or objects.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from keypoint_nvs.peaks import argmax_peaks, top_peaks

FLOOR = 1e-5
"""Added to the Gaussians before they are normalised, so that their logarithm is finite."""
REACH = 6.0
"""Sigmas at which a Gaussian is cut off: exp(-18) is a thousandth of the floor, and no divergence changes by 1e-6."""
BLOCK_PIXELS = {False: 2**19, True: 2**26}
"""Pixels of maps handled at a time, on CPUs and on GPUs."""

Ranking = Literal["kl", "entropy", "first"]


@torch.no_grad()
def gaussian_kl(maps: Float[Tensor, "*batch h w"], sigma: float, subjects: int = 1) -> Float[Tensor, "*batch"]:
    """Divergence KL(G' || S) of each map from a Gaussian at its own peak; low: the map is a compact blob. No gradient.

    S is the softmax over the map's pixels, G' = (G + 1e-5) / sum with G the mean of Gaussians (sigma in pixels of the
    map, height 1) at the `subjects` highest peaks. With U = G + floor and Z its sum,

        KL = sum U log U / Z - log Z - sum U map / Z + logsumexp(map)

    in which G matters within a few sigmas of a peak only. So the floor's part is taken over the whole map, the rest in
    windows around the peaks: no stack of Gaussians is built. What needs whole maps is done in blocks that a processor's
    cache holds.
    """
    height, width = maps.shape[-2:]
    flat = maps.reshape(-1, height, width)
    per_block = max(1, BLOCK_PIXELS[maps.is_cuda] // (height * width))
    scratch = flat.new_empty(min(per_block, len(flat)), height * width)
    blocks = [_whole_maps(block, subjects, scratch) for block in torch.split(flat, per_block)]
    peaks, sums, normaliser = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    pixels, gaussian = _windows(peaks, (height, width), sigma)
    values = flat.flatten(1).gather(1, pixels.flatten(1)).reshape(gaussian.shape)
    raised, log_floor = gaussian + FLOOR, math.log(FLOOR)
    axes = (-3, -2, -1)
    total = gaussian.sum(axes) + FLOOR * height * width
    # outside the windows U is the floor; inside, the sums are of what differs from it
    entropy = (raised * raised.log() - FLOOR * log_floor).sum(axes) + FLOOR * log_floor * height * width
    expected = (gaussian * values).sum(axes) + FLOOR * sums
    return ((entropy - expected) / total - total.log() + normaliser).reshape(maps.shape[:-2])


def map_entropy(maps: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch"]:
    """Entropy of the softmax over each map's pixels, in nats; low: the map is concentrated."""
    flat = maps.flatten(-2)
    normaliser = flat.logsumexp(-1)
    return normaliser - ((flat - normaliser[..., None]).exp() * flat).sum(-1)


@torch.no_grad()
def farthest_points(points: Float[Tensor, "*batch m d"], k: int) -> Int64[Tensor, "*batch {k}"]:
    """Indices of k points far apart: the farthest pair, then always the point farthest from those taken.

    Of equal distances the earliest pair (in lexicographic order) or point wins.
    """
    num_points = points.shape[-2]
    if not 1 <= k <= num_points:
        raise ValueError(f"farthest_points: cannot take {k} of {num_points} points")
    apart = ((points[..., :, None, :] - points[..., None, :, :]) ** 2).sum(-1)
    pair = apart.flatten(-2).argmax(-1)
    taken = torch.stack((pair // num_points, pair % num_points), -1)[..., :k]
    while taken.shape[-1] < k:
        to_taken = apart.gather(-2, taken[..., :, None].expand(*taken.shape, num_points))
        nearest = to_taken.amin(-2).scatter(-1, taken, -1.0)
        taken = torch.cat((taken, nearest.argmax(-1, keepdim=True)), -1)
    return taken


def select_tokens(
    maps: Float[Tensor, "*batch n h w"],
    k: int,
    candidates: int,
    sigma: float,
    ranking: Ranking = "kl",
    subjects: int = 1,
    distance_maps: Float[Tensor, "*batch n h2 w2"] | None = None,
) -> Int64[Tensor, "*batch {k}"]:
    """k of n tokens for each picture by itself; see `select_tokens_of_views`."""
    distances = None if distance_maps is None else distance_maps[..., None, :, :, :]
    return select_tokens_of_views(maps[..., None, :, :, :], k, candidates, sigma, ranking, subjects, distances)


@torch.no_grad()
def select_tokens_of_views(
    maps: Float[Tensor, "*batch v n h w"],
    k: int,
    candidates: int,
    sigma: float,
    ranking: Ranking = "kl",
    subjects: int = 1,
    distance_maps: Float[Tensor, "*batch v n h2 w2"] | None = None,
) -> Int64[Tensor, "*batch {k}"]:
    """k of n tokens for each object, over its v views: one choice for all of them.

    The `candidates` tokens best in the mean over the views (lowest divergence from a Gaussian, lowest entropy, or simply
    the first) are thinned to k whose peaks, of all views side by side, are far apart. Distances are measured on
    `distance_maps`, of the warped pictures as upstream does, or on `maps` themselves where it is None.
    """
    num_tokens = maps.shape[-3]
    if not 1 <= k <= candidates <= num_tokens:
        raise ValueError(f"select_tokens: {k} of {candidates} candidates of {num_tokens} tokens is impossible")
    if ranking == "first":
        best = torch.arange(candidates, device=maps.device).expand(*maps.shape[:-4], candidates)
    else:
        cost = gaussian_kl(maps, sigma, subjects) if ranking == "kl" else map_entropy(maps)
        best = cost.mean(-2).sort(dim=-1, stable=True).indices[..., :candidates]
    where = maps if distance_maps is None else distance_maps
    objects = where.reshape(-1, *where.shape[-4:])
    object_at = torch.arange(objects.shape[0], device=maps.device)[:, None, None]
    view_at = torch.arange(objects.shape[1], device=maps.device)[:, None]
    peaks = argmax_peaks(objects[object_at, view_at, best.reshape(-1, 1, candidates)])  # (b v candidates 2)
    peaks = peaks.reshape(*where.shape[:-3], candidates, 2)
    kept = farthest_points(peaks.transpose(-3, -2).flatten(-2), k)
    return best.gather(-1, kept)


def vote(selections: Int64[Tensor, "*pictures"], num_tokens: int, k: int) -> Int64[Tensor, " {k}"]:
    """The k tokens chosen most often, most first; of equal counts the lowest index first."""
    if k > num_tokens:
        raise ValueError(f"vote: cannot keep {k} of {num_tokens} tokens")
    counts = torch.bincount(selections.flatten(), minlength=num_tokens)
    return counts.sort(descending=True, stable=True).indices[:k]


def _whole_maps(maps: Tensor, subjects: int, scratch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Places of the peaks (m p 2), sums and logsumexp of the pixels (m) of maps (m h w)."""
    peaks = top_peaks(maps, subjects) if subjects > 1 else argmax_peaks(maps)[:, None]
    row, col = _pixels(peaks[:, 0], maps.shape[-2:]).unbind(-1)
    flat = maps.flatten(1)
    top = flat.gather(1, (row * maps.shape[-1] + col)[:, None])
    shifted = torch.sub(flat, top, out=scratch[: len(flat)])
    return peaks, flat.sum(1), shifted.exp_().sum(1).log() + top[:, 0]


def _pixels(places: Tensor, size: tuple[int, ...]) -> Tensor:
    """Row and column of places that are pixels' centres."""
    sides = torch.tensor(size, device=places.device)
    return (places * sides - 0.5).round().to(torch.int64)


def _windows(peaks: Tensor, size: tuple[int, int], sigma: float) -> tuple[Tensor, Tensor]:
    """Windows (.. p w w) about p peaks of each map: flat indices of their pixels, and G there.

    Each pixel has its G in one window only: it is 0 outside the map (where the index is the nearest pixel's) and where
    an earlier peak's window has the pixel.
    """
    reach = math.ceil(REACH * sigma)
    steps = torch.arange(-reach, reach + 1, device=peaks.device)
    sides = torch.tensor(size, device=peaks.device)
    centre = _pixels(peaks, size)
    at = centre[..., None] + steps  # (p 2 w)
    pixel = torch.minimum(at.clamp(min=0), sides[:, None] - 1)
    away = at[..., :, None, :, :] - centre[..., None, :, :, None]  # (p q 2 w): from every peak q
    valid = ((at >= 0) & (at < sides[:, None]))[..., :, None, :, :]
    profile = torch.exp(-(away.to(peaks.dtype) ** 2) / (2 * sigma**2)) * valid
    num_peaks = peaks.shape[-2]
    gaussian = (profile[..., 0, :, None] * profile[..., 1, None, :]).sum(-3) / num_peaks
    if num_peaks > 1:
        near = away.abs() <= reach
        shared = near[..., 0, :, None] & near[..., 1, None, :]  # (p q w w)
        earlier = torch.ones(num_peaks, num_peaks, dtype=torch.bool, device=peaks.device).tril(-1)
        gaussian = gaussian * ~(shared & earlier[..., None, None]).any(-3)
    return pixel[..., 0, :, None] * size[1] + pixel[..., 1, None, :], gaussian
