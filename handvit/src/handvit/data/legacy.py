"""Members as older tars have them, mapped to today's; and what a sample leaves out."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from handvit.data.members import CHANNELS, LEGACY_FRAMES
from posecore.bodymodel.unpickle import load_list
from posecore.errors import InputError

Arrays = dict[str, Float[np.ndarray, "t ..."]]

OLD_SHAPES = {"joint_valid": (21,), "mano_valid": (), "joint_hand_bbox": (21, 2)}
_OLD_MASK = {"joint_2d_valid": "joint_valid", "joint_3d_valid": "joint_valid", "has_mano": "mano_valid"}
_MASKED = {
    "joint_2d_valid": ("joint_img",),
    "joint_3d_valid": ("joint_cam",),
    "has_mano": ("mano_pose", "mano_shape"),
    "has_intr": ("focal", "princpt"),
}


def complete(arrays: Mapping[str, Float[np.ndarray, "t ..."]], num_frames: int, where: str) -> Arrays:
    """All channels by the names of their members: those given, old ones mapped, missing ones zero under a zero mask.

    `joint_hand_bbox` (joints from the corner of the hand's box) serves where `joint_img` is missing.

    Raises:
        InputError: No hand_bbox; a channel without its mask; a mask of ones without its channel; several frames
            without timestamps.
    """
    if "hand_bbox" not in arrays:
        raise InputError(f"{where}: has no hand_bbox.npy; every sample needs one")
    if "timestamp" not in arrays and num_frames > 1:
        raise InputError(f"{where}: has no timestamp.npy, which a sample of {num_frames} frames needs")
    whole = {name: values for name, values in arrays.items() if name in CHANNELS}
    if "joint_img" not in whole and "joint_hand_bbox" in arrays:
        whole["joint_img"] = arrays["joint_hand_bbox"] + arrays["hand_bbox"][:, None, :2]
    for mask, channels in _MASKED.items():
        whole[mask] = _mask(mask, channels, whole, arrays, num_frames, where)
    for name, (_, shape) in CHANNELS.items():
        whole.setdefault(name, np.zeros((num_frames, *shape), np.float32))
    return whole


def read_legacy_frames(data: bytes, where: str) -> list[bytes]:
    """The pictures of `img_bytes.pickle`: a list of bytes, or of arrays of bytes as OpenCV encodes them.

    Raises:
        InputError: Not such a list, or it names anything that would have to be executed.
    """
    name = f"{where}: {LEGACY_FRAMES}"
    frames = load_list(data, name)
    for number, frame in enumerate(frames):
        if isinstance(frame, np.ndarray) and frame.dtype == np.uint8:
            frames[number] = frame.tobytes()
        elif not isinstance(frame, bytes):
            raise InputError(f"{name}: entry {number} is a {type(frame).__name__}; expected the bytes of a picture")
    return frames


def _mask(
    mask: str,
    channels: tuple[str, ...],
    whole: Arrays,
    arrays: Mapping[str, Float[np.ndarray, "t ..."]],
    num_frames: int,
    where: str,
) -> Float[np.ndarray, "t ..."]:
    missing = [channel for channel in channels if channel not in whole]
    old = _OLD_MASK.get(mask)
    if mask in whole:
        if missing and whole[mask].any():
            raise InputError(f"{where}: {mask} is not zero, but there is no {missing[0]}.npy")
        return whole[mask]
    if missing:
        return np.zeros((num_frames, *CHANNELS[mask].shape), np.float32)
    if old is None:
        return np.ones(num_frames, np.float32)
    if old not in arrays:
        raise InputError(f"{where}: has {channels[0]}.npy, but neither {mask}.npy nor {old}.npy says where it is valid")
    return arrays[old]
