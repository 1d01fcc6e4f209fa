"""Where the files of templates lie, and reading and writing single ones; the layout of the public sets."""

import os
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8, UInt16

from posecore.data.headers import read_header
from posecore.data.images import decode_depth
from posecore.errors import InputError

ROTATION_TOLERANCE = 1e-4
"""On R R^T = 1: of poses that were once float32."""


def poses_file(root: Path, obj_id: int) -> Path:
    return root / "object_poses" / f"{obj_id:06d}.npy"


def object_folder(root: Path, obj_id: int) -> Path:
    return root / f"{obj_id:06d}"


def picture_file(root: Path, obj_id: int, view_id: int) -> Path:
    return object_folder(root, obj_id) / f"{view_id:06d}.png"


def depth_file(root: Path, obj_id: int, view_id: int) -> Path:
    return object_folder(root, obj_id) / f"{view_id:06d}_depth.png"


def described_file(root: Path, obj_id: int) -> Path:
    return object_folder(root, obj_id) / "templates.json"


def write_bytes(path: Path, content: bytes) -> None:
    """All of it or nothing; writers of the same file do not meet."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.writing")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def read_poses(path: Path) -> Float64[np.ndarray, "v 4 4"]:
    """
    Raises:
        InputError: No such file, or not an array of rigid 4x4 matrices.
    """
    try:
        poses = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as an array of poses: {error}") from None
    if not isinstance(poses, np.ndarray) or poses.ndim != 3 or poses.shape[1:] != (4, 4) or poses.dtype.kind != "f":
        found = f"{poses.dtype} {poses.shape}" if isinstance(poses, np.ndarray) else "an archive"
        raise InputError(f"{path}: is {found}; one 4x4 pose for each view is needed, float64 (views, 4, 4)")
    poses = poses.astype(np.float64)
    rotations = poses[:, :3, :3]
    with np.errstate(invalid="ignore"):
        wrong = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max((1, 2)) > ROTATION_TOLERANCE
        bad = wrong | (np.linalg.det(rotations) < 0) | ~np.isfinite(poses).all((1, 2))
    bad |= (poses[:, 3] != [0, 0, 0, 1]).any(1)
    if bad.any():
        raise InputError(
            f"{path}: view {int(np.flatnonzero(bad)[0])}: is not a rigid pose (rotation, translation, 0 0 0 1)"
        )
    return poses


def encode_rgba(rgb: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> bytes:
    """PNG whose alpha is 255 on the object, else 0."""
    bgra = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA)
    bgra[..., 3] = mask * np.uint8(255)
    done, encoded = cv2.imencode(".png", bgra)
    if not done:
        raise ValueError(f"OpenCV cannot write {rgb.dtype} {rgb.shape} as PNG")
    return bytes(encoded.tobytes())


def read_rgba(path: Path) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Colours, black outside the object, and the object's mask: alpha above 0.

    Raises:
        InputError: No such file, damaged, or not RGBA of 8 bits.
    """
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    header = read_header(encoded)
    if header is None or header.format != "PNG" or not header.is_complete:
        raise InputError(f"{path}: is not a complete PNG file; render or copy the template again")
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError(f"{path}: is damaged and cannot be decoded; render or copy the template again")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 4:
        raise InputError(f"{path}: is {pixels.dtype} {pixels.shape}; a template is RGBA of 8 bits, alpha its mask")
    mask = np.asarray(pixels[..., 3] > 0)
    rgb = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
    return np.asarray(cv2.bitwise_and(rgb, rgb, mask=mask.view(np.uint8))), mask


def read_depth(path: Path, size_hw: tuple[int, int]) -> UInt16[np.ndarray, "h w"]:
    """Counts of millimetres of the rendered mesh.

    Raises:
        InputError: As `decode_depth`; not of the size of its picture.
    """
    depth = decode_depth(path)
    if depth.shape != size_hw:
        raise InputError(f"{path}: is {depth.shape[1]} x {depth.shape[0]} px, its picture {size_hw[1]} x {size_hw[0]}")
    return depth
