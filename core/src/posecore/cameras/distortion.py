"""Lens distortion: OpenCV's polynomial (4, 5, 8, 12 or 14 coefficients) and fisheye (4), Aria's FISHEYE624 (12)."""

from types import ModuleType
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from posecore.cameras import _fisheye624_lens, _fisheye_lens, _polynomial_lens
from posecore.cameras.projection import unproject

LensModel = Literal["polynomial", "fisheye", "fisheye624"]

LENSES: dict[str, ModuleType] = {
    "polynomial": _polynomial_lens,
    "fisheye": _fisheye_lens,
    "fisheye624": _fisheye624_lens,
}


def distort_pixels(
    pixels: Float[Tensor, "*#batch n 2"],
    K: Float[Tensor, "*#batch 3 3"],
    distortion: Float[Tensor, "*#batch coefficients"],
    model: LensModel = "polynomial",
) -> Float[Tensor, "*pixels_batch n 2"]:
    """Where the lens puts the pixels of an ideal pinhole camera with the same K.

    `distortion` holds OpenCV's coefficients: k1, k2, p1, p2[, k3[, k4, k5, k6[, s1, s2, s3, s4[, tau_x, tau_y]]]], or
    those of cv2.fisheye: k1, k2, k3, k4, or those of Project Aria's FISHEYE624: k0..k5, p0, p1, s0..s3.
    """
    lens = _lens(distortion, model)
    seen: Tensor = lens.distort(_to_rays(pixels, K), distortion[..., None, :].unbind(-1))
    return _to_pixels(seen, K)


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
    lens = _lens(distortion, model)
    rays: Tensor = lens.undistort(_to_rays(pixels, K), distortion[..., None, :].unbind(-1))
    return _to_pixels(rays, K)


def _lens(distortion: Tensor, model: str) -> ModuleType:
    if model not in LENSES:
        raise ValueError(f"model: {model!r} is none of {', '.join(map(repr, LENSES))}")
    counts = LENSES[model].COUNTS
    if distortion.shape[-1] not in counts:
        expected = " or ".join(map(str, counts))
        raise ValueError(f"distortion: {model} takes {expected} coefficients, got shape {tuple(distortion.shape)}")
    return LENSES[model]


def _to_rays(pixels: Tensor, K: Tensor) -> Tensor:
    """(x, y) of the points at depth 1."""
    return unproject(pixels, pixels.new_ones(pixels.shape[:-1]), K)[..., :2]


def _to_pixels(rays: Tensor, K: Tensor) -> Tensor:
    return rays @ K[..., :2, :2].mT + K[..., None, :2, 2]
