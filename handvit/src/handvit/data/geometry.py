"""Boxes, crops, intrinsics and image homographies: the only place where they are written. NumPy, float64, batched.

Convention: pixel centres at integers; a picture of width W covers [-0.5, W - 0.5]. Boxes are (x1, y1, x2, y2),
continuous and unclipped. Matrices act on column vectors. With a box (10, 0, 30, 20) cropped to 40 px the point x = 10,
which is the box's left edge, goes to -0.5, the left edge of the crop.
"""

import math

import numpy as np
from jaxtyping import Bool, Float

HORIZON = 1e-6
"""Points whose third homogeneous coordinate is below this share of the picture's are behind the new camera."""

Boxes = Float[np.ndarray, "*b 4"]
Points2 = Float[np.ndarray, "*b n 2"]
Points3 = Float[np.ndarray, "*b n 3"]
Pair = Float[np.ndarray, "*b 2"]
Matrix = Float[np.ndarray, "*b 3 3"]


_QUATERNION_ONES = np.diag([1.0, 1.0, 1.0, 1.0]).reshape(16)
_QUATERNION_PRODUCTS = np.array(
    [  # 4 q q^T, rows and columns xyzw, from the entries 00 01 02 10 11 12 20 21 22
        [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]],
        [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, -1, 0]],
        [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]],
        [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]],
        [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]],
        [[0, 0, 0, -1], [0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0]],
        [[0, 0, 1, 0], [0, 0, 0, -1], [1, 0, 0, 0], [0, -1, 0, 0]],
        [[0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]],
        [[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    ],
    np.float64,
).reshape(9, 16)


def square_patch_box(hand_bbox: Boxes, expansion: float) -> Boxes:
    """The square with the box's centre and side max(w, h, 1) * expansion."""
    low, high = hand_bbox[..., :2], hand_bbox[..., 2:]
    centre = (low + high) / 2
    half = np.maximum((high - low).max(-1, keepdims=True), 1.0) * (expansion / 2)
    return np.concatenate([centre - half, centre + half], -1)


def crop_matrix(box: Boxes, patch_size: int | tuple[int, int], *, half_pixel: bool = True) -> Matrix:
    """Pixels of the crop from pixels of the picture; K of the crop is this times K.

    Args:
        patch_size: Side, or (height, width).
        half_pixel: False drops the -0.5 of both offsets, as the published training crops do; only to compare with them.
    """
    height, width = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    scale = np.array([width, height]) / (box[..., 2:] - box[..., :2])
    matrix = np.zeros((*box.shape[:-1], 3, 3))
    matrix[..., 0, 0], matrix[..., 1, 1] = scale[..., 0], scale[..., 1]
    matrix[..., :2, 2] = -box[..., :2] * scale - (0.5 if half_pixel else 0.0)
    matrix[..., 2, 2] = 1.0
    return matrix


def intrinsics_matrix(focal: Pair, princpt: Pair) -> Matrix:
    """K, in pixels."""
    matrix = np.zeros((*focal.shape[:-1], 3, 3))
    matrix[..., 0, 0], matrix[..., 1, 1] = focal[..., 0], focal[..., 1]
    matrix[..., :2, 2] = princpt
    matrix[..., 2, 2] = 1.0
    return matrix


def inverse_intrinsics(focal: Pair, princpt: Pair) -> Matrix:
    """The inverse of K: rays (x, y, 1) from pixels."""
    return intrinsics_matrix(1.0 / focal, -princpt / focal)


def assumed_intrinsics(size_wh: Pair) -> tuple[Pair, Pair]:
    """Focal length 1.2 max(W, H) and the picture's centre, where nothing better is known: depth is then assumed too."""
    longest = size_wh.max(-1, keepdims=True)
    return np.repeat(1.2 * longest, 2, -1), (size_wh - 1.0) / 2


def turn_to_box(box: Boxes, focal: Pair, princpt: Pair) -> Matrix:
    """The rotation that turns the camera so that the box's centre lies on the optical axis: R unit_ray = (0, 0, 1).

    The axis is (r_y, -r_x, 0), so the picture is not rolled. Rodrigues' formula with sin = |axis| and cos = r_z
    needs no division by the angle: the identity is its value, not a special case.
    """
    slope = ((box[..., :2] + box[..., 2:]) / 2 - princpt) / focal
    ray = np.concatenate([slope, np.ones_like(slope[..., :1])], -1)
    ray /= np.sqrt((ray * ray).sum(-1, keepdims=True))
    x, y, z = ray[..., 0], ray[..., 1], ray[..., 2]
    bend = 1.0 / (1.0 + z)
    matrix = np.empty((*x.shape, 3, 3))
    matrix[..., 0, 0], matrix[..., 1, 1] = 1 - x * x * bend, 1 - y * y * bend
    matrix[..., 0, 1] = matrix[..., 1, 0] = -x * y * bend
    matrix[..., :2, 2] = -ray[..., :2]
    matrix[..., 2, :] = ray
    return matrix


def axis_angle_matrix(axis_angle: Float[np.ndarray, "*b 3"]) -> Matrix:
    """Rodrigues' formula by way of the quaternion, exact at zero."""
    half = 0.5 * np.sqrt((axis_angle * axis_angle).sum(-1, keepdims=True))
    vector = axis_angle * (0.5 * np.sinc(half / np.pi))
    x, y, z, w = vector[..., 0], vector[..., 1], vector[..., 2], np.cos(half[..., 0])
    x2, y2, z2 = 2 * x, 2 * y, 2 * z
    matrix = np.empty((*x.shape, 3, 3))
    matrix[..., 0, 0] = 1 - y * y2 - z * z2
    matrix[..., 1, 1] = 1 - x * x2 - z * z2
    matrix[..., 2, 2] = 1 - x * x2 - y * y2
    matrix[..., 0, 1], matrix[..., 1, 0] = x * y2 - w * z2, x * y2 + w * z2
    matrix[..., 0, 2], matrix[..., 2, 0] = x * z2 + w * y2, x * z2 - w * y2
    matrix[..., 1, 2], matrix[..., 2, 1] = y * z2 - w * x2, y * z2 + w * x2
    return matrix


def matrix_axis_angle(matrix: Matrix) -> Float[np.ndarray, "*b 3"]:
    """The axis-angle of a rotation, its length in [0, pi].

    4 q q^T (xyzw) holds only sums of the matrix's entries; its column with the largest diagonal entry is the quaternion
    up to its length, without cancellation at any angle (Shepperd 1978).
    """
    flat = matrix.reshape(*matrix.shape[:-2], 9)
    products = (flat @ _QUATERNION_PRODUCTS + _QUATERNION_ONES).reshape(*flat.shape[:-1], 4, 4)
    best = products[..., [0, 1, 2, 3], [0, 1, 2, 3]].argmax(-1)
    quaternion = np.take_along_axis(products, best[..., None, None], -2)[..., 0, :]
    vector, scalar = quaternion[..., :3], quaternion[..., 3:]
    vector = np.where(scalar < 0, -vector, vector)
    sine = np.sqrt((vector * vector).sum(-1, keepdims=True))
    angle = 2 * np.arctan2(sine, np.abs(scalar))
    return np.asarray(vector * (angle / np.where(sine > 0, sine, 1.0)))


def scene_rotation(rotation_rad: float, tilt: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """R_tilt R_z: first about the optical axis by `rotation_rad`, then by the axis-angle `tilt`."""
    cosine, sine = math.cos(rotation_rad), math.sin(rotation_rad)
    roll = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(axis_angle_matrix(tilt) @ roll) if tilt.any() else roll


def zoom_matrix(about: Pair, scale: Float[np.ndarray, "*b"]) -> Matrix:
    """Scales the picture about a point that stays."""
    matrix = np.zeros((*about.shape[:-1], 3, 3))
    matrix[..., 0, 0] = matrix[..., 1, 1] = scale
    matrix[..., :2, 2] = about * (1.0 - np.asarray(scale)[..., None])
    matrix[..., 2, 2] = 1.0
    return matrix


def apply_homography(
    matrix: Float[np.ndarray, "*#b 3 3"], points_px: Float[np.ndarray, "*#b n 2"]
) -> Float[np.ndarray, "*all n 2"]:
    """Where the points go. Those that are `behind` get meaningless numbers; zero weights give infinities."""
    homogeneous = points_px @ matrix[..., :2].swapaxes(-1, -2) + matrix[..., None, :, 2]
    return np.asarray(homogeneous[..., :2] / homogeneous[..., 2:])


def behind(matrix: Float[np.ndarray, "*#b 3 3"], points_px: Float[np.ndarray, "*#b n 2"]) -> Bool[np.ndarray, "*all n"]:
    """Which points a turned camera cannot see, because they lie on or behind its horizon."""
    weight = (points_px @ matrix[..., 2, :2, None])[..., 0] + matrix[..., 2, 2, None]
    return np.asarray(weight <= HORIZON)


def box_corners(box: Boxes) -> Float[np.ndarray, "*b 4 2"]:
    """Top left, top right, bottom right, bottom left."""
    return box[..., [0, 1, 2, 1, 2, 3, 0, 3]].reshape(*box.shape[:-1], 4, 2)


def box_around(points_px: Points2, valid: Bool[np.ndarray, "*b n"] | None = None) -> Boxes:
    """The tight box of the (valid) points; without any it is inside out: (inf, inf, -inf, -inf)."""
    if valid is None:
        return np.concatenate([points_px.min(-2), points_px.max(-2)], -1)
    inside = valid[..., None]
    low = np.where(inside, points_px, np.inf).min(-2)
    high = np.where(inside, points_px, -np.inf).max(-2)
    return np.concatenate([low, high], -1)


def warp_box(matrix: Float[np.ndarray, "*#b 3 3"], box: Float[np.ndarray, "*#b 4"]) -> Float[np.ndarray, "*all 4"]:
    """The tight box of the four warped corners."""
    return box_around(apply_homography(matrix, box_corners(box)))


def project(points_cam: Points3, focal: Pair, princpt: Pair) -> Points2:
    """Pinhole projection to pixels; the depth must not be 0."""
    return np.asarray(points_cam[..., :2] / points_cam[..., 2:] * focal[..., None, :] + princpt[..., None, :])


def mirror_matrix(width: Float[np.ndarray, "*b"]) -> Matrix:
    """Flips a picture: x -> W - 1 - x."""
    matrix = np.zeros((*np.shape(width), 3, 3))
    matrix[..., 0, 0] = -1.0
    matrix[..., 0, 2] = np.asarray(width) - 1.0
    matrix[..., 1, 1] = matrix[..., 2, 2] = 1.0
    return matrix


def mirror_pixels(
    points_px: Float[np.ndarray, "*#b 2"], width: Float[np.ndarray, "*#b"]
) -> Float[np.ndarray, "*all 2"]:
    """x -> W - 1 - x; also for principal points."""
    mirrored = points_px.copy()
    mirrored[..., 0] = width - 1.0 - points_px[..., 0]
    return mirrored


def mirror_boxes(box: Boxes, width: Float[np.ndarray, "*b"]) -> Boxes:
    """The left edge becomes the right one."""
    mirrored = box.copy()
    mirrored[..., 0], mirrored[..., 2] = width - 1.0 - box[..., 2], width - 1.0 - box[..., 0]
    return mirrored


def mirror_points(points_cam: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3"]:
    """X -> -X."""
    return np.asarray(points_cam * np.array([-1.0, 1.0, 1.0]))


def mirror_axis_angles(axis_angles: Float[np.ndarray, "*b n"]) -> Float[np.ndarray, "*b n"]:
    """(x, y, z) -> (x, -y, -z) of every joint; n is three times the number of joints."""
    return np.asarray(axis_angles * np.tile([1.0, -1.0, -1.0], axis_angles.shape[-1] // 3))
