"""The kinematic chain, level by level, and linear blend skinning.

Inside, components come first and joints or vertices last: points (b, 3, n), transforms (3, 4, b, n). A 3 x 4 product of
many joints is then a few wide multiplications instead of many small ones, and skinning is one matrix product;
bench_skinning.py has the figures.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class KinematicChain(nn.Module):
    """Transforms of all joints, one step for each level of the tree instead of one for each joint.

    Source: Loper et al., "SMPL", 2015, equations 3 and 4, with the limb scales and offsets of SMAL and SMIL models.
    """

    order: Tensor
    back: Tensor
    parent_rank: Tensor
    slots: Tensor
    is_child: Tensor
    is_root_child: Tensor
    offset_signs: Tensor

    def __init__(self, parents: Int[Tensor, " j"], dtype: torch.dtype) -> None:
        """`parents` has -1 for the root and parents before children."""
        super().__init__()
        depth: list[int] = []
        for parent in parents.tolist():
            depth.append(0 if parent < 0 else depth[parent] + 1)
        levels = [[joint for joint, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]
        order = [joint for level in levels for joint in level]
        slot = {joint: i for level in levels for i, joint in enumerate(level)}
        parent_of = [max(int(parents[joint]), 0) for joint in order]
        self.level_sizes = [len(level) for level in levels]
        root_children = [len(levels) > 1 and joint in levels[1] for joint in order]
        buffers = {
            "order": torch.tensor(order),
            "back": torch.tensor(order).argsort(),
            "parent_rank": torch.tensor([order.index(parent) for parent in parent_of]),  # among all, in level order
            "slots": torch.tensor([slot[parent] for parent in parent_of]),  # the parent's place in its level
            "is_child": torch.tensor([0.0] + [1.0] * (len(order) - 1), dtype=dtype),
            "is_root_child": torch.tensor(root_children, dtype=dtype),
            "offset_signs": torch.tensor([1.0, -1.0, 1.0], dtype=dtype),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(
        self,
        rotations: Float[Tensor, "b j 3 3"],
        rest: Float[Tensor, "b 3 j"],
        log_scales: Float[Tensor, "b j 3"] | None,
        joint_offsets: Float[Tensor, "b j 3"] | None,
        propagate_scales: bool,
    ) -> tuple[Float[Tensor, "3 3 b j"], Float[Tensor, "3 b j"]]:
        """Linear part L and position t of each joint: with joint i a rest point x moves to L_i (x - rest_i) + t_i.

        L_i = L_p K R_i S_i and t_i = L_p (rest_i - rest_p + o_i) + t_p, with p the parent, S_i = diag(exp(log_scales))
        and o_i the offset with its y turned round, as the file format has it. K = I if scales propagate down the chain,
        else S_p^-1. The root has neither scale nor offset: L = R, t = rest.
        """
        R = rotations.permute(2, 3, 0, 1).index_select(3, self.order)
        rest = rest.transpose(0, 1).index_select(2, self.order)
        bones = rest - rest.index_select(2, self.parent_rank) * self.is_child
        if joint_offsets is not None:
            offsets = (joint_offsets * self.offset_signs).permute(2, 0, 1).index_select(2, self.order)
            bones = bones + offsets * self.is_child
        if log_scales is None:
            transforms = self._accumulate(torch.cat([R, bones[:, None]], dim=1))
        else:
            logs = log_scales.permute(2, 0, 1).index_select(2, self.order)
            transforms = self._accumulate_scaled(R, bones, logs, propagate_scales)
        transforms = transforms.index_select(3, self.back)
        return transforms[:, :3], transforms[:, 3]

    def _accumulate_scaled(
        self, R: Float[Tensor, "3 3 b j"], bones: Float[Tensor, "3 b j"], logs: Float[Tensor, "3 b j"], propagate: bool
    ) -> Float[Tensor, "3 4 b j"]:
        scales = torch.exp(logs * self.is_child)
        if propagate:
            return self._accumulate(torch.cat([R * scales, bones[:, None]], dim=1))
        # L = G S with G free of scales: the parent's scale then acts on the bone only. The root's children are the
        # format's exception: they get S_root^-1 although the root itself is not scaled.
        R = R * torch.exp(-logs[..., :1] * self.is_root_child)[:, None]
        bones = bones * scales.index_select(2, self.parent_rank)
        transforms = self._accumulate(torch.cat([R, bones[:, None]], dim=1))
        return torch.cat([transforms[:, :3] * scales, transforms[:, 3:]], dim=1)

    def _accumulate(self, local: Float[Tensor, "3 4 b j"]) -> Float[Tensor, "3 4 b j"]:
        """Products down the tree, joints in level order: [L_p | t_p] [A_i | a_i] = [L_p A_i | L_p a_i + t_p]."""
        done, *levels = torch.split(local, self.level_sizes, dim=3)
        chain, start = [done], self.level_sizes[0]
        for level in levels:
            parent = chain[-1].index_select(3, self.slots[start : start + level.shape[3]])
            product = (parent[:, :3, None] * level).sum(dim=1)
            chain.append(torch.cat([product[:, :3], product[:, 3:] + parent[:, 3:]], dim=1))
            start += level.shape[3]
        return torch.cat(chain, dim=3)


def skin(
    linear: Float[Tensor, "3 3 b j"],
    origin: Float[Tensor, "3 b j"],
    weights: Float[Tensor, "j n"],
    points: Float[Tensor, "b 3 n"],
) -> Float[Tensor, "3 b n"]:
    """sum_i w_i (linear_i x + origin_i) for each point x: the blended transforms are one matrix product.

    Three addcmul, not a product and a sum over the axis: the nine planes of the product never exist.
    """
    transforms = torch.cat([linear, origin[:, None]], dim=1)
    m0, m1, m2, moved = (transforms @ weights).unbind(dim=1)
    x, y, z = points.unbind(dim=1)
    return torch.addcmul(torch.addcmul(torch.addcmul(moved, m0, x), m1, y), m2, z)


def apply_linear(linear: Float[Tensor, "3 3 b n"], points: Float[Tensor, "b 3 n"]) -> Float[Tensor, "3 b n"]:
    """Each matrix times its own point."""
    return (linear * points.transpose(0, 1)).sum(dim=1)
