"""Storing only what lies around a hand: the square crop of each frame, with camera and labels of the stored picture.

The crop is `geometry.crop_matrix` of the square patch box, the same map by which patches are cut, so a sample prepared
from a crop is the sample prepared from the whole picture, up to interpolation.
"""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from handvit.data import geometry
from handvit.data.camera_chain import check_frames
from handvit.data.records import ClipRecord
from handvit.data.region import open_pictures
from posecore.data.images import crop_and_resize, encode_jpeg, encode_png
from posecore.errors import InputError

LARGEST_CROP_PX = 4096


@dataclass(frozen=True)
class CropStorage:
    """How `--crop 256 --margin 3.0` stores frames."""

    size_px: int = 256
    """Side of the stored picture."""
    margin: float = 3.0
    """Side of the crop over the longer side of the hand's box."""
    frame_format: Literal["jpg", "png", "webp"] = "jpg"
    """png loses nothing, jpg and webp take a quality."""
    quality: int = 95
    """1..100."""

    def __post_init__(self) -> None:
        problems = []
        if not 8 <= self.size_px <= LARGEST_CROP_PX:
            problems.append(f"crop is {self.size_px}; the stored side lies between 8 and {LARGEST_CROP_PX} px")
        if not 1 <= self.margin <= 100:
            problems.append(f"margin is {self.margin:g}; it lies between 1 (the box alone) and 100 box sides")
        if not 1 <= self.quality <= 100:
            problems.append(f"quality is {self.quality}; it lies between 1 and 100")
        if problems:
            raise InputError(problems)


def crop_record(record: ClipRecord, storage: CropStorage) -> ClipRecord:
    """The record with cropped frames; `meta` gets `crop` with the matrix of each frame, stored from original pixels.

    What the picture does not show is black. A record that was cropped before keeps the product of both matrices.

    Raises:
        InputError: A frame that cannot be decoded, a box without area or outside its picture, no focal length.
    """
    pictures = [picture.decoded(1)[0] for picture in open_pictures(record.frames, record.key)]
    if len(pictures) != len(record.hand_bbox):
        raise InputError(f"{record.key}: has {len(pictures)} frames for {len(record.hand_bbox)} boxes")
    box, focal, princpt, joint_img = (
        np.asarray(values, np.float64) for values in (record.hand_bbox, record.focal, record.princpt, record.joint_img)
    )
    size_wh = np.array([picture.shape[1::-1] for picture in pictures], np.float64)
    check_frames(record.key, box, focal, princpt, size_wh)
    square = geometry.square_patch_box(box, storage.margin)
    crop = geometry.crop_matrix(square, storage.size_px)
    K = crop @ geometry.intrinsics_matrix(focal, princpt)
    moved = geometry.apply_homography(crop, joint_img)
    return replace(
        record,
        frames=[_encode(_cropped(*pair, storage), storage) for pair in zip(pictures, square, strict=True)],
        frame_format=storage.frame_format,
        hand_bbox=geometry.warp_box(crop, box).astype(np.float32),
        focal=np.stack([K[:, 0, 0], K[:, 1, 1]], -1).astype(np.float32),
        princpt=K[:, :2, 2].astype(np.float32),
        joint_img=np.where(record.joint_2d_valid[..., None] > 0, moved, 0.0).astype(np.float32),
        meta={**record.meta, "crop": _described(record, crop, size_wh, storage)},
    )


def _cropped(
    picture: UInt8[np.ndarray, "h w 3"], square: Float[np.ndarray, " 4"], storage: CropStorage
) -> UInt8[np.ndarray, "size size 3"]:
    """posecore counts a box from the centre of its first pixel, half a pixel right of its edge."""
    x1, y1, x2, y2 = square
    box_xywh = (x1 + 0.5, y1 + 0.5, x2 - x1, y2 - y1)
    return crop_and_resize(picture, box_xywh, (storage.size_px, storage.size_px))


def _encode(pixels: UInt8[np.ndarray, "h w 3"], storage: CropStorage) -> bytes:
    if storage.frame_format == "jpg":
        return encode_jpeg(pixels, storage.quality)
    if storage.frame_format == "png":
        return encode_png(pixels)
    options = [cv2.IMWRITE_WEBP_QUALITY, storage.quality]
    done, encoded = cv2.imencode(".webp", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise RuntimeError(f"OpenCV cannot write {pixels.shape} as WebP")
    return bytes(encoded.tobytes())


def _described(
    record: ClipRecord,
    crop: Float[np.ndarray, "t 3 3"],
    size_wh: Float[np.ndarray, "t 2"],
    storage: CropStorage,
) -> dict[str, object]:
    before = record.meta.get("crop")
    original = size_wh.astype(int).tolist()
    if before is not None:
        crop, original = crop @ np.asarray(before["stored_from_original"]), before["original_size_wh"]
    return {
        "size_px": storage.size_px,
        "margin": storage.margin,
        "stored_from_original": crop.tolist(),
        "original_size_wh": original,
    }
