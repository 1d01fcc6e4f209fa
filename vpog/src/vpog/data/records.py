"""What every reader of annotated pictures gives, whatever its files look like."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

from vpog.data.rle import Rle


@dataclass(frozen=True)
class InstanceRecord:
    """One object in one picture."""

    gt_index: int
    """Its place in the picture's list of objects: what names it, because one object can be there twice."""
    obj_id: int
    cam_from_obj_mm: Float[np.ndarray, "4 4"]
    visib_fract: float
    """Visible part of its silhouette, 0..1."""
    bbox_visib_xywh: Float[np.ndarray, "4"]
    """Of the visible pixels; w = xmax - xmin, without the + 1 (BOP)."""
    bbox_obj_xywh: Float[np.ndarray, "4"]
    """Of the whole silhouette; may leave the picture."""
    mask_visib: Rle
    """Visible pixels."""
    mask: Rle | None = None
    """Whole silhouette, where the data tell it."""


@dataclass(frozen=True)
class ImageRecord:
    """One picture with all its objects."""

    dataset: str
    scene_id: int
    image_id: int
    rgb: UInt8[np.ndarray, "h w 3"]
    """A grey picture is given three equal channels."""
    depth_mm: Float32[np.ndarray, "h w"] | None
    """z of the camera frame; 0 where there is none. None: the data have no depth."""
    K: Float[np.ndarray, "3 3"]
    instances: tuple[InstanceRecord, ...]


@dataclass(frozen=True)
class InstanceTable:
    """All objects of all pictures of a source, one row each, in the order of the files."""

    image: Int64[np.ndarray, " n"]
    """Place of the picture in its source."""
    gt_index: Int64[np.ndarray, " n"]
    scene_id: Int64[np.ndarray, " n"]
    image_id: Int64[np.ndarray, " n"]
    obj_id: Int64[np.ndarray, " n"]
    visib_fract: Float32[np.ndarray, " n"]
    longer_side_px: Float32[np.ndarray, " n"]
    """Of the visible box."""

    def __len__(self) -> int:
        return len(self.image)


@runtime_checkable
class ImageSource(Protocol):
    """Pictures that can be read in any order."""

    dataset: str

    def __len__(self) -> int: ...

    @property
    def instances(self) -> InstanceTable:
        """Known without decoding a picture."""
        ...

    def read(self, index: int, *, depth: bool = True) -> ImageRecord:
        """
        Raises:
            InputError: The picture or its labels are damaged; names file, picture and field.
        """
        ...

    def where(self, index: int) -> str:
        """File and picture, for messages."""
        ...
