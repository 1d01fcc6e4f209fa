"""Keypoints of pictures: the tokens' maps, averaged over random warps (StableKeypoints' ensembling)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from keypoint_nvs.affine import inverse_theta, warp
from keypoint_nvs.coordinates import xy_px_from_rc_unit
from keypoint_nvs.model.keypoint_model import KeypointModel
from keypoint_nvs.peaks import argmax_peaks, centre_of_mass


@dataclass(frozen=True)
class KeypointResult:
    """Keypoints of b pictures."""

    xy_px: Float[Tensor, "b k 2"]
    """Pixels of the pictures that were given; centres at integers."""
    confidence: Float[Tensor, "b k"]
    """Height of the map at its peak, 0..1."""
    maps: Float[Tensor, "b k m m"]


def average_unwarped(maps: Float[Tensor, "b a k m m"], theta: Float[Tensor, "b a 2 3"]) -> Float[Tensor, "b k m m"]:
    """Maps of `a` warped copies of each picture, warped back; the mean at each pixel over the copies that saw it, else 0."""
    back = inverse_theta(theta).flatten(0, 1)
    total = torch.unflatten(warp(maps.flatten(0, 1), back), 0, maps.shape[:2]).sum(1)
    seen = torch.unflatten(warp(torch.ones_like(maps[:, :, :1]).flatten(0, 1), back), 0, maps.shape[:2]).sum(1)
    return torch.where(seen > 0, total / seen.where(seen > 0, 1.0), 0.0)


@torch.no_grad()
def ensemble_maps(
    model: KeypointModel,
    images: Float[Tensor, "b 3 s s"],
    tokens: Int64[Tensor, " k"],
    warps: int,
    seeds: Int64[Tensor, " b"],
    map_px: int = 512,
) -> Float[Tensor, "b k {map_px} {map_px}"]:
    """Maps of the tokens in pictures 0..1, over `warps` random copies of each; 0: the picture alone."""
    if warps == 0:
        return _resized(model.scores(images, seeds).maps(tokens), map_px)
    pictures = model.resized(images)
    theta = model.warps.draw(seeds, warps)
    copies = warp(pictures.repeat_interleave(warps, 0), theta.flatten(0, 1))
    maps = _resized(model.scores_of_copies(copies, seeds, warps).maps(tokens), map_px)
    return average_unwarped(torch.unflatten(maps, 0, (len(images), warps)), theta)


def keypoints_of_images(
    model: KeypointModel,
    images: Float[Tensor, "b 3 s s"],
    tokens: Int64[Tensor, " k"],
    warps: int,
    seeds: Int64[Tensor, " b"],
    map_px: int = 512,
    peak: Literal["argmax", "centre_of_mass"] = "argmax",
    peak_radius: float = 5.0,
) -> KeypointResult:
    """Keypoints where the averaged maps are highest.

    Args:
        model: Trained tokens and their networks.
        images: Pictures 0..1.
        tokens: Indices of the kept ones.
        warps: Warped copies of each picture that are averaged; 0: the picture alone.
        seeds: Of warps and noise, one for each picture.
        map_px: Side to which maps are resized before they are averaged.
        peak: The highest pixel, or the centre of mass around it.
        peak_radius: Of the centre of mass, in pixels of the maps.
    """
    maps = ensemble_maps(model, images, tokens, warps, seeds, map_px)
    places = argmax_peaks(maps) if peak == "argmax" else centre_of_mass(maps, peak_radius)
    return KeypointResult(xy_px_from_rc_unit(places, images.shape[-1]), maps.amax((-2, -1)), maps)


def _resized(maps: Float[Tensor, "n k r r"], side: int) -> Float[Tensor, "n k {side} {side}"]:
    return F.interpolate(maps, (side, side), mode="bilinear", align_corners=False)
