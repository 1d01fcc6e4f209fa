"""Labels of patch matching and flow, made of depth, masks and poses on the device of the batch.

Every patch centre of the query is followed into each template, every pixel of a matched template patch back into the
query; depths decide what is hidden.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vpog.data.sample import Instance, PoseBatch
from vpog.labels.centres import CentreMatches, match_centres
from vpog.labels.dense import DenseFlows, dense_flows
from vpog.labels.inputs import checked_surfaces
from vpog.labels.records import FlowLabels
from vpog.labels.rules import LabelRules


@torch.no_grad()
def flow_labels(
    query_depth_mm: Float[Tensor, "b h w"],
    query_mask: Bool[Tensor, "b h w"],
    query_K: Float[Tensor, "b 3 3"],
    query_cam_from_obj_mm: Float[Tensor, "b 4 4"],
    template_depth: Float[Tensor, "b s h w"],
    template_K: Float[Tensor, "b s 3 3"],
    template_cam_from_obj: Float[Tensor, "b s 4 4"],
    rules: LabelRules,
    *,
    diameter_mm: Float[Tensor, " b"] | None = None,
    sigma: float = 1.0,
    names: Sequence[str] | None = None,
) -> FlowLabels:
    """Label b queries against s templates each.

    Args:
        query_depth_mm: z of the camera frame; outside the mask it is not looked at.
        query_mask: Visible pixels of the object.
        template_depth: z, 0 outside the object, in the unit of the rendered mesh: 1 / sigma mm. So are the poses.
        diameter_mm: Widens the tolerance of large objects (`tol_diameter`); None: `tol_mm` holds for all.
        sigma: How many times larger the templates' mesh was rendered; 1 where templates were brought to mm on loading.
        names: What to call each sample in messages.

    Raises:
        InputError: A focal length, pose, depth or mask cannot be right, or the picture has no whole number of patches;
            names sample, picture and value.
    """
    with torch.autocast(query_depth_mm.device.type, enabled=False):  # half precision moves points by pixels
        query, templates = checked_surfaces(
            query_depth_mm,
            query_mask,
            query_K,
            query_cam_from_obj_mm,
            template_depth,
            template_K,
            template_cam_from_obj,
            rules,
            diameter_mm,
            sigma,
            names,
        )
        centres = match_centres(query, templates, rules)
        pairs = matched_pairs(centres.patch_cls)
        dense = dense_flows(query, templates, pairs, rules)
        return FlowLabels(
            patch_cls=centres.patch_cls,
            flows=centres.flows,
            visibility=centres.visibility,
            patch_visibility=_patch_visibility(centres, pairs, dense, rules),
            coarse_flows=centres.coarse_flows,
            pairs=pairs,
            dense_flow=dense.flow,
            dense_visibility=dense.is_visible,
        )


@torch.no_grad()
def template_to_query_centres(
    query_depth_mm: Float[Tensor, "b h w"],
    query_mask: Bool[Tensor, "b h w"],
    query_K: Float[Tensor, "b 3 3"],
    query_cam_from_obj_mm: Float[Tensor, "b 4 4"],
    template_depth: Float[Tensor, "b s h w"],
    template_K: Float[Tensor, "b s 3 3"],
    template_cam_from_obj: Float[Tensor, "b s 4 4"],
    rules: LabelRules,
    *,
    diameter_mm: Float[Tensor, " b"] | None = None,
    sigma: float = 1.0,
    names: Sequence[str] | None = None,
) -> CentreMatches:
    """The query patch that sees the centre of each template patch; arguments and errors as in `flow_labels`."""
    with torch.autocast(query_depth_mm.device.type, enabled=False):
        query, templates = checked_surfaces(
            query_depth_mm,
            query_mask,
            query_K,
            query_cam_from_obj_mm,
            template_depth,
            template_K,
            template_cam_from_obj,
            rules,
            diameter_mm,
            sigma,
            names,
        )
        return match_centres(templates, query, rules)


def labels_of_batch(batch: PoseBatch, rules: LabelRules) -> FlowLabels:
    """Label a batch, whose templates are in millimetres.

    Raises:
        InputError: As `flow_labels`; names data set, scene, picture and instance.
    """
    return flow_labels(
        batch.depth_mm[:, 0],
        batch.masks[:, 0],
        batch.K[:, 0],
        batch.cam_from_obj_mm[:, 0],
        batch.depth_mm[:, 1:],
        batch.K[:, 1:],
        batch.cam_from_obj_mm[:, 1:],
        rules,
        diameter_mm=batch.diameter_mm,
        names=[_name(instance) for instance in batch.instances],
    )


def matched_pairs(patch_cls: Int64[Tensor, "b s hp wp"]) -> Int64[Tensor, "m 4"]:
    """Sample, template, query patch and template patch of each match, in this order."""
    flat = patch_cls.flatten(-2)
    rows = ((flat >= 0) & (flat < flat.shape[-1])).nonzero()
    return torch.cat((rows, flat[tuple(rows.unbind(-1))][:, None]), -1)


def _patch_visibility(
    centres: CentreMatches, pairs: Int64[Tensor, "m 4"], dense: DenseFlows, rules: LabelRules
) -> Bool[Tensor, "b s hp wp"]:
    if not rules.compute_patch_visibility:
        return centres.visibility
    visibility = torch.zeros_like(centres.visibility).flatten(-2)
    sample, view, query_patch, _ = pairs.unbind(-1)
    visibility[sample, view, query_patch] = dense.pixels_in_patch >= rules.min_visible_pixels
    return visibility.view_as(centres.visibility)


def _name(instance: Instance) -> str:
    return (
        f"{instance.dataset} scene {instance.scene_id} image {instance.image_id} instance {instance.gt_index} "
        f"(object {instance.obj_id})"
    )
