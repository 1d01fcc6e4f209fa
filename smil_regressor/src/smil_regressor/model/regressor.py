"""The two regressors: one view, and several views of the same moment."""

from typing import Literal

import torch
from torch import Tensor, nn

from posecore.rotations import rotation_6d_to_matrix
from smil_regressor.model.backbone import Backbone
from smil_regressor.model.camera_head import CameraHeads, FovCameras
from smil_regressor.model.decoder import DecoderHead
from smil_regressor.model.fusion import ViewFusion
from smil_regressor.model.mlp_head import MLPHead
from smil_regressor.model.prediction import Prediction, ViewInputs, known_cameras, place_cameras
from smil_regressor.model.state import State, StateReader

Head = DecoderHead | MLPHead
DecoderContext = Literal["fused", "patches"]


class SingleViewRegressor(nn.Module):
    """Backbone and body head; the camera is part of the state, or, where the layout has none, the known one."""

    def __init__(self, backbone: Backbone, head: Head, reader: StateReader) -> None:
        super().__init__()
        self.backbone, self.head, self.reader = backbone, head, reader

    def forward(self, views: ViewInputs) -> Prediction:
        if views.images.shape[1] != 1:
            raise ValueError(f"the single-view model takes one view a sample, got {views.images.shape[1]}")
        features = self.backbone(views.images[:, 0])
        history, nonfinite = self.head(features.tokens if isinstance(self.head, DecoderHead) else features.pooled)
        cameras = _state_camera(history[-1]) if self.reader.layout.has_camera else None
        return _predict(self.reader, history, nonfinite, cameras, views)


class MultiViewRegressor(nn.Module):
    """Shared backbone, cross-view fusion, one body head that attends all views, one camera head per view slot.

    `decoder_context`: "fused" gives the decoder one token a view, "patches" all patch tokens of all views with an
    embedding of their slot; `fused_in_patches` adds each view's fused token to its patches. Masked views are attended
    by nobody. `camera_delta`: known cameras are refined, not predicted anew (the known camera is an input then).
    """

    def __init__(
        self,
        backbone: Backbone,
        view_fusion: ViewFusion,
        camera_heads: CameraHeads,
        head: Head,
        reader: StateReader,
        decoder_context: DecoderContext = "fused",
        fused_in_patches: bool = True,
        camera_delta: bool = True,
    ) -> None:
        super().__init__()
        self.backbone, self.view_fusion, self.camera_heads = backbone, view_fusion, camera_heads
        self.head, self.reader = head, reader
        self.decoder_context, self.camera_delta = decoder_context, camera_delta
        self.fused_in_patches = fused_in_patches
        dim, token_dim = backbone.feature_dim, backbone.token_dim
        self.view_embeddings = _embedding(camera_heads.num_slots, dim)
        if isinstance(head, MLPHead):
            self.body_aggregator = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim), nn.ReLU())
        elif decoder_context == "patches":
            if fused_in_patches and dim != token_dim:
                raise ValueError(f"fused tokens ({dim} wide) cannot be added to patch tokens ({token_dim} wide)")
            self.patch_view_embed = _embedding(camera_heads.num_slots, token_dim)

    def forward(self, views: ViewInputs) -> Prediction:
        b, v = views.view_mask.shape
        features = self.backbone(views.images.flatten(0, 1))
        slots = views.camera_slots
        # An embedding needs an index in range also for masked views, whose slot is -1.
        index = torch.where(views.view_mask, slots, 0) if self.camera_heads.num_slots > 1 else torch.zeros_like(slots)
        fused = self.view_fusion(features.pooled.unflatten(0, (b, v)) + self.view_embeddings(index), views.view_mask)
        history, nonfinite = self._body(fused, features.tokens.unflatten(0, (b, v)), index, views.view_mask)
        base = known_cameras(views) if self.camera_delta else None
        cameras: FovCameras = self.camera_heads(fused, slots, views.view_mask, base, views.has_camera)
        return _predict(self.reader, history, nonfinite, cameras, views)

    def _body(self, fused: Tensor, tokens: Tensor, index: Tensor, view_mask: Tensor) -> tuple[list[State], Tensor]:
        out: tuple[list[State], Tensor]
        if isinstance(self.head, MLPHead):
            weights = view_mask[..., None].to(fused.dtype)
            pooled = (fused * weights).sum(1) / weights.sum(1).clamp_min(1)
            out = self.head(self.body_aggregator(pooled))
        elif self.decoder_context == "fused":
            out = self.head(fused, view_mask)
        else:
            tokens = tokens + self.patch_view_embed(index)[:, :, None]
            if self.fused_in_patches:
                tokens = tokens + fused[:, :, None]
            out = self.head(tokens.flatten(1, 2), view_mask.repeat_interleave(tokens.shape[2], dim=1))
        return out


def _embedding(num_slots: int, dim: int) -> nn.Embedding:
    embedding = nn.Embedding(num_slots, dim)
    nn.init.normal_(embedding.weight, std=0.02)
    return embedding


def _state_camera(state: State) -> FovCameras:
    """The camera of the single view, with a view axis."""
    rotation = rotation_6d_to_matrix(state["cam_rot"], "rows")
    return FovCameras(state["fov"], rotation[:, None], state["cam_trans"][:, None])


def _predict(
    reader: StateReader, history: list[State], nonfinite: Tensor, cameras: FovCameras | None, views: ViewInputs
) -> Prediction:
    if cameras is None:
        fov, cam_from_world, K = known_cameras(views).fov_deg, views.cam_from_world, views.K
    else:
        fov = cameras.fov_deg
        cam_from_world, K = place_cameras(cameras, views)
    bodies = tuple(reader(state) for state in history)
    return Prediction(
        **vars(bodies[-1]),
        fov_deg=fov,
        cam_from_world=cam_from_world,
        K=K,
        view_mask=views.view_mask,
        camera_slots=views.camera_slots,
        history=bodies,
        nonfinite=nonfinite,
    )
