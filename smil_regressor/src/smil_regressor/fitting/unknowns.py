"""The unknowns of a fit. Each is in units of its expected size, so that one learning rate suits all."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from posecore.bodymodel import BodyModel
from posecore.rotations import axis_angle_to_matrix, matrix_to_rotation_6d, rotation_6d_to_matrix
from smil_regressor.fitting.options import (
    CAMERA_ROTATION_SIGMA_RAD,
    CAMERA_SHIFT_SIGMA,
    LIMB_OFFSET_SIGMA,
    LIMB_SCALE_SIGMA,
    FitOptions,
)
from smil_regressor.fitting.problem import Problem
from smil_regressor.model.state import BodyParameters, Layout

LAYOUT: Layout = "interleaved"


@dataclass(frozen=True)
class Start:
    """Where b bodies stand in rest pose; world units."""

    rotation: Float[Tensor, "b 3 3"]
    translation: Float[Tensor, "b 3"]
    """Of the root joint."""
    mesh_scale: Float[Tensor, " b"]


class Unknowns(nn.Module):
    """Root, pose, place, size, shape, limbs and camera corrections of a problem's samples.

    What a session shares (shape, size and limbs on request, cameras always) has a row a session, else a row a sample.
    """

    coefficients: Tensor
    mean_betas: Tensor
    size: Tensor
    session_size: Tensor
    start_scale: Tensor
    start_translation: Tensor
    movable: Tensor

    def __init__(self, model: BodyModel, problem: Problem, start: Start, options: FitOptions) -> None:
        super().__init__()
        b, j, c = len(problem), model.num_joints, model.num_betas
        like = start.translation
        self.problem, self.options = problem, options
        self.owner = problem.session if options.share_shape else torch.arange(b, device=like.device)
        owners = problem.num_sessions if options.share_shape else b
        self.extent = float((model.template.amax(0) - model.template.amin(0)).max())
        scale = _mean_by(start.mesh_scale.log(), self.owner, owners).exp()
        self.register_buffer("size", start.mesh_scale * self.extent)
        self.register_buffer("start_scale", scale)
        self.register_buffer("start_translation", like)
        mean, coefficients = _shape_space(model)
        self.register_buffer("mean_betas", mean)
        self.register_buffer("coefficients", coefficients)
        identity = matrix_to_rotation_6d(torch.eye(3, dtype=like.dtype, device=like.device), LAYOUT)
        self.root = nn.Parameter(matrix_to_rotation_6d(start.rotation, LAYOUT)[:, None].clone())
        self.pose = nn.Parameter(identity.repeat(b, j - 1, 1))
        self.shift = nn.Parameter(torch.zeros_like(like))
        self.log_scale = nn.Parameter(torch.zeros_like(scale), requires_grad=options.mesh_scale is None)
        self.shape = nn.Parameter(like.new_zeros(owners, c))
        self.limb_scale = nn.Parameter(like.new_zeros(owners, j), requires_grad=options.limbs)
        self.limb_offset = nn.Parameter(like.new_zeros(owners, j, 3), requires_grad=options.limbs)
        self._cameras(like)

    def _cameras(self, like: Tensor) -> None:
        """A correction for each camera of each session; none for the camera that a session is seen from first."""
        problem, free = self.problem, self.options.refine_cameras
        slots = int(problem.camera_slots.max()) + 1
        self.camera = nn.Parameter(like.new_zeros(problem.num_sessions, slots, 6), requires_grad=free)
        first = torch.where(problem.used, problem.camera_slots, slots).amin(1)
        lowest = torch.full((problem.num_sessions,), slots, device=like.device)
        lowest = lowest.scatter_reduce(0, problem.session, first, "amin")
        movable = torch.arange(slots, device=like.device) != lowest[:, None]
        self.register_buffer("movable", movable[..., None].to(like.dtype))
        self.register_buffer("session_size", _mean_by(self.size, problem.session, problem.num_sessions))

    @property
    def root_unknowns(self) -> list[nn.Parameter]:
        """Where the body is, without its pose."""
        return self._free([self.root, self.shift, self.log_scale])

    @property
    def all_unknowns(self) -> list[nn.Parameter]:
        return self._free(list(self.parameters()))

    def body(self) -> BodyParameters:
        """The bodies, placed as `Body(model, "mesh_scale")` takes them."""
        params = torch.cat([self.root, self.pose], 1)
        scales, offsets = self._limbs()
        return BodyParameters(
            rotations=rotation_6d_to_matrix(params, LAYOUT),
            rotation_params=params,
            betas=(self.mean_betas + self.shape @ self.coefficients.T)[self.owner],
            translation=self.start_translation + self.size[:, None] * self.shift,
            log_scales=scales,
            joint_offsets=offsets,
            mesh_scale=(self.start_scale * self.log_scale.exp())[self.owner],
        )

    def cameras(self) -> Float[Tensor, "b v 4 4"]:
        """The given cameras, corrected in the camera's frame: it then does not matter what frame the world has."""
        cam_from_world = self.problem.cam_from_world
        if not self.options.refine_cameras:
            return cam_from_world
        values = self.camera * self.movable
        turn = axis_angle_to_matrix(values[..., :3] * CAMERA_ROTATION_SIGMA_RAD)
        move = values[..., 3:] * CAMERA_SHIFT_SIGMA * self.session_size[:, None, None]
        turn, move = (v[self.problem.session[:, None], self.problem.camera_slots] for v in (turn, move))
        upper = turn @ cam_from_world[..., :3, :]
        upper = torch.cat([upper[..., :3], upper[..., 3:] + move[..., None]], -1)
        return torch.cat([upper, cam_from_world[..., 3:, :]], -2)

    def shape_and_camera_prior(self) -> Float[Tensor, ""]:
        """Half the squared size of all that is expected near 0: Mahalanobis' distance of the betas from their mean."""
        terms = [self.shape, self.limb_scale, self.limb_offset, self.camera]
        return torch.stack([0.5 * term.square().sum() for term in terms if term.requires_grad]).sum()

    def _limbs(self) -> tuple[Tensor | None, Tensor | None]:
        if not self.options.limbs:
            return None, None
        scales = (LIMB_SCALE_SIGMA * self.limb_scale)[..., None].expand(-1, -1, 3)
        offsets = LIMB_OFFSET_SIGMA * self.extent * self.limb_offset
        return scales[self.owner], offsets[self.owner]

    @staticmethod
    def _free(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
        return [parameter for parameter in parameters if parameter.requires_grad]


def _shape_space(model: BodyModel) -> tuple[Float[Tensor, " c"], Float[Tensor, "c c"]]:
    """Mean of the betas, and the square root of their covariance; 0 and 1 where the model's file has none."""
    mean = model.template.new_zeros(model.num_betas) if model.shape_mean is None else model.shape_mean
    if model.shape_cov is None:
        return mean, torch.eye(model.num_betas, dtype=mean.dtype, device=mean.device)
    values, vectors = torch.linalg.eigh(model.shape_cov)
    return mean, vectors * values.clamp(min=0).sqrt()  # rounding may give an eigenvalue just below 0


def _mean_by(values: Float[Tensor, " b"], owner: Tensor, owners: int) -> Float[Tensor, " o"]:
    total = values.new_zeros(owners).index_add(0, owner, values)
    count = values.new_zeros(owners).index_add(0, owner, torch.ones_like(values))
    return total / count
