"""Project Aria's FISHEYE624: a fisheye lens of six radial terms behind which two tangential and four thin-prism terms act.

Coefficients in Aria's order: k0..k5, p0, p1, s0..s3 (projection parameters behind the focal lengths and the principal
point). Convention: p0 bends along x and p1 along y, other than OpenCV, where p1 bends along y and p2 along x.
All functions work on rays, (x, y) of the points at depth 1.
"""

import torch
from torch import Tensor

from posecore.cameras import _fisheye_lens, _polynomial_lens
from posecore.cameras._newton import Coefficients

COUNTS = (12,)


def distort(rays: Tensor, coefficients: Coefficients) -> Tensor:
    return _polynomial_lens.distort(_fisheye_lens.distort(rays, coefficients[:6]), _behind(coefficients))


def undistort(seen: Tensor, coefficients: Coefficients) -> Tensor:
    """Newton's method for either part; NaN where no ray in front of the camera is seen."""
    return _fisheye_lens.undistort(_polynomial_lens.undistort(seen, _behind(coefficients)), coefficients[:6])


def _behind(coefficients: Coefficients) -> Coefficients:
    """The tangential and prism terms as coefficients of OpenCV's polynomial lens without radial terms."""
    p0, p1, *prism = coefficients[6:]
    none = torch.zeros_like(p0)
    return (none, none, p1, p0, none, none, none, none, *prism)
