"""The pictures that tokens see in a step, and what is known of them: the target views, and the input view if asked for."""

import torch
from jaxtyping import Float
from torch import Tensor

from keypoint_nvs.config.stages import KeypointsConfig
from keypoint_nvs.data.batch import ViewBatch
from keypoint_nvs.losses.view_cameras import ViewCameras


def keypoint_pictures(batch: ViewBatch, config: KeypointsConfig) -> Float[Tensor, "b w 3 h h"]:
    """The target views; the input view comes last."""
    if not config.use_condition_view or batch.cond_imgs is None:
        return batch.target_imgs
    return torch.cat([batch.target_imgs, batch.cond_imgs[:, None]], 1)


def keypoint_alpha(batch: ViewBatch, config: KeypointsConfig) -> Float[Tensor, "b w h h"]:
    """Of the same pictures."""
    stored = batch.stored.cond_imgs
    if not config.use_condition_view or stored is None:
        return batch.alpha
    return torch.cat([batch.alpha, stored[:, None, 3].to(batch.alpha) / 255], 1)


def keypoint_cameras(batch: ViewBatch, config: KeypointsConfig) -> ViewCameras | None:
    """Of the same pictures, for the maps; None: unrelated pictures. An input view without a camera is left out of what
    needs one."""
    stored = batch.stored
    cam_from_world, K = stored.target_cam_from_world, stored.target_K
    if cam_from_world is None or K is None:
        return None
    known = torch.ones(cam_from_world.shape[:2], dtype=torch.bool, device=K.device)
    if config.use_condition_view and batch.cond_imgs is not None:
        eye = torch.eye(4, device=K.device).expand(len(K), 4, 4)
        own_cam = eye if stored.cond_cam_from_world is None else stored.cond_cam_from_world
        own_K = eye[:, :3, :3] if stored.cond_K is None else stored.cond_K
        cam_from_world = torch.cat([cam_from_world, own_cam[:, None].to(cam_from_world)], 1)
        K = torch.cat([K, own_K[:, None].to(K)], 1)
        known = torch.cat([known, stored.has_cond_camera[:, None]], 1)
    return ViewCameras.at_map_size(cam_from_world, K, batch.target_imgs.shape[-1], config.map_px, known)
