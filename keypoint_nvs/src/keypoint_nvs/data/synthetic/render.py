"""Pictures of coloured ellipsoids, and which points in them are seen."""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from keypoint_nvs.data.synthetic.ellipsoids import Ellipsoids, cast

AMBIENT = 0.45
"""Brightness of what looks away from the light."""


def render(
    solids: Ellipsoids,
    colors: Float[np.ndarray, "p 3"],
    light_world: Float[np.ndarray, " 3"],
    cam_from_world: Float[np.ndarray, "v 4 4"],
    K: Float[np.ndarray, "v 3 3"],
    size_px: int,
    supersampling: int,
) -> UInt8[np.ndarray, "v 4 h w"]:
    """RGBA with straight alpha: alpha is the share of a pixel's rays that hit, the colour their mean.

    Args:
        colors: 0..1, before shading.
        light_world: Unit vector towards the light, which is far away and soft.
    """
    hits = cast(solids, cam_from_world, _rays(K, size_px, supersampling))
    brightness = _brightness(hits.normal_cam, cam_from_world[:, :3, :3] @ light_world)
    hit = hits.part >= 0
    light = np.where(hit[..., None], colors[hits.part] * brightness[..., None], 0.0)
    covered = _per_pixel(hit[..., None].astype(float), size_px, supersampling)
    rgb = _per_pixel(light, size_px, supersampling) / np.maximum(covered, 1e-9)
    rgba = np.concatenate([rgb, covered], -1)
    return np.ascontiguousarray((255 * rgba).round().astype(np.uint8).transpose(0, 3, 1, 2))


def seen(
    solids: Ellipsoids, cam_from_world: Float[np.ndarray, "v 4 4"], K: Float[np.ndarray, "v 3 3"], size_px: int
) -> Bool[np.ndarray, "v p"]:
    """Whether the ray to each solid's centre meets that solid first, within the picture."""
    centre = solids.centre @ cam_from_world[:, :3, :3].transpose(0, 2, 1) + cam_from_world[:, None, :3, 3]
    rays = centre[..., :2] / centre[..., 2:]
    first = cast(solids, cam_from_world, rays).part == np.arange(len(solids.centre))
    pixels = rays * K[:, None, [0, 1], [0, 1]] + K[:, None, :2, 2]
    return np.asarray(first & ((pixels >= -0.5) & (pixels <= size_px - 0.5)).all(-1))


def _rays(K: Float[np.ndarray, "v 3 3"], size_px: int, supersampling: int) -> Float[np.ndarray, "v n 2"]:
    """x and y of directions (x, y, 1) through a regular grid in each pixel, row by row of the finer picture."""
    fine = (np.arange(size_px * supersampling) + 0.5) / supersampling - 0.5
    pixels = np.stack(np.meshgrid(fine, fine, indexing="xy"), -1).reshape(-1, 2)
    return np.asarray((pixels - K[:, None, :2, 2]) / K[:, None, [0, 1], [0, 1]])


def _brightness(
    normal_cam: Float[np.ndarray, "v n 3"], light_cam: Float[np.ndarray, "v 3"]
) -> Float[np.ndarray, "v n"]:
    """Light wraps around the object: its far side is darkest, nothing is black."""
    towards = (normal_cam @ light_cam[..., None])[..., 0]
    return np.asarray(AMBIENT + (1 - AMBIENT) * (towards + 1) / 2)


def _per_pixel(fine: Float[np.ndarray, "v n c"], size_px: int, supersampling: int) -> Float[np.ndarray, "v h w c"]:
    """Mean over the rays of each pixel."""
    views, _, channels = fine.shape
    blocks = fine.reshape(views, size_px, supersampling, size_px, supersampling, channels)
    return np.asarray(blocks.mean((2, 4)))
