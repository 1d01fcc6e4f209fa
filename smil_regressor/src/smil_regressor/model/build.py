"""Regressors from plain arguments."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from posecore.bodymodel import BodyModel
from smil_regressor.model.backbone import Backbone
from smil_regressor.model.camera_head import CameraHeads
from smil_regressor.model.decoder import DecoderHead
from smil_regressor.model.fusion import ViewFusion
from smil_regressor.model.mlp_head import MLPHead
from smil_regressor.model.regressor import DecoderContext, Head, MultiViewRegressor, SingleViewRegressor
from smil_regressor.model.state import Layout, LimbMode, MeshScale, Rotation, State, StateLayout, StateReader


@dataclass(frozen=True)
class BodySpec:
    """What is predicted. `pca_model`: limbs are weights of this body model's components, not values per joint (as mode
    "separate" has them without; mode "entangled_with_betas" needs it).

    `fov_deg`, `camera_distance` start the single-view camera, best at the data's medians; `mean_pose` (j r) the pose.
    """

    num_joints: int
    num_betas: int
    rotation: Rotation = "6d"
    rot6d_layout: Layout = "interleaved"
    limb_mode: LimbMode = "ignore"
    pca_model: BodyModel | None = None
    offset_factor: float = 1.0
    """On the joint offsets that `pca_model`'s components give in mode "separate"."""
    mesh_scale: MeshScale = "none"
    initial_mesh_scale: float = 1.0
    fov_deg: float = 8.0
    camera_distance: float = 100.0
    mean_pose: Float[Tensor, "j r"] | None = None
    place: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Where the animal's translation starts, world units."""

    def layout(self, has_camera: bool) -> StateLayout:
        limb_dim = 0
        if self.limb_mode == "separate":
            components = None if self.pca_model is None else self.pca_model.scaledirs
            limb_dim = 3 * self.num_joints if components is None else len(components)
        return StateLayout(
            self.num_joints, self.num_betas, self.rotation, self.rot6d_layout, limb_dim, has_camera, self.mesh_scale
        )

    def reader(self, layout: StateLayout) -> StateReader:
        return StateReader(layout, self.limb_mode, self.pca_model, self.offset_factor)

    def initial(self, layout: StateLayout) -> State:
        state = layout.initial(self.fov_deg, self.camera_distance, self.initial_mesh_scale)
        state["trans"] = torch.tensor([self.place])
        if self.mean_pose is not None:
            state["pose"] = self.mean_pose.reshape(1, -1)
        return state


@dataclass(frozen=True)
class HeadSpec:
    """The body head. The MLP uses `hidden_dim` and `dropout` alone."""

    kind: Literal["transformer_decoder", "mlp"] = "transformer_decoder"
    hidden_dim: int = 1024
    depth: int = 6
    num_heads: int = 8
    dim_head: int = 64
    mlp_dim: int = 1024
    dropout: float = 0.1
    iterations: int = 3
    trans_factor: float = 1.0
    scale_factor: float = 1.0
    length_scale: float = 1.0
    """World units for one unit of the body model: what a step of the translation is worth."""

    def build(self, body: BodySpec, layout: StateLayout, feature_dim: int, context_dim: int) -> Head:
        initial = body.initial(layout)
        if self.kind == "mlp":
            return MLPHead(layout, feature_dim, self.hidden_dim, self.dropout, initial)
        sizes = (self.hidden_dim, self.depth, self.num_heads, self.dim_head, self.mlp_dim, self.dropout)
        factors = (self.trans_factor, self.scale_factor)
        head = DecoderHead(layout, context_dim, *sizes, self.iterations, *factors, initial)
        head.factors["trans"] *= self.length_scale
        return head


def build_single_view(
    backbone: Backbone, body: BodySpec, head: HeadSpec, camera: Literal["predicted", "known"] = "predicted"
) -> SingleViewRegressor:
    """`camera` "known": the body is placed in front of the given camera, and no camera is predicted."""
    layout = body.layout(has_camera=camera == "predicted")
    built = head.build(body, layout, backbone.feature_dim, backbone.token_dim)
    return SingleViewRegressor(backbone, built, body.reader(layout))


def build_multi_view(
    backbone: Backbone,
    body: BodySpec,
    head: HeadSpec,
    num_slots: int,
    fusion_layers: int = 2,
    fusion_heads: int = 8,
    fusion_dropout: float = 0.1,
    decoder_context: DecoderContext = "fused",
    fused_in_patches: bool = True,
    camera_delta: bool = True,
    camera_hidden_dim: int = 256,
    camera_dropout: float = 0.1,
    camera_trans_scale: float = 5.0,
    camera_trans_step: float = 0.25,
    camera_in_state: bool = False,
) -> MultiViewRegressor:
    """`num_slots`: canonical cameras (1: one head for all). `camera_in_state` is for weights of the published model,
    whose body state carries a camera that nothing reads."""
    layout = body.layout(has_camera=camera_in_state)
    context_dim = backbone.token_dim if decoder_context == "patches" else backbone.feature_dim
    return MultiViewRegressor(
        backbone,
        ViewFusion(backbone.feature_dim, fusion_layers, fusion_heads, fusion_dropout),
        CameraHeads(
            num_slots,
            backbone.feature_dim,
            camera_hidden_dim,
            camera_dropout,
            trans_scale=camera_trans_scale,
            trans_step=camera_trans_step,
        ),
        head.build(body, layout, backbone.feature_dim, context_dim),
        body.reader(layout),
        decoder_context,
        fused_in_patches,
        camera_delta,
    )
