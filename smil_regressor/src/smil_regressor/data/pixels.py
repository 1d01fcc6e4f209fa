"""Picture coordinates of the HDF5 files, and resizing of points and intrinsics.

The files measure from the picture's top-left corner, as PyTorch3D's NDC does: pixel 0 spans 0..1 and has its centre
at 0.5; keypoints are `[y, x]` divided by the picture's size, and `camera_intrinsics` has the same origin, so that
`K X` of a file equals its keypoint times the size. Inside, pixel centres are integers (OpenCV).

Convention: in a picture of width 8, a dot on the centre of column 3 is x = 3 here and (3 + 0.5) / 8 = 0.4375 in the
file. A principal point in the middle is cx = 3.5 here and 4 in the file.
"""

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "*batch n 2"]
Size = Float[np.ndarray, "*batch 2"]


def points_to_file(pixels: Points, size_wh: Size) -> Points:
    """x, y with centres at integers -> [y, x] in 0..1 from the corner."""
    return np.asarray(((pixels + 0.5) / size_wh[..., None, :])[..., ::-1])


def points_from_file(yx01: Points, size_wh: Size) -> Points:
    """[y, x] in 0..1 from the corner -> x, y in a picture of this size, centres at integers."""
    return np.asarray(yx01[..., ::-1] * size_wh[..., None, :] - 0.5)


def intrinsics_to_file(K: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Origin from the centre of the first pixel to its corner."""
    return _shift_origin(K, 0.5)


def intrinsics_from_file(K: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Origin from the corner of the first pixel to its centre."""
    return _shift_origin(K, -0.5)


def resize_intrinsics(
    K: Float[np.ndarray, "*batch 3 3"], old_wh: Size, new_wh: Size
) -> Float[np.ndarray, "*batch 3 3"]:
    """K of the picture after `cv2.resize` from one size to another: x' = (x + 0.5) k - 0.5."""
    factors = np.concatenate([new_wh / old_wh, np.ones_like(old_wh[..., :1])], -1)
    return _shift_origin(factors[..., :, None] * _shift_origin(K, 0.5), -0.5)


def _shift_origin(K: Float[np.ndarray, "*batch 3 3"], offset: float) -> Float[np.ndarray, "*batch 3 3"]:
    moved = np.array(K, dtype=np.float64)
    moved[..., :2, 2] += offset
    return moved
