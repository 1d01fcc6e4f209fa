"""MANO: pose and shape to 21 joints and 778 vertices."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from handvit.joints import FINGERTIPS, MANO_PARENTS, MANO_TO_CANONICAL, MIDDLE_CHAIN
from posecore.bodymodel import BodyModel, SurfacePatch
from posecore.rotations import axis_angle_to_matrix

JointSource = Literal["kinematic", "regressed"]
NUM_VERTICES, NUM_FACES, NUM_JOINTS, NUM_BETAS = 778, 1538, 16, 10
SIZE_RANGE_MM = (20.0, 200.0)
"""Sizes between these are a hand's; others come from broken labels."""
MM = 1000.0


class HandOutput(NamedTuple):
    """A posed hand in the frame of its root rotation and translation, metres."""

    joints_m: Float[Tensor, "*b 21 3"]
    """Canonical order (`handvit.joints`)."""
    vertices_m: Float[Tensor, "*b 778 3"] | None
    """None where only joints were asked for."""


class HandModel(nn.Module):
    """A hand model of buffers only; `read_hand` makes one from a file.

    Convention: poses are absolute (the identity is the flat hand), in metres. The root turns about J_0(beta), which is not
    the origin: root in the camera frame = J_0(beta) + translation.
    """

    gather: Tensor
    tips: Tensor

    def __init__(
        self, body: BodyModel, *, tips: tuple[int, ...] = FINGERTIPS["smplx"], joint_source: JointSource = "kinematic"
    ) -> None:
        """`tips`: vertices for the tips of thumb, index, middle, ring, pinky.

        `joint_source`: inner joints are the chain's posed centres, or regressed from the posed mesh.

        Raises:
            ValueError: The body is no MANO hand, or a tip no vertex; one line a problem.
        """
        super().__init__()
        problems = find_hand_problems(body)
        if len(tips) != 5 or min(tips) < 0 or max(tips) >= NUM_VERTICES:
            problems.append(f"tips: {tips}, expected 5 vertex ids from 0 to {NUM_VERTICES - 1}")
        if joint_source not in ("kinematic", "regressed"):
            problems.append(f"joint_source: {joint_source!r}, expected 'kinematic' or 'regressed'")
        if problems:
            raise ValueError("\n".join(problems))
        self.body, self.joint_source = body, joint_source
        self.register_buffer("gather", torch.tensor(MANO_TO_CANONICAL), persistent=False)
        self.register_buffer("tips", torch.tensor(tips), persistent=False)
        self.tip_patch: SurfacePatch = body.patch_of(self.tips)

    @property
    def faces(self) -> Int[Tensor, "f 3"]:
        return self.body.faces

    @property
    def hands_mean(self) -> Float[Tensor, "45"]:
        """The mean pose of the fingers, axis-angle."""
        assert self.body.hands_mean is not None  # find_hand_problems
        return self.body.hands_mean

    @property
    def hands_components(self) -> Float[Tensor, "45 45"]:
        """Principal components of the fingers' pose, one a row."""
        assert self.body.hands_components is not None  # find_hand_problems
        return self.body.hands_components

    @property
    def is_standin(self) -> bool:
        """The hand is made up (`handvit.standin`): whatever is made with it says so."""
        return self.body.label is not None

    @property
    def dtype(self) -> torch.dtype:
        return self.hands_mean.dtype

    def forward(
        self,
        rotations: Float[Tensor, "*b 16 3 3"],
        betas: Float[Tensor, "*b 10"],
        translation_m: Float[Tensor, "*b 3"] | None = None,
        *,
        joints_only: bool = False,
    ) -> HandOutput:
        """Pose hands. `rotations` are local, the root's first; None translates by nothing.

        `joints_only` poses five vertices instead of 778: exact, and a fraction of the time. Half precision is computed in
        the model's dtype, autocast or not.

        Raises:
            ValueError: A wrong shape, by name.
            TypeError: An input wider than the model's dtype.
        """
        batch = betas.shape[:-1]
        flat_rotations, flat_betas = rotations.reshape(-1, 16, 3, 3), betas.reshape(-1, NUM_BETAS)
        if rotations.shape[:-3] != batch:
            raise ValueError(f"rotations: shape {tuple(rotations.shape)}, betas: {tuple(betas.shape)}; batches differ")
        if translation_m is None:
            moved = betas.new_zeros(flat_betas.shape[0], 3)  # len would fix the batch of an exported graph
        elif translation_m.shape[:-1] == batch:
            moved = translation_m.reshape(-1, 3)
        else:
            raise ValueError(f"translation_m: shape {tuple(translation_m.shape)}, expected {(*batch, 3)}")
        regressed = self.joint_source == "regressed"
        if joints_only:
            inner, tips = self.body.landmarks(flat_rotations, flat_betas, moved, self.tip_patch, regressed=regressed)
            return HandOutput(self._canonical(inner, tips).view(*batch, 21, 3), None)
        vertices, joints, skeleton = self.body(flat_rotations, flat_betas, moved)
        canonical = self._canonical(joints if regressed else skeleton, vertices.index_select(1, self.tips))
        return HandOutput(canonical.view(*batch, 21, 3), vertices.view(*batch, NUM_VERTICES, 3))

    def _canonical(self, inner: Float[Tensor, "b 16 3"], tips: Float[Tensor, "b 5 3"]) -> Float[Tensor, "b 21 3"]:
        return torch.cat([inner, tips], 1).index_select(1, self.gather)

    def root_rest_m(self, betas: Float[Tensor, "*b 10"]) -> Float[Tensor, "*b 3"]:
        """J_0(beta): where the root is before any translation."""
        rest: Tensor = self.body.rest_skeleton(betas.reshape(-1, NUM_BETAS))[:, 0]
        return rest.view(*betas.shape[:-1], 3)

    def rest_size_mm(self, betas: Float[Tensor, "*b 10"]) -> Float[Tensor, "*b"]:
        """Hand size of a shape in rest pose."""
        flat = torch.eye(3, dtype=betas.dtype, device=betas.device).expand(*betas.shape[:-1], NUM_JOINTS, 3, 3)
        return hand_size_mm(self(flat, betas, joints_only=True).joints_m * MM)

    def mean_rotations(self) -> Float[Tensor, "15 3 3"]:
        """The fingers' mean pose as matrices."""
        return axis_angle_to_matrix(self.hands_mean.view(15, 3))


def find_hand_problems(body: BodyModel) -> list[str]:
    """What keeps a body from being a MANO hand: one line a problem that begins with the file's key."""
    problems = []
    if body.num_vertices != NUM_VERTICES:
        problems.append(f"v_template: {body.num_vertices} vertices, expected {NUM_VERTICES}")
    if len(body.faces) != NUM_FACES:
        problems.append(f"f: {len(body.faces)} faces, expected {NUM_FACES}")
    if tuple(body.parents.tolist()) != MANO_PARENTS:
        problems.append(f"kintree_table: parents {body.parents.tolist()}, expected {list(MANO_PARENTS)}")
    if body.num_betas != NUM_BETAS:
        problems.append(f"shapedirs: {body.num_betas} shape directions, expected {NUM_BETAS}")
    if not body.has_posedirs:
        problems.append(f"posedirs: missing, expected ({NUM_VERTICES}, 3, 135)")
    if body.hands_mean is None:
        problems.append("hands_mean: missing, expected (45,)")
    if body.hands_components is None or len(body.hands_components) != 45:
        found = "missing" if body.hands_components is None else f"{len(body.hands_components)} rows"
        problems.append(f"hands_components: {found}, expected (45, 45)")
    return problems


def hand_size_mm(joints_mm: Float[Tensor, "*b 21 3"]) -> Float[Tensor, "*b"]:
    """Length of the middle finger, |j9 - j10| + |j10 - j11| + |j11 - j12| of canonical joints.

    On regressed joints it changes with the pose; on kinematic ones it does not, but for the tip.
    """
    chain = joints_mm[..., list(MIDDLE_CHAIN), :]
    size: Tensor = torch.linalg.vector_norm(chain[..., 1:, :] - chain[..., :-1, :], dim=-1).sum(-1)
    return size
