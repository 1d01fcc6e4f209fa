"""Templates of one object: pictures of its mesh from known directions, cut to squares."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, UInt8


@dataclass(frozen=True)
class TemplateSet:
    """Some views of one object, in units of the query pictures: any scale of the rendered mesh is divided out."""

    obj_id: int
    view_ids: Int64[np.ndarray, " v"]
    rgb: UInt8[np.ndarray, "v size size 3"]
    """Black outside the object."""
    mask: Bool[np.ndarray, "v size size"]
    depth_mm: Float32[np.ndarray, "v size size"]
    """z of the camera frame; 0 outside the object."""
    K: Float[np.ndarray, "v 3 3"]
    """Of the square crops."""
    cam_from_obj_mm: Float[np.ndarray, "v 4 4"]

    def __len__(self) -> int:
        return len(self.view_ids)

    def select(self, rows: Int64[np.ndarray, " k"]) -> "TemplateSet":
        """Some of the views, in that order."""
        return TemplateSet(
            self.obj_id,
            self.view_ids[rows],
            self.rgb[rows],
            self.mask[rows],
            self.depth_mm[rows],
            self.K[rows],
            self.cam_from_obj_mm[rows],
        )


@dataclass(frozen=True)
class TemplateViews:
    """Where an object's templates look from; known without opening a picture."""

    obj_id: int
    cam_from_obj_mm: Float[np.ndarray, "v 4 4"]
    directions: Float[np.ndarray, "v 3"]
    """Unit vectors from the object towards the camera, in the object's frame: -R[2]."""
    is_valid: Bool[np.ndarray, " v"]
    """False: the picture is missing, or shows nothing."""
