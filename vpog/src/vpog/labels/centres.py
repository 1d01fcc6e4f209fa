"""Centres of patches followed from one picture to another: which patch sees them, and where in it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vpog.labels.rules import LabelRules
from vpog.labels.surfaces import Landing, Surfaces, dehomogenise, is_seen, look_up, pixel_map


@dataclass(frozen=True)
class CentreMatches:
    """Of the patches of a source picture, for b samples and s templates; flows in patches, order (x, y)."""

    patch_cls: Int64[Tensor, "b s hp wp"]
    """-1: the source patch shows no object; 0..p-1: the target patch that sees its centre; p: none does."""
    visibility: Bool[Tensor, "b s hp wp"]
    flows: Float[Tensor, "b s hp wp 2"]
    """Within the target patch, from its centre; 0 where not visible."""
    coarse_flows: Float[Tensor, "b s hp wp 2"]
    """From the source patch to the target patch where its centre lies, hidden or not, whole patches; 0 where the source
    patch shows no object or its centre lies outside the target picture."""
    target_px: Float[Tensor, "b s hp wp 2"]
    """Where the centre lies in the target picture; 0 where not visible."""


def patch_centres(size_hw: tuple[int, int], patch_size: int, device: torch.device) -> Float[Tensor, "p 2"]:
    """(x, y) of the pixel `patch_size // 2` from each patch's corner, patches row by row."""
    rows, columns = (torch.arange(patch_size // 2, size, patch_size, device=device) for size in size_hw)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).reshape(-1, 2).float()


def match_centres(source: Surfaces, target: Surfaces, rules: LabelRules) -> CentreMatches:
    """Follow the centre of each source patch; where source or target has one view, it goes with all of the other's."""
    height, width = size_hw = (source.depth.shape[-2], source.depth.shape[-1])
    size = rules.patch_size
    grid = (height // size, width // size)
    centres = patch_centres(size_hw, size, source.depth.device).to(source.depth)
    centre_depth = source.depth[..., size // 2 :: size, size // 2 :: size].flatten(-2)  # (b v p)

    landing = _land(source, target, centres, centre_depth)
    index, inside = look_up(landing, size_hw, rules.lookup)
    surface = target.depth.flatten(-2).expand(*index.shape[:2], -1).gather(-1, index)
    tolerance = target.tolerance[:, None, None]
    on_object = (centre_depth > 0).expand(index.shape)
    visible = on_object & inside & is_seen(landing.depth, surface, tolerance, rules.compute_visibility)

    target_px = torch.stack((landing.x, landing.y), -1)
    cell = torch.where(inside[..., None], torch.floor(target_px / size), 0).long()
    cell_index = cell[..., 1] * grid[1] + cell[..., 0]
    cell_centre = centres[cell_index]
    missed = torch.where(on_object, grid[0] * grid[1], -1)
    shape = (*index.shape[:2], *grid)
    return CentreMatches(
        patch_cls=torch.where(visible, cell_index, missed).reshape(shape),
        visibility=visible.reshape(shape),
        flows=_where(visible, (target_px - cell_centre) / size).reshape(*shape, 2),
        coarse_flows=_where(on_object & inside, (cell_centre - centres) / size).reshape(*shape, 2),
        target_px=_where(visible, target_px).reshape(*shape, 2),
    )


def _where(condition: Bool[Tensor, "*points"], values: Float[Tensor, "*points 2"]) -> Float[Tensor, "*points 2"]:
    return torch.where(condition[..., None], values, 0)


def _land(source: Surfaces, target: Surfaces, px: Float[Tensor, "p 2"], depth: Float[Tensor, "b v p"]) -> Landing:
    to_target = pixel_map(source, target)
    x, y, one = to_target.ray_map[..., None].unbind(-2)  # (b s 3 1)
    rays = x * px[:, 0] + y * px[:, 1] + one
    return dehomogenise(rays * depth[:, :, None] + to_target.offset[..., None])
