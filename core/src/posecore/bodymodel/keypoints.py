"""Regressed joints and single vertices without the mesh: exact, and a fraction of the work."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from posecore.bodymodel.rest import RestPoints, joints_first
from posecore.bodymodel.skinning import apply_linear, skin


class JointMoments(nn.Module):
    """Regressed joints of a model without pose blend shapes.

    With r the joint regressor and w the skinning weights, joint j = sum_v r_jv sum_k w_vk (L_k (x_v - rest_k) + t_k)
    = sum_k (L_k m_jk + n_jk t_k), where n_jk = sum_v r_jv w_vk, and m_jk = sum_v r_jv w_vk (x_v - rest_k) is linear in
    the shape.
    Few pairs (j, k) are not zero, 114 of 3025 in a real insect model, and none needs a vertex.
    """

    bone: Tensor
    joint: Tensor
    mass: Tensor

    def __init__(
        self,
        regressor: Float[Tensor, "j v"],
        weights: Float[Tensor, "v j"],
        surface: tuple[Float[Tensor, "v 3"], Float[Tensor, "v 3 c"]],
        joints: tuple[Float[Tensor, "j 3"], Float[Tensor, "j 3 c"]],
        dtype: torch.dtype,
    ) -> None:
        """`surface` and `joints`: template and shape directions of the vertices and of the rest joints."""
        super().__init__()
        mass = regressor @ weights
        joint, bone = ((regressor != 0).to(mass) @ (weights != 0).to(mass)).nonzero().unbind(1)
        template, shapedirs = (
            _moments(regressor, weights, on_surface.flatten(1))[joint, bone]
            - mass[joint, bone][:, None] * on_joints[bone].flatten(1)
            for on_surface, on_joints in zip(surface, joints, strict=True)
        )
        self.moments = RestPoints(template, shapedirs.view(len(joint), 3, -1), dtype)
        self.register_buffer("bone", bone, persistent=False)
        self.register_buffer("joint", torch.eye(len(mass), dtype=dtype)[:, joint], persistent=False)  # sums the pairs
        self.register_buffer("mass", mass.to(dtype), persistent=False)

    def forward(
        self, betas: Float[Tensor, "b c"], linear: Float[Tensor, "j 3 3 b"], position: Float[Tensor, "j 3 b"]
    ) -> Float[Tensor, "j 3 b"]:
        turned = apply_linear(linear.index_select(0, self.bone), joints_first(self.moments(betas)))
        return (self.joint @ turned.flatten(1) + self.mass @ position.flatten(1)).view(position.shape)


def _moments(
    regressor: Float[Tensor, "j v"], weights: Float[Tensor, "v k"], values: Float[Tensor, "v n"]
) -> Float[Tensor, "j k n"]:
    """sum_v r_jv w_vk values_v, through the vertices that each joint's regressor touches."""
    touched = [row.nonzero().squeeze(1) for row in regressor]
    return torch.stack([(row[v, None] * weights[v]).T @ values[v] for row, v in zip(regressor, touched, strict=True)])


class SurfacePatch(nn.Module):
    """Some vertices of the mesh: their rows of template, directions and skinning weights, gathered once."""

    weights: Tensor

    def __init__(
        self,
        weights: Float[Tensor, "n j"],
        surface: tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3 k"]],
        dtype: torch.dtype,
    ) -> None:
        """`surface`: template, and directions of shape and pose."""
        super().__init__()
        self.rest = RestPoints(*surface, dtype)
        self.register_buffer("weights", weights.T.contiguous().to(dtype), persistent=False)

    def forward(
        self,
        coefficients: Float[Tensor, "b k"],
        linear: Float[Tensor, "j 3 3 b"],
        origin: Float[Tensor, "j 3 b"],
    ) -> Float[Tensor, "3 b n"]:
        return skin(linear, origin, self.weights, self.rest(coefficients))


class RegressedPatch(nn.Module):
    """Regressed joints of a model with pose blend shapes: skins only the vertices that the regressor touches."""

    touched: Tensor
    regressor: Tensor

    def __init__(
        self,
        regressor: Float[Tensor, "j v"],
        weights: Float[Tensor, "v j"],
        surface: tuple[Float[Tensor, "v 3"], Float[Tensor, "v 3 k"]],
        dtype: torch.dtype,
    ) -> None:
        """`surface`: template, and directions of shape and pose."""
        super().__init__()
        touched = (regressor != 0).any(0).nonzero().squeeze(1)
        self.patch = SurfacePatch(weights[touched], (surface[0][touched], surface[1][touched]), dtype)
        self.register_buffer("touched", touched, persistent=False)
        self.register_buffer("regressor", regressor[:, touched].T.contiguous().to(dtype), persistent=False)

    def forward(
        self,
        coefficients: Float[Tensor, "b k"],
        linear: Float[Tensor, "j 3 3 b"],
        origin: Float[Tensor, "j 3 b"],
    ) -> Float[Tensor, "j 3 b"]:
        posed: Tensor = self.patch(coefficients, linear, origin)
        return (posed @ self.regressor).permute(2, 0, 1)

    def regress(self, points: Float[Tensor, "3 b v"]) -> Float[Tensor, "j 3 b"]:
        """The same from all posed vertices."""
        return (points.index_select(2, self.touched) @ self.regressor).permute(2, 0, 1)
