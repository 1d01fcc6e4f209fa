"""Which files make up a sample of a shard, and what each of them holds."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from posecore.errors import InputError


class Channel(NamedTuple):
    """An array member `name.npy`, float32 [T, *shape]."""

    field: str
    """Its name in `ClipRecord`."""
    shape: tuple[int, ...]


CHANNELS = {
    "hand_bbox": Channel("hand_bbox", (4,)),
    "joint_img": Channel("joint_img", (21, 2)),
    "joint_cam": Channel("joint_cam_mm", (21, 3)),
    "joint_2d_valid": Channel("joint_2d_valid", (21,)),
    "joint_3d_valid": Channel("joint_3d_valid", (21,)),
    "has_mano": Channel("has_mano", ()),
    "has_intr": Channel("has_intr", ()),
    "mano_pose": Channel("mano_pose", (48,)),
    "mano_shape": Channel("mano_shape", (10,)),
    "timestamp": Channel("timestamp_ms", ()),
    "focal": Channel("focal", (2,)),
    "princpt": Channel("princpt", (2,)),
}
MASKS = ("joint_2d_valid", "joint_3d_valid", "has_mano", "has_intr")
TEXTS = ("handedness", "data_source", "source_split", "intr_type")
NOTES = ("imgs_path", "source_index", "additional_desc")
"""JSON lists with an entry for each frame; training does not read them."""
LEGACY_FRAMES = "img_bytes.pickle"

_FRAME = re.compile(r"frame_(\d+)\.(webp|jpe?g|png)")


def frame_members(members: Sequence[str], where: str) -> list[str]:
    """The pictures of a sample in their order; none where they lie in `img_bytes.pickle`.

    Raises:
        InputError: One is missing or double, or formats are mixed.
    """
    found = sorted((int(match[1]), name) for name in members if (match := _FRAME.fullmatch(name)))
    numbers = [number for number, _ in found]
    if numbers != list(range(len(found))):
        expected = next(i for i, number in enumerate([*numbers, -1]) if i != number)
        raise InputError(
            f"{where}: {len(found)} frames, but frame_{expected:04d} is missing or there twice; "
            "frames are numbered from frame_0000 on"
        )
    endings = {name.rpartition(".")[2] for _, name in found}
    if len(endings) > 1:
        raise InputError(f"{where}: frames in several formats ({', '.join(sorted(endings))}); one is needed")
    return [name for _, name in found]
