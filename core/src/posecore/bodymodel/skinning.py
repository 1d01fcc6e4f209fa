"""The kinematic chain, level by level, and linear blend skinning.

Inside, the batch or the vertices come last: joints (j, 3, b), their matrices (j, 3, 3, b), vertices (3, b, v). Products
of many small matrices are then a few wide multiplications, and skinning is one matrix product; bench_skinning.py has
the figures.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class KinematicChain(nn.Module):
    """Transforms of all joints, one step for each level of the tree instead of one for each joint.

    Source: Loper et al., "SMPL", 2015, equations 3 and 4, with the limb scales and offsets of SMAL and SMIL models.
    """

    order: Tensor
    back: Tensor
    parent_rank: Tensor
    slots: Tensor
    ancestors: Tensor
    is_child: Tensor
    is_root_child: Tensor
    offset_signs: Tensor

    def __init__(self, parents: Int[Tensor, " j"], dtype: torch.dtype) -> None:
        """`parents` has -1 for the root and parents before children."""
        super().__init__()
        depth: list[int] = []
        ancestors = torch.eye(len(parents), dtype=dtype)
        for joint, parent in enumerate(parents.tolist()):
            depth.append(0 if parent < 0 else depth[parent] + 1)
            ancestors[joint] += 0 if parent < 0 else ancestors[parent]
        levels = [[joint for joint, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]
        order = [joint for level in levels for joint in level]
        slot = {joint: i for level in levels for i, joint in enumerate(level)}
        parent_of = [max(int(parents[joint]), 0) for joint in order]
        self.level_sizes = [len(level) for level in levels]
        buffers = {
            "order": torch.tensor(order),
            "back": torch.tensor(order).argsort(),
            "parent_rank": torch.tensor([order.index(parent) for parent in parent_of]),  # among all, in level order
            "slots": torch.tensor([slot[parent] for parent in parent_of]),  # the parent's place in its level
            "ancestors": ancestors[:, order],  # (file order, level order), with the joint itself
            "is_child": torch.tensor([float(d > 0) for d in sorted(depth)], dtype=dtype)[:, None, None],
            "is_root_child": torch.tensor([float(d == 1) for d in sorted(depth)], dtype=dtype)[:, None, None],
            "offset_signs": torch.tensor([1.0, -1.0, 1.0], dtype=dtype),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(
        self,
        rotations: Float[Tensor, "b j 3 3"],
        rest: Float[Tensor, "j 3 b"],
        log_scales: Float[Tensor, "b j 3"] | None,
        joint_offsets: Float[Tensor, "b j 3"] | None,
        propagate_scales: bool,
    ) -> tuple[Float[Tensor, "j 3 3 b"], Float[Tensor, "j 3 b"]]:
        """Linear part L and position t of each joint: with joint i a rest point x moves to L_i (x - rest_i) + t_i.

        L_i = L_p K R_i S_i and t_i = L_p (rest_i - rest_p + o_i) + t_p, with p the parent, S_i = diag(exp(log_scales))
        and o_i the offset with its y turned round, as the file format has it. K = I if scales propagate down the chain,
        else S_p^-1. The root has neither scale nor offset: L = R, t = rest.
        """
        R = rotations.permute(1, 2, 3, 0).index_select(0, self.order)
        rest = rest.index_select(0, self.order)
        bones = rest - rest.index_select(0, self.parent_rank) * self.is_child
        if joint_offsets is not None:
            offsets = (joint_offsets * self.offset_signs).permute(1, 2, 0).index_select(0, self.order)
            bones = bones + offsets * self.is_child
        if log_scales is None:
            linear = self._accumulate(R)
        else:
            logs = log_scales.permute(1, 2, 0).index_select(0, self.order)
            scales = torch.exp(logs * self.is_child)
            if not propagate_scales:
                # L = G S with G free of scales, so that a parent's scale acts on the bone alone. The root's children
                # are the format's exception: they get S_root^-1 although the root itself is not scaled.
                linear = self._accumulate(R * torch.exp(-logs[:1] * self.is_root_child)[:, :, None]) * scales[:, None]
            else:
                linear = self._accumulate(R * scales[:, None])
        # Positions are sums of turned bones over the ancestors: one matrix product. The root's bone does not turn.
        turned = apply_linear(linear.index_select(0, self.parent_rank), bones)
        turned = torch.where(self.is_child > 0, turned, bones)
        position = (self.ancestors @ turned.flatten(1)).view(turned.shape)
        return linear.index_select(0, self.back), position

    def _accumulate(self, local: Float[Tensor, "j 3 3 b"]) -> Float[Tensor, "j 3 3 b"]:
        """Products of matrices down the tree, joints in level order."""
        root, *levels = torch.split(local, self.level_sizes)
        chain, start = [root], 1
        for level in levels:
            parent = chain[-1].index_select(0, self.slots[start : start + len(level)])
            chain.append((parent[:, :, :, None] * level[:, None]).sum(dim=2))
            start += len(level)
        return torch.cat(chain)


def apply_linear(linear: Float[Tensor, "n 3 3 b"], points: Float[Tensor, "n 3 b"]) -> Float[Tensor, "n 3 b"]:
    """Each matrix times its own point."""
    return (linear * points[:, None]).sum(dim=2)


def skin(
    linear: Float[Tensor, "j 3 3 b"],
    origin: Float[Tensor, "j 3 b"],
    weights: Float[Tensor, "j n"],
    points: Float[Tensor, "b 3 n"],
) -> Float[Tensor, "3 b n"]:
    """sum_i w_i (linear_i x + origin_i) for each point x: the blended transforms are one matrix product."""
    transforms = torch.cat([linear, origin[:, :, None]], dim=2)
    blended = transforms.flatten(1).T @ weights
    skinned: Tensor = _ApplyBlended.apply(blended.view(3, 4, points.shape[0], points.shape[2]), points)
    return skinned


class _ApplyBlended(torch.autograd.Function):
    """m_0 x + m_1 y + m_2 z + m_3. The gradient is by hand: autograd's takes twice the time on the largest arrays."""

    @staticmethod
    def forward(ctx: Any, blended: Tensor, points: Tensor) -> Tensor:
        ctx.save_for_backward(blended, points)
        skinned = torch.addcmul(blended[:, 3], blended[:, 0], points[:, 0])
        return skinned.addcmul_(blended[:, 1], points[:, 1]).addcmul_(blended[:, 2], points[:, 2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        blended, points = ctx.saved_tensors
        homogeneous = torch.cat([points.transpose(0, 1), torch.ones_like(points[None, :, 0])])
        grad_points = blended[0, :3] * grad[0]
        grad_points.addcmul_(blended[1, :3], grad[1]).addcmul_(blended[2, :3], grad[2])
        return grad.contiguous()[:, None] * homogeneous, grad_points.transpose(0, 1)
