"""One small camera network per canonical view slot, all of them evaluated together.

The heads speak the published model's camera language, so that its checkpoints load: vertical field of view in degrees
and the row-vector extrinsics of PyTorch3D, view = X R + T with x left and y up. `regressor.py` converts to OpenCV.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from posecore.rotations import matrix_to_rotation_6d, rotation_6d_to_matrix

OUTPUTS = 10  # field of view 1, rotation 6D, translation 3
IDENTITY_6D = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # layout "columns"
FOV_STEP = 5.0
ROTATION_STEP = 0.1


@dataclass(frozen=True)
class FovCameras:
    """Cameras in PyTorch3D's convention: view = X R + T."""

    fov_deg: Float[Tensor, "*batch"]
    R: Float[Tensor, "*batch 3 3"]
    T: Float[Tensor, "*batch 3"]


class StackedLinear(nn.Module):
    """s linear layers, applied to s groups of rows with one batched product."""

    def __init__(self, num_slots: int, in_dim: int, out_dim: int, gain: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_slots, out_dim, in_dim))
        self.bias = nn.Parameter(torch.zeros(num_slots, out_dim))
        for weight, bias in zip(self.weight, self.bias, strict=True):
            if gain is None:  # as nn.Linear does
                nn.init.kaiming_uniform_(weight, a=5**0.5)
                nn.init.uniform_(bias, -(in_dim**-0.5), in_dim**-0.5)
            else:
                nn.init.xavier_uniform_(weight, gain=gain)

    def forward(self, x: Float[Tensor, "s n i"]) -> Float[Tensor, "s n o"]:
        rows: Tensor = _StackedProduct.apply(x, self.weight, self.bias)
        return rows


class _StackedProduct(torch.autograd.Function):
    """x weight^T + bias. The gradient is by hand: autograd makes the weights' transposed and then turns their 20 MB."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return grad @ weight, grad.transpose(1, 2) @ x, grad.sum(1)


class StackedNorm(nn.Module):
    """LayerNorm over the last axis with scale and shift of each slot."""

    def __init__(self, num_slots: int, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(num_slots, dim)), nn.Parameter(torch.zeros(num_slots, dim))

    def forward(self, x: Float[Tensor, "s n d"]) -> Float[Tensor, "s n d"]:
        return F.layer_norm(x, x.shape[-1:]) * self.weight[:, None] + self.bias[:, None]


class CameraHeads(nn.Module):
    """Cameras of all views from their features; each canonical slot has its own weights.

    Absolute: fov = lo + (hi - lo) sigmoid, R from 6D near identity, T = trans_scale tanh; `trans_scale` (world units)
    must exceed the distance of the cameras. Delta, where a base camera is given: fov, R and T near the base, at
    most 5 degrees and `trans_step` per axis away. With `num_slots` = 1 all views share one head, whatever their slot:
    for rigs that were not seen in training.
    """

    trans_scale: Tensor

    def __init__(
        self,
        num_slots: int,
        feature_dim: int,
        hidden_dim: int = 256,
        dropout: float = 0.1,
        trans_scale: float = 5.0,
        trans_step: float = 0.25,
        fov_range_deg: tuple[float, float] = (5.0, 120.0),
    ) -> None:
        super().__init__()
        self.num_slots, self.fov_range, self.trans_step = num_slots, fov_range_deg, trans_step
        self.register_buffer("trans_scale", torch.tensor(float(trans_scale)))
        half = hidden_dim // 2
        self.layers = nn.Sequential(
            *(StackedLinear(num_slots, feature_dim, hidden_dim), StackedNorm(num_slots, hidden_dim)),
            *(nn.ReLU(), nn.Dropout(dropout)),
            *(StackedLinear(num_slots, hidden_dim, half), StackedNorm(num_slots, half)),
            *(nn.ReLU(), nn.Dropout(dropout)),
            StackedLinear(num_slots, half, OUTPUTS, gain=0.01),
        )

    def forward(
        self,
        features: Float[Tensor, "b v d"],
        slots: Int[Tensor, "b v"],
        view_mask: Bool[Tensor, "b v"],
        base: FovCameras | None = None,
        has_base: Bool[Tensor, "b v"] | None = None,
    ) -> FovCameras:
        """Views without a base camera are predicted absolutely. Masked views get a meaningless, finite camera."""
        with torch.autocast(features.device.type, enabled=False):
            raw = self._raw(features.float(), slots, view_mask)
            absolute = self._absolute(raw)
            if base is None or has_base is None:
                return absolute
            delta = self._delta(raw, base)
            return FovCameras(
                torch.where(has_base, delta.fov_deg, absolute.fov_deg),
                torch.where(has_base[..., None, None], delta.R, absolute.R),
                torch.where(has_base[..., None], delta.T, absolute.T),
            )

    @torch.no_grad()
    def start_from(self, rig: FovCameras, margin: float = 2.0) -> None:
        """Let the first absolute predictions be this rig (one camera a slot), and give T `margin` times its range.

        Without this, an untrained head puts every camera at the animal.
        """
        low, high = self.fov_range
        if not ((rig.fov_deg > low) & (rig.fov_deg < high)).all():
            raise ValueError(
                f"fields of view {rig.fov_deg.tolist()} leave the range {self.fov_range} of the camera heads"
            )
        self.trans_scale.copy_(margin * rig.T.abs().max())
        columns = matrix_to_rotation_6d(rig.R, "columns") - rig.R.new_tensor(IDENTITY_6D)
        last = self.layers[-1]
        assert isinstance(last, StackedLinear)
        fov = torch.logit((rig.fov_deg - low) / (high - low))
        last.bias.copy_(torch.cat([fov[:, None], columns, torch.atanh(rig.T / self.trans_scale)], dim=-1))

    def _raw(self, features: Tensor, slots: Tensor, view_mask: Tensor) -> Tensor:
        """(b v 10): rows are sorted into their slots, pass one batched product a layer, and are sorted back."""
        b, v, d = features.shape
        if self.num_slots == 1:
            shared: Tensor = self.layers(features.reshape(1, b * v, d))
            return shared.reshape(b, v, OUTPUTS)
        known = (slots >= 0) & (slots < self.num_slots)
        torch._assert_async(
            (known | ~view_mask).all(), f"a valid view has a camera slot outside 0..{self.num_slots - 1}"
        )
        spare = torch.full_like(slots, self.num_slots)  # masked views go to a row that nobody reads
        target = torch.where(view_mask & known, slots, spare)
        counts = torch.zeros(b, self.num_slots + 1, device=slots.device)
        counts = counts.scatter_add(1, target, torch.ones_like(target, dtype=counts.dtype))
        torch._assert_async((counts[:, :-1] <= 1).all(), "two valid views of one sample have the same camera slot")
        # Whole rows are picked: element by element, as scatter does it, takes ten times as long.
        views, samples = torch.arange(v, device=slots.device), torch.arange(b, device=slots.device)[:, None]
        view_in_slot = torch.zeros_like(counts, dtype=torch.long).scatter(1, target, views.expand(b, v))[:, :-1]
        picked = features.flatten(0, 1).index_select(0, (view_in_slot + v * samples).T.flatten())
        filled = (counts[:, :-1] > 0).T[..., None]
        out: Tensor = self.layers(torch.where(filled, picked.view(self.num_slots, b, d), 0.0))
        back = torch.where(view_mask & known, slots, 0) * b + samples
        return out.flatten(0, 1).index_select(0, back.flatten()).view(b, v, OUTPUTS)

    def _absolute(self, raw: Tensor) -> FovCameras:
        low, high = self.fov_range
        identity = raw.new_tensor(IDENTITY_6D)
        return FovCameras(
            low + (high - low) * raw[..., 0].sigmoid(),
            rotation_6d_to_matrix(raw[..., 1:7] + identity, "columns"),
            raw[..., 7:].tanh() * self.trans_scale,
        )

    def _delta(self, raw: Tensor, base: FovCameras) -> FovCameras:
        # The step shrinks near 0 and 180 degrees, so that no clamp is needed to stay a camera.
        room = torch.minimum(base.fov_deg, 180 - base.fov_deg) * 0.9
        rotation = rotation_6d_to_matrix(ROTATION_STEP * raw[..., 1:7] + raw.new_tensor(IDENTITY_6D), "columns")
        return FovCameras(
            base.fov_deg + room.clamp(max=FOV_STEP) * raw[..., 0].tanh(),
            rotation @ base.R,
            base.T + self.trans_step * raw[..., 7:].tanh(),
        )
