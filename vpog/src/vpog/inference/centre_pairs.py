"""One pair a patch: the query patch's centre and where the network says that it lies in the template patch."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vpog.inference.scoring import PatchMatches
from vpog.pnp.records import Correspondences
from vpog.pnp.wiring import TemplateGeometry, patch_centres


def centre_correspondences(
    matches: PatchMatches,
    pairs: Int64[Tensor, "m 4"],
    centre_flow: Float[Tensor, "m 2"],
    templates: TemplateGeometry,
    query_K: Float[Tensor, "g 3 3"],
    unit_mm: Float[Tensor, " g"],
    patch_size: int,
) -> Correspondences:
    """n = s p pairs for each group, weighed by how probable the patch's match is; 0 where there is none, or no depth.

    Args:
        pairs: The matches that are used: group, template, query patch, template patch.
        unit_mm: Of the points.
    """
    groups, size, patches = matches.patch.shape
    columns = templates.depth_mm.shape[-1] // patch_size
    flow = torch.zeros(groups, size, patches, 2, device=centre_flow.device)
    weight = torch.zeros(groups, size, patches, device=centre_flow.device)
    place = (pairs[:, 0], pairs[:, 1], pairs[:, 2])
    flow = flow.index_put(place, centre_flow.float())
    weight = weight.index_put(place, matches.probability[place])
    pixels = patch_centres(matches.patch.flatten(), columns, patch_size).reshape(groups, size, patches, 2)
    points, has_depth = object_points(pixels + patch_size * flow, templates)
    every = torch.arange(patches, device=flow.device)
    query = patch_centres(every, columns, patch_size).expand(groups, size, -1, -1)
    weight = (weight * has_depth).flatten(1)
    share = weight / weight.sum(-1, keepdim=True).clamp_min(1e-12)
    return Correspondences(
        (points / unit_mm[:, None, None, None]).flatten(1, 2),
        query.flatten(1, 2),
        share[..., None].expand(-1, -1, 2),
        query_K,
    )


def object_points(
    pixels: Float[Tensor, "g s n 2"], templates: TemplateGeometry
) -> tuple[Float[Tensor, "g s n 3"], Tensor]:
    """Points of the object (mm) at pixels of the templates, with the depth of the nearest pixel, and where there is any."""
    height, width = templates.depth_mm.shape[-2:]
    column, row = pixels.round().long().unbind(-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    flat = torch.where(inside, row * width + column, 0)
    depth = templates.depth_mm.flatten(2).gather(2, flat) * inside
    homogeneous = torch.nn.functional.pad(pixels, (0, 1), value=1.0)
    rays = torch.linalg.solve_ex(templates.K, homogeneous.mT).result.mT
    pose = templates.cam_from_obj_mm
    return (rays * depth[..., None] - pose[..., None, :3, 3]) @ pose[..., :3, :3], depth > 0
