"""How badly a pose explains weighed correspondences (EPro-PnP, Chen et al., CVPR 2022, section 3).

The residual of a pair is its weight times projection minus pixel; a pair costs Huber's function of the residual's
length. Depths below `z_min` project as if they were there, with no derivative. K's last row is (0, 0, 1).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posecore.rotations import quaternion_wxyz_to_matrix
from vpog.pnp.records import Correspondences


def used(correspondences: Correspondences) -> Bool[Tensor, "b n"]:
    """Pairs that weigh something: the others are padding."""
    return (correspondences.weights > 0).any(-1)


def adaptive_delta(correspondences: Correspondences, relative_delta: float = 0.5) -> Float[Tensor, " b"]:
    """Where Huber's function turns linear: a share of what the weighed pixels spread. No gradient; padding does not count."""
    with torch.no_grad():
        weigh = used(correspondences).to(correspondences.pixels)[..., None]
        count = weigh.sum(-2)
        mean_weight = (correspondences.weights * weigh).sum((-2, -1)) / (2 * count[..., 0]).clamp_min(1)
        centre = (correspondences.pixels * weigh).sum(-2, keepdim=True) / count[..., None].clamp_min(1)
        squared = ((correspondences.pixels - centre) * weigh).square().sum((-2, -1))
        return relative_delta * mean_weight * (squared / (count[..., 0] - 1).clamp_min(1)).sqrt()


def pose_costs(
    correspondences: Correspondences, poses: Float[Tensor, "b k 7"], delta: Float[Tensor, " b"], z_min: float
) -> Float[Tensor, "b k"]:
    """Robust cost of k poses for each object."""
    K, (b, k) = correspondences.K, poses.shape[:2]
    px_from_obj = K[:, None] @ torch.cat([quaternion_wxyz_to_matrix(poses[..., 3:]), poses[..., :3, None]], -1)
    points = torch.nn.functional.pad(correspondences.points_obj, (0, 1), value=1.0).mT  # no pass to add translations
    projected = (px_from_obj.reshape(b, 3 * k, 4) @ points).reshape(b, k, 3, -1)
    pixels, weights = correspondences.pixels.mT[:, None], correspondences.weights.mT[:, None]
    residual = (projected[:, :, :2] / projected[:, :, 2:].clamp_min(z_min) - pixels) * weights
    return huber(residual.square().sum(-2), delta[:, None, None]).sum(-1)


def huber(squared: Float[Tensor, "*n"], delta: Float[Tensor, "*#n"]) -> Float[Tensor, "*n"]:
    """s^2 / 2 up to delta, then delta s - delta^2 / 2, of the squared length."""
    bound = delta.square()
    length = _safe_root(squared, bound)
    return torch.where(squared <= bound, squared / 2, delta * length - bound / 2)


@dataclass(frozen=True)
class Linearisation:
    """A pose's robustified residuals and how they move with its local coordinates."""

    rows: Float[Tensor, "b 7 m"]
    """The transposed Jacobian, then the residuals: first all x, then all y, m = 2 n."""
    cost: Float[Tensor, " b"]

    @property
    def jacobian_transposed(self) -> Float[Tensor, "b 6 m"]:
        return self.rows[:, :6]

    @property
    def residual(self) -> Float[Tensor, "b m"]:
        return self.rows[:, 6]

    def normal_equations(self) -> tuple[Float[Tensor, "b 6 6"], Float[Tensor, "b 6"]]:
        """J^T J and J^T r, out of one product, which reads the rows once."""
        products = self.rows @ self.rows.mT
        return products[:, :6, :6], products[:, :6, 6]


def linearise(
    correspondences: Correspondences, pose: Float[Tensor, "b 7"], delta: Float[Tensor, " b"], z_min: float
) -> Linearisation:
    """Residuals and Jacobian, both scaled by sqrt(rho'(s) / s) of their pair; differentiable, also in the weights."""
    K, weights = correspondences.K, correspondences.weights.mT
    twice_turned = (2 * quaternion_wxyz_to_matrix(pose[:, 3:])) @ correspondences.points_obj.mT
    projected = torch.baddbmm(K @ pose[:, :3, None], K / 2, twice_turned)
    depth = projected[:, 2:].clamp_min(z_min)
    pixels = projected[:, :2] / depth
    residual = (pixels - correspondences.pixels.mT) * weights
    squared = residual.square().sum(1, keepdim=True)
    bound = delta[:, None, None].square()
    length = _safe_root(squared, bound)
    positive = delta[:, None, None].clamp_min(torch.finfo(length.dtype).tiny)  # the unused root of 0 has no gradient
    robust = torch.where(squared <= bound, 1.0, (positive / length).sqrt())
    slope = weights * (robust * (projected[:, 2:] >= z_min) / depth)
    return Linearisation(
        _rows(slope, K[:, :2], pixels, twice_turned, residual * robust),
        torch.where(squared <= bound, squared / 2, delta[:, None, None] * length - bound / 2).sum((1, 2)),
    )


def _rows(slope: Tensor, K: Tensor, pixels: Tensor, twice_turned: Tensor, residual: Tensor) -> Float[Tensor, "b 7 m"]:
    """d(pixel)/d(translation) = a; d(X_cam)/d(dw) = [2 R x]_x, so that of the rotation is a x 2 R x. All x, then all y."""
    ax, ay, az = slope * K[..., :1], slope * K[..., 1:2], slope * (K[..., 2:] - pixels)
    x, y, z = twice_turned[:, :, None].unbind(1)
    return torch.stack([ax, ay, az, ay * z - az * y, az * x - ax * z, ax * y - ay * x, residual], 1).flatten(2)


def _safe_root(squared: Tensor, bound: Tensor) -> Tensor:
    """The length where it exceeds delta; below it a value that is not used, with a finite gradient."""
    return torch.maximum(squared, bound + torch.finfo(squared.dtype).tiny).sqrt()
