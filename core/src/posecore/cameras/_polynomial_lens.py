"""OpenCV's standard lens: radial polynomial or fraction of two, tangential terms, thin prism, tilted sensor.

Coefficients in OpenCV's order: k1, k2, p1, p2[, k3[, k4, k5, k6[, s1, s2, s3, s4[, tau_x, tau_y]]]]; angles in radians.
All functions work on rays, (x, y) of the points at depth 1.
"""

import math

import torch
from torch import Tensor

from posecore.cameras._newton import NEWTON_STEPS, Coefficients, is_small

COUNTS = (4, 5, 8, 12, 14)


def distort(rays: Tensor, coefficients: Coefficients) -> Tensor:
    seen = _bend(rays, _filled(coefficients))
    return seen if len(coefficients) < 14 else _through(_tilt(*coefficients[12:]), seen)


def undistort(seen: Tensor, coefficients: Coefficients) -> Tensor:
    """Newton's method from the distorted ray, which leads to the inner of two solutions; NaN where there is none."""
    if len(coefficients) == 14:
        seen = _through(torch.linalg.inv(_tilt(*coefficients[12:])), seen)
    filled = _filled(coefficients)
    with torch.no_grad():
        rays = seen
        for _ in range(NEWTON_STEPS):
            inverse, _ = _inverse_slope(rays, filled)
            rays = rays + (inverse @ (seen - _bend(rays, filled))[..., None])[..., 0]
        inverse, upright = _inverse_slope(rays, filled)
        found = upright & is_small(seen - _bend(rays, filled), seen)
        rays = torch.where(found[..., None], rays, seen)
        inverse = torch.where(found[..., None, None], inverse, 0)
    step = (inverse @ (seen - _bend(rays, filled))[..., None])[..., 0]
    return torch.where(found[..., None], rays + step, math.nan)


def _filled(coefficients: Coefficients) -> Coefficients:
    """The twelve that bend rays; those not given are 0."""
    return (*coefficients[:12], *[torch.zeros_like(coefficients[0])] * (12 - len(coefficients)))


def _bend(rays: Tensor, coefficients: Coefficients) -> Tensor:
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = coefficients
    x, y = rays.unbind(-1)
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    x_seen = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2)
    y_seen = y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y) + r2 * (s3 + r2 * s4)
    return torch.stack((x_seen, y_seen), -1)


def _inverse_slope(rays: Tensor, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
    """Inverse of the 2x2 derivative of `_bend`, and whether the image is the right way round (not folded over)."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = coefficients
    x, y = rays.unbind(-1)
    r2 = x * x + y * y
    below = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / below
    slope = k1 + r2 * (2 * k2 + r2 * 3 * k3) - radial * (k4 + r2 * (2 * k5 + r2 * 3 * k6))
    slope = 2 * slope / below  # derivative by x is slope * x
    prism_x, prism_y = 2 * (s1 + 2 * r2 * s2), 2 * (s3 + 2 * r2 * s4)
    mixed = slope * x * y + 2 * p1 * x + 2 * p2 * y
    xx = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x + prism_x * x
    xy, yx = mixed + prism_x * y, mixed + prism_y * x
    yy = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x + prism_y * y
    determinant = xx * yy - xy * yx
    upright = (determinant > 0) & (xx + yy > 0)
    adjugate = torch.stack((yy, -xy, -yx, xx), -1).reshape(*xx.shape, 2, 2)
    return adjugate / torch.where(determinant == 0, 1, determinant)[..., None, None], upright


def _tilt(tau_x: Tensor, tau_y: Tensor) -> Tensor:
    """Homography (..., 3, 3) to a sensor turned by tau_x about x, then tau_y about y (Scheimpflug; OpenCV's matTilt)."""
    cx, sx, cy, sy = tau_x.cos(), tau_x.sin(), tau_y.cos(), tau_y.sin()
    zero, one = torch.zeros_like(cx), torch.ones_like(cx)
    turned = _matrix((cy, sy * sx, -sy * cx), (zero, cx, sx), (sy, -cy * sx, cy * cx))
    back = _matrix((cy * cx, zero, sy * cx), (zero, cy * cx, -sx), (zero, zero, one))
    return back @ turned


def _matrix(*rows: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _through(homography: Tensor, rays: Tensor) -> Tensor:
    mapped = (homography @ torch.cat((rays, torch.ones_like(rays[..., :1])), -1)[..., None])[..., 0]
    return mapped[..., :2] / mapped[..., 2:]
