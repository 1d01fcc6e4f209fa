"""Lens distortion as OpenCV models it: polynomial (k1, k2, p1, p2, k3) and fisheye (k1, k2, k3, k4)."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.cameras.projection import unproject

LensModel = Literal["polynomial", "fisheye"]

NEWTON_STEPS = 20
"""Newton's method doubles its digits a step; 20 steps also cover the slow start at the rim of strong lenses."""


def distort_pixels(
    pixels: Float[Tensor, "*#batch n 2"],
    K: Float[Tensor, "*#batch 3 3"],
    distortion: Float[Tensor, "*#batch coefficients"],
    model: LensModel = "polynomial",
) -> Float[Tensor, "*pixels_batch n 2"]:
    """Where the lens puts the pixels of an ideal pinhole camera with the same K.

    `distortion` holds OpenCV's 5 coefficients (k1, k2, p1, p2, k3), or the 4 of cv2.fisheye (k1, k2, k3, k4).
    """
    coefficients = _coefficients(distortion, model)
    lens = _polynomial if model == "polynomial" else _fisheye
    return _to_pixels(lens(_to_rays(pixels, K), coefficients), K)


def undistort_pixels(
    pixels: Float[Tensor, "*#batch n 2"],
    K: Float[Tensor, "*#batch 3 3"],
    distortion: Float[Tensor, "*#batch coefficients"],
    model: LensModel = "polynomial",
) -> Float[Tensor, "*pixels_batch n 2"]:
    """Pixels that an ideal pinhole camera with the same K would have seen: the inverse of `distort_pixels`.

    NaN where the model sends no ray in front of the camera to the pixel. Differentiable in all arguments: Newton's last
    step carries the derivative of the inverse.
    """
    coefficients = _coefficients(distortion, model)
    undo = _undo_polynomial if model == "polynomial" else _undo_fisheye
    return _to_pixels(undo(_to_rays(pixels, K), coefficients), K)


def _coefficients(distortion: Tensor, model: str) -> tuple[Tensor, ...]:
    counts = {"polynomial": 5, "fisheye": 4}
    if model not in counts:
        raise ValueError(f"model: {model!r} is none of 'polynomial', 'fisheye'")
    if distortion.shape[-1] != counts[model]:
        raise ValueError(f"distortion: {model} takes {counts[model]} coefficients, got shape {tuple(distortion.shape)}")
    return distortion[..., None, :].unbind(-1)


def _to_rays(pixels: Tensor, K: Tensor) -> Tensor:
    """(x, y) of the points at depth 1."""
    return unproject(pixels, pixels.new_ones(pixels.shape[:-1]), K)[..., :2]


def _to_pixels(rays: Tensor, K: Tensor) -> Tensor:
    return rays @ K[..., :2, :2].mT + K[..., None, :2, 2]


def _polynomial(rays: Tensor, coefficients: tuple[Tensor, ...]) -> Tensor:
    k1, k2, p1, p2, k3 = coefficients
    x, y = rays.unbind(-1)
    squared = x * x + y * y
    radial = 1 + squared * (k1 + squared * (k2 + squared * k3))
    x_seen = x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x)
    y_seen = y * radial + 2 * p2 * x * y + p1 * (squared + 2 * y * y)
    return torch.stack((x_seen, y_seen), -1)


def _undo_polynomial(seen: Tensor, coefficients: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        rays = seen
        for _ in range(NEWTON_STEPS):
            inverse, _ = _inverse_slope(rays, coefficients)
            rays = rays + (inverse @ (seen - _polynomial(rays, coefficients))[..., None])[..., 0]
        inverse, upright = _inverse_slope(rays, coefficients)
        found = upright & _is_small(seen - _polynomial(rays, coefficients), seen)
        rays = torch.where(found[..., None], rays, seen)
    step = (inverse @ (seen - _polynomial(rays, coefficients))[..., None])[..., 0]
    return torch.where(found[..., None], rays + step, math.nan)


def _inverse_slope(rays: Tensor, coefficients: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Inverse of the polynomial's 2x2 derivative, and whether the image is the right way round (not folded over)."""
    k1, k2, p1, p2, k3 = coefficients
    x, y = rays.unbind(-1)
    squared = x * x + y * y
    radial = 1 + squared * (k1 + squared * (k2 + squared * k3))
    slope = 2 * (k1 + squared * (2 * k2 + squared * 3 * k3))
    xx = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
    xy = slope * x * y + 2 * p1 * x + 2 * p2 * y
    yy = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
    determinant = xx * yy - xy * xy
    upright = (determinant > 0) & (xx + yy > 0)
    adjugate = torch.stack((yy, -xy, -xy, xx), -1).reshape(*xx.shape, 2, 2)
    return adjugate / torch.where(determinant == 0, 1, determinant)[..., None, None], upright


def _fisheye(rays: Tensor, coefficients: tuple[Tensor, ...]) -> Tensor:
    squared = (rays * rays).sum(-1)
    off_axis = squared > 0
    radius = torch.where(off_axis, squared, 1).sqrt()
    seen, _ = _fisheye_radius(torch.atan(radius), coefficients)
    return rays * torch.where(off_axis, seen / radius, 1)[..., None]


def _fisheye_radius(angle: Tensor, coefficients: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Distance from the centre at depth 1 of a ray at `angle` from the axis, and its derivative."""
    k1, k2, k3, k4 = coefficients
    squared = angle * angle
    radius = angle * (1 + squared * (k1 + squared * (k2 + squared * (k3 + squared * k4))))
    slope = 1 + squared * (3 * k1 + squared * (5 * k2 + squared * (7 * k3 + squared * 9 * k4)))
    return radius, slope


def _undo_fisheye(seen: Tensor, coefficients: tuple[Tensor, ...]) -> Tensor:
    squared = (seen * seen).sum(-1)
    off_axis = squared > 0
    radius = torch.where(off_axis, squared, 1).sqrt()
    with torch.no_grad():
        angle = radius.clamp(max=math.pi / 2)
        for _ in range(NEWTON_STEPS):
            value, slope = _fisheye_radius(angle, coefficients)
            angle = angle + (radius - value) / slope
        value, slope = _fisheye_radius(angle, coefficients)
        in_front = (slope > 0) & (angle >= 0) & (angle < math.pi / 2)
        found = in_front & _is_small((radius - value)[..., None], seen)
        angle, slope = torch.where(found, angle, 1), torch.where(found, slope, 1)
    angle = angle + (radius - _fisheye_radius(angle, coefficients)[0]) / slope
    rays = seen * torch.where(off_axis, torch.tan(angle) / radius, 1)[..., None]
    return torch.where((found | ~off_axis)[..., None], rays, math.nan)


def _is_small(residual: Tensor, seen: Tensor) -> Tensor:
    scale = 1 + seen.abs().amax(-1)
    return residual.abs().amax(-1) < 64 * torch.finfo(seen.dtype).eps * scale
