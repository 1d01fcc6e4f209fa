"""Ways to tell, in the attention over a group, where template tokens lie and where their templates look from."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch.nn.functional import pad

from vpog.model.prediction import GroupGeometry
from vpog.model.rope import Position, Rotary, grid_positions, rope2d_angles
from vpog.model.rotation_block import RotationBlock
from vpog.model.s2rope import Azimuth, ChannelSplit, s2rope


@runtime_checkable
class TemplatePositions(Protocol):
    def __call__(self, geometry: GroupGeometry, grid: tuple[int, int]) -> Position:
        """Of the tokens of s templates one after the other, each its patches row by row, then the unmatched token."""
        ...


@dataclass(frozen=True)
class SphericalPositions:
    """Place in the picture and direction of the template."""

    split: ChannelSplit
    azimuth: Azimuth

    def __call__(self, geometry: GroupGeometry, grid: tuple[int, int]) -> Position:
        return s2rope(
            geometry.directions, geometry.d_ref, grid, self.split, self.azimuth, geometry.is_valid, num_special=1
        )


@dataclass(frozen=True)
class PlanarPositions:
    """Place in the picture alone."""

    head_dim: int

    def __call__(self, geometry: GroupGeometry, grid: tuple[int, int]) -> Position:
        one = pad(rope2d_angles(grid_positions(grid, geometry.directions.device), self.head_dim), (0, 0, 0, 1))
        return Rotary.of_angles(torch.cat([one] * geometry.directions.shape[1]), "halves")


@dataclass(frozen=True)
class RotationPositions:
    """The template's rotation alone."""

    num_channels: int

    def __call__(self, geometry: GroupGeometry, grid: tuple[int, int]) -> Position:
        if geometry.cam_from_obj_rot is None:
            raise ValueError("decoder.position rotation_block needs GroupGeometry.cam_from_obj_rot")
        return RotationBlock(geometry.cam_from_obj_rot, self.num_channels)
