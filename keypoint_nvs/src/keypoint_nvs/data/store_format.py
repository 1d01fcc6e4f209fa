"""What a store of multi-view samples has: one HDF5 file a shard, a group `samples/OBJECT/INDEX` a sample.

Pictures are RGBA uint8 with straight alpha, channels first; cameras are OpenCV's with pixel centres at integers.
"""

from dataclasses import dataclass
from typing import Any

from posecore.errors import InputError

FORMAT, VERSION = "keypoint-nvs/multiview", 1
RIGS = ("zero123plus-v1.1", "zero123plus-v1.2", "free")
"""free: each sample has cameras of its own."""
TARGETS = 6
"""Target views of a sample, where the file's attribute `num_targets` does not tell another number (rigs of one's own)."""
SAMPLES = "samples"
SAMPLE_IDS = "sample_ids"
"""A column of OBJECT/INDEX in the order in which samples count. Not every writer makes it: without it they are looked for."""
PICTURES = ("cond_imgs", "target_imgs")
PAIRS = (
    ("cond_cam_from_world", "cond_K"),
    ("target_cam_from_world", "target_K"),
    ("keypoints_world", "keypoints_visible"),
)
"""A sample has both or neither."""


@dataclass(frozen=True)
class StoreHeader:
    """What all samples of a shard, and all shards of a set, share."""

    rig: str
    height: int
    width: int
    num_targets: int = TARGETS

    def shapes(self) -> dict[str, tuple[int | str, ...]]:
        """Of each key; J stands for any number of keypoints."""
        views, size = self.num_targets, (4, self.height, self.width)
        return {
            "cond_imgs": size,
            "target_imgs": (views, *size),
            "cond_cam_from_world": (4, 4),
            "target_cam_from_world": (views, 4, 4),
            "cond_K": (3, 3),
            "target_K": (views, 3, 3),
            "keypoints_world": ("J", 3),
            "keypoints_visible": (views + 1, "J"),
        }


DTYPES = {
    "cond_imgs": "uint8",
    "target_imgs": "uint8",
    "cond_cam_from_world": "float32",
    "target_cam_from_world": "float32",
    "cond_K": "float32",
    "target_K": "float32",
    "keypoints_world": "float32",
    "keypoints_visible": "uint8",
}


def header_of(attributes: dict[str, Any], where: str) -> StoreHeader:
    """The header that a file's attributes make.

    Raises:
        InputError: Not a store, of another version, or an attribute is missing or out of bounds; names it.
    """
    found = attributes.get("format")
    if found != FORMAT:
        raise InputError(f"{where}: attribute format is {found!r}, a store of views has {FORMAT!r}")
    if attributes.get("version") != VERSION:
        raise InputError(f"{where}: attribute version is {attributes.get('version')!r}; version {VERSION} is read")
    rig = attributes.get("rig")
    if rig not in RIGS:
        raise InputError(f"{where}: attribute rig is {rig!r}; it is one of {', '.join(RIGS)}")
    height, width, num_targets = (
        _count(value, f"{where}: attribute {name}")
        for name, value in (
            ("height", attributes.get("height")),
            ("width", attributes.get("width")),
            ("num_targets", attributes.get("num_targets", TARGETS)),
        )
    )
    if rig != "free" and num_targets != TARGETS:
        raise InputError(f"{where}: attribute num_targets is {num_targets}; rig {rig} has {TARGETS} views")
    alpha = attributes.get("alpha", "straight")
    if alpha != "straight":
        raise InputError(f"{where}: attribute alpha is {alpha!r}; colours must be straight, not multiplied by alpha")
    return StoreHeader(rig, height, width, num_targets)


def _count(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{where} is {value!r}; it is a whole number from 1 on")
    return value
