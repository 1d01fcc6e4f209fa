"""The vector of body parameters that the heads predict, and how it becomes rotations, scales and offsets."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from posecore.bodymodel import BodyModel, pca_limbs
from posecore.rotations import axis_angle_to_matrix, matrix_to_rotation_6d, rotation_6d_to_matrix

Rotation = Literal["6d", "axis_angle"]
MeshScale = Literal["none", "log", "direct"]
Layout = Literal["rows", "columns", "interleaved"]
LimbMode = Literal["ignore", "separate", "entangled_with_betas"]
State = dict[str, Tensor]


@dataclass(frozen=True)
class BodyParameters:
    """Pose and shape of b animals with j joints and c shape coefficients; lengths in world units."""

    rotations: Float[Tensor, "b j 3 3"]
    """Local joint rotations, root first."""
    rotation_params: Float[Tensor, "b j r"]
    """What the network predicted: 6D in the layout of the network, or axis-angle."""
    betas: Float[Tensor, "b c"]
    translation: Float[Tensor, "b 3"]
    log_scales: Float[Tensor, "b j 3"] | None
    joint_offsets: Float[Tensor, "b j 3"] | None
    mesh_scale: Float[Tensor, " b"] | None


@dataclass(frozen=True)
class StateLayout:
    """Which groups the state has, in the order in which they are concatenated.

    `limb_dim` is the width of the scales and of the offsets in mode "separate": 3 j for direct values
    per joint and axis, or the number of PCA weights. `rot6d_layout` concerns the joints; a camera in
    the state is always 6D "rows", as in the published single-view model.
    """

    num_joints: int
    num_betas: int
    rotation: Rotation = "6d"
    rot6d_layout: Layout = "interleaved"
    limb_dim: int = 0
    has_camera: bool = False
    mesh_scale: MeshScale = "none"

    @property
    def rotation_dim(self) -> int:
        return 6 if self.rotation == "6d" else 3

    @property
    def groups(self) -> dict[str, int]:
        """Name -> width. The mesh scale is predicted beside the state and not fed back."""
        groups = {"pose": self.num_joints * self.rotation_dim, "betas": self.num_betas, "trans": 3}
        if self.has_camera:
            groups |= {"fov": 1, "cam_rot": 6, "cam_trans": 3}
        if self.limb_dim:
            groups |= {"scales": self.limb_dim, "joint_trans": self.limb_dim}
        return groups

    @property
    def dim(self) -> int:
        return sum(self.groups.values())

    def to_matrix(self, params: Float[Tensor, "*batch r"]) -> Float[Tensor, "*batch 3 3"]:
        """Rotation matrices of joint rotation parameters."""
        return (
            rotation_6d_to_matrix(params, self.rot6d_layout) if self.rotation == "6d" else axis_angle_to_matrix(params)
        )

    def initial(self, fov_deg: float = 8.0, camera_distance: float = 100.0, mesh_scale: float = 1.0) -> State:
        """Identity rotations, mean shape, camera at `camera_distance` (world units) from the animal; rows of one.

        With the mesh scale, if there is one.
        """
        state = {name: torch.zeros(1, width) for name, width in self.groups.items()}
        if self.rotation == "6d":
            identity = matrix_to_rotation_6d(torch.eye(3), self.rot6d_layout)
            state["pose"] = identity.repeat(self.num_joints)[None]
        if self.has_camera:
            state["fov"] = torch.full((1, 1), fov_deg)
            state["cam_rot"] = matrix_to_rotation_6d(torch.eye(3), "rows")[None]
            state["cam_trans"] = torch.tensor([[0.0, 0.0, camera_distance]])
        if self.mesh_scale != "none":
            state["mesh_scale"] = torch.tensor([[math.log(mesh_scale) if self.mesh_scale == "log" else mesh_scale]])
        return state


class StateReader(nn.Module):
    """Turns a state into body parameters.

    Limb modes: "ignore" has no limb values. "separate" reads them from the state: direct values (j, 3), or, where
    `pca_model` is given, weights of that body model's limb components. "entangled_with_betas" uses the shape
    coefficients as those weights. `offset_factor` multiplies the offsets that components give in mode "separate".
    """

    def __init__(
        self,
        layout: StateLayout,
        limb_mode: LimbMode = "ignore",
        pca_model: BodyModel | None = None,
        offset_factor: float = 1.0,
    ) -> None:
        super().__init__()
        if limb_mode == "entangled_with_betas" and pca_model is None:
            raise ValueError("limb mode entangled_with_betas needs the body model with its limb components")
        if pca_model is not None and (pca_model.scaledirs is None or pca_model.transdirs is None):
            raise ValueError("the body model has no scaledirs and transdirs, which limbs by components need")
        self.layout, self.limb_mode, self.pca_model = layout, limb_mode, pca_model
        self.offset_factor = 1.0 if limb_mode == "entangled_with_betas" else offset_factor

    def forward(self, state: State) -> BodyParameters:
        params = state["pose"].reshape(-1, self.layout.num_joints, self.layout.rotation_dim)
        log_scales, joint_offsets = self._limbs(state)
        return BodyParameters(
            rotations=self.layout.to_matrix(params),
            rotation_params=params,
            betas=state["betas"],
            translation=state["trans"],
            log_scales=log_scales,
            joint_offsets=joint_offsets,
            mesh_scale=self._mesh_scale(state),
        )

    def _mesh_scale(self, state: State) -> Tensor | None:
        if self.layout.mesh_scale == "none":
            return None
        value = state["mesh_scale"].squeeze(-1)
        return value.exp() if self.layout.mesh_scale == "log" else value

    def _limbs(self, state: State) -> tuple[Tensor | None, Tensor | None]:
        if self.limb_mode == "ignore":
            return None, None
        entangled = self.limb_mode == "entangled_with_betas"
        scales, offsets = (state["betas"],) * 2 if entangled else (state["scales"], state["joint_trans"])
        if self.pca_model is None:
            return scales.reshape(scales.shape[0], -1, 3), offsets.reshape(offsets.shape[0], -1, 3)
        return pca_limbs(self.pca_model, scales, self.offset_factor * offsets)
