"""OpenCV's fisheye lens (Kannala and Brandt): the image radius is an odd polynomial k1, k2, k3, k4 of the angle.

The functions take any number of such coefficients; OpenCV has four. All work on rays, (x, y) of the points at depth 1.
"""

import math

import torch
from torch import Tensor

from posecore.cameras._newton import NEWTON_STEPS, Coefficients, is_small

COUNTS = (4,)


def distort(rays: Tensor, coefficients: Coefficients) -> Tensor:
    squared = (rays * rays).sum(-1)
    off_axis = squared > 0
    radius = torch.where(off_axis, squared, 1).sqrt()
    seen, _ = _radius(torch.atan(radius), coefficients)
    return rays * torch.where(off_axis, seen / radius, 1)[..., None]


def undistort(seen: Tensor, coefficients: Coefficients) -> Tensor:
    """Newton's method on the angle; NaN where no ray in front of the camera is seen."""
    squared = (seen * seen).sum(-1)
    off_axis = squared > 0
    radius = torch.where(off_axis, squared, 1).sqrt()
    with torch.no_grad():
        angle = radius.clamp(max=math.pi / 2)
        for _ in range(NEWTON_STEPS):
            value, slope = _radius(angle, coefficients)
            angle = angle + (radius - value) / slope
        value, slope = _radius(angle, coefficients)
        in_front = (slope > 0) & (angle >= 0) & (angle < math.pi / 2)
        found = in_front & is_small((radius - value)[..., None], seen)
        angle, slope = torch.where(found, angle, 1), torch.where(found, slope, 1)
    angle = angle + (radius - _radius(angle, coefficients)[0]) / slope
    rays = seen * torch.where(off_axis, torch.tan(angle) / radius, 1)[..., None]
    return torch.where((found | ~off_axis)[..., None], rays, math.nan)


def _radius(angle: Tensor, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
    """Distance from the centre at depth 1 of a ray at `angle` from the axis, and its derivative."""
    squared = angle * angle
    radius, slope = torch.zeros_like(angle), torch.zeros_like(angle)
    for order, coefficient in reversed(list(enumerate(coefficients, 1))):
        radius = squared * (coefficient + radius)
        slope = squared * ((2 * order + 1) * coefficient + slope)
    return angle * (1 + radius), 1 + slope
