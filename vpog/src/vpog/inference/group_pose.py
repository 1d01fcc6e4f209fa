"""Poses of a training batch's queries from the network's own matches with their groups."""

import torch
from jaxtyping import Float
from torch import Tensor

from vpog.config.inference import InferenceConfig
from vpog.data.sample import PoseBatch
from vpog.inference.scoring import patch_matches
from vpog.model.network import VpogNetwork
from vpog.model.prediction import Matching
from vpog.pnp.lm import solve_lm
from vpog.pnp.poses import pose_to_matrix
from vpog.pnp.settings import LmSettings, StartSettings, WiringSettings
from vpog.pnp.start import random_sample_start
from vpog.pnp.wiring import TemplateGeometry, matched_correspondences


@torch.no_grad()
def solve_batch(
    network: VpogNetwork, matching: Matching, batch: PoseBatch, config: InferenceConfig
) -> Float[Tensor, "b 4 4"]:
    """All templates of a group together, solved by EPro-PnP's solver; NaN where there is no pose."""
    step = network.patch_size
    is_object = batch.masks[:, 0, step // 2 :: step, step // 2 :: step].flatten(1)
    matches = patch_matches(matching.logits, is_object)
    group, template, patch = (matches.probability > config.min_probability).nonzero(as_tuple=True)
    pairs = torch.stack([group, template, patch, matches.patch[group, template, patch]], -1)
    found = matched_correspondences(
        pairs,
        network.dense(matching, pairs),
        matches.probability[group, template, patch],
        TemplateGeometry(batch.depth_mm[:, 1:], batch.K[:, 1:], batch.cam_from_obj_mm[:, 1:]),
        batch.K[:, 0],
        batch.diameter_mm,
        matching.pnp_scale,
        WiringSettings(config.max_points, config.point_stride),
    )
    start = random_sample_start(found, batch.seed, StartSettings(), LmSettings())
    return pose_to_matrix(solve_lm(found, start, LmSettings()).pose.float(), batch.diameter_mm)
