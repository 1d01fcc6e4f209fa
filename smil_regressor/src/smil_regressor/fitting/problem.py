"""What a batch of labelled samples asks of a fit."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smil_regressor.data.sample import Batch
from smil_regressor.fitting.options import KEYPOINT_SIGMA, FitOptions


@dataclass(frozen=True)
class Problem:
    """Labels of b samples, cleaned: what is not labelled, not calibrated or not wanted has weight 0 and finite values."""

    session: Int[Tensor, " b"]
    """Number of the sample's session, from 0."""
    camera_slots: Int[Tensor, "b v"]
    """0 where there is no view."""
    used: Bool[Tensor, "b v"]
    """The view is there and calibrated."""
    K: Float[Tensor, "b v 3 3"]
    cam_from_world: Float[Tensor, "b v 4 4"]
    pixels: Float[Tensor, "b v j 2"]
    pixel_weights: Float[Tensor, "b v j"]
    points: Float[Tensor, "b j 3"]
    point_weights: Float[Tensor, "b j"]
    masks: Bool[Tensor, "b v h w"]
    has_mask: Bool[Tensor, "b v"]
    sigma_px: Float[Tensor, " b"]
    """Expected error of a 2D label, pixels."""

    @classmethod
    def of(cls, batch: Batch, options: FitOptions) -> "Problem":
        names = list(dict.fromkeys(batch.session))
        used = batch.view_mask & batch.has_camera
        weights = torch.where(used[..., None], batch.visibility, 0)
        side = float(max(batch.images.shape[2:4]))
        known = batch.has_keypoints_world & options.points
        return cls(
            session=torch.tensor([names.index(name) for name in batch.session], device=weights.device),
            camera_slots=batch.camera_slots.clamp(min=0),
            used=used,
            K=batch.K,
            cam_from_world=batch.cam_from_world,
            pixels=torch.where(weights[..., None] > 0, batch.keypoints_px, 0),
            pixel_weights=weights,
            points=torch.where(known[..., None], batch.keypoints_world, 0),
            point_weights=known.to(weights.dtype),
            masks=batch.masks,
            has_mask=used & batch.has_mask,
            sigma_px=torch.full_like(weights[:, 0, 0], KEYPOINT_SIGMA * side),
        )

    def __len__(self) -> int:
        return len(self.session)

    @property
    def num_sessions(self) -> int:
        return int(self.session.max()) + 1

    @property
    def mask_rows(self) -> tuple[Tensor, Tensor]:
        """Sample and view of each mask."""
        sample, view = torch.nonzero(self.has_mask, as_tuple=True)
        return sample, view

    def rows(self, index: Int[Tensor, " n"]) -> "Problem":
        """These samples, in this order; a sample may come several times, each then counts as a session of its own."""
        chosen = {field.name: getattr(self, field.name)[index] for field in fields(self)}
        return replace(self, **(chosen | {"session": torch.arange(len(index), device=index.device)}))
