"""The part of a picture that a patch needs, averaged over blocks where the patch is much smaller.

Convention: a picture averaged over blocks of f pixels has its pixel i where the picture has f i + (f - 1) / 2. Blocks
are powers of two counted from the picture's corner, as JPEG files are decoded at a half, a quarter or an eighth of
their size, so the same file gives the same region whether it was decoded before or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from handvit.data.geometry import apply_homography, behind
from handvit.data.jpeg_rows import first_rows
from posecore.data.headers import read_header
from posecore.data.images import decode_image
from posecore.errors import InputError

MARGIN = 2
"""Pixels of the region around what bilinear sampling touches."""
LARGEST_SHRINKING = 2.0
"""Bilinear sampling skips pixels where the patch shrinks by more."""
JPEG_BLOCKS = {1: 0, 2: 16, 4: 32, 8: 64}
"""OpenCV's IMREAD_REDUCED_COLOR flags without the bit of BGR order; 1: the whole size."""

_IDENTITY = np.eye(3)
_REACH = np.array([[-MARGIN], [1 + MARGIN]])

Pixels = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Picture:
    """A picture that may still be encoded; its size is known either way."""

    name: str
    width: int
    height: int
    content: bytes | Pixels
    is_jpeg: bool = False

    @classmethod
    def open(cls, content: bytes | np.ndarray, name: str) -> "Picture":
        """Raises InputError where the pixels are no RGB uint8; bytes that are no picture tell when they are decoded."""
        if isinstance(content, np.ndarray):
            if content.dtype != np.uint8 or content.ndim != 3 or content.shape[2] != 3 or content.size == 0:
                raise InputError(
                    f"{name}: is {content.dtype} of shape {content.shape}; a picture is uint8 RGB of shape (h, w, 3)"
                )
            return cls(name, content.shape[1], content.shape[0], content)
        header = read_header(content)
        if header is None:
            pixels = decode_image(content, name)  # raises the error that says what is wrong
            return cls(name, pixels.shape[1], pixels.shape[0], pixels)
        is_plain_jpeg = header.format == "JPEG" and header.channels < 4 and header.bits == 8 and header.is_complete
        return cls(name, header.width, header.height, content, is_plain_jpeg)

    def decoded(self, block: int, rows: int | None = None) -> tuple[Pixels, int]:
        """The pixels, averaged over blocks of at most `block`, and over how many they are.

        Args:
            rows: Of the picture; those below them may be missing.

        Raises:
            InputError: As `decode_image`; the file has an EXIF orientation, so labels' pixels are ambiguous.
        """
        if isinstance(self.content, np.ndarray):
            return self.content, 1
        done, height = min(block, 8), self.height
        if self.is_jpeg:
            encoded, part = first_rows(self.content, self.height if rows is None else rows)
            height = self.height if part is None else part
            pixels = cv2.imdecode(encoded, JPEG_BLOCKS[done] | cv2.IMREAD_COLOR_RGB)
            if pixels is None:
                raise InputError(f"{self.name}: is damaged and cannot be decoded; copy it again")
        else:
            pixels, done = decode_image(self.content, self.name), 1
        if pixels.shape[:2] != (-(-height // done), -(-self.width // done)):
            raise InputError(
                f"{self.name}: is stored as {self.width} x {self.height} px but its EXIF orientation turns it; "
                "save it upright without one"
            )
        return np.asarray(pixels), done


def cut_regions(
    pictures: Sequence[Picture],
    patch_from_image: Float[np.ndarray, "t 3 3"],
    patch_size: int,
    *,
    antialias: bool = True,
    sample: bool = False,
) -> tuple[tuple[Pixels, ...], Float[np.ndarray, "t 3 3"]]:
    """What each patch needs of its picture, and patch_from_region.

    A patch that sees beyond the horizon of a turned camera keeps the whole picture; one that sees nothing of the
    picture gets one black pixel.

    Args:
        sample: Make each region the patch itself, sampled here and rounded to 8 bits: a fraction of the bytes for other
            processes and for the device. Patches that see beyond the horizon are left to the device.
    """
    image_from_patch = np.linalg.inv(patch_from_image)
    low, high = -0.5, patch_size - 0.5
    edges = np.array([[low, low], [high, low], [high, high], [low, high]])
    seen = np.asarray(~behind(image_from_patch, edges).any(-1))
    corners = np.zeros((len(seen), 4, 2))
    corners[seen] = apply_homography(image_from_patch[seen], edges)
    blocks = block_sizes(corners, patch_size) if antialias else np.ones(len(corners), np.int64)
    sizes = np.array([[picture.width, picture.height] for picture in pictures])
    spans = _spans(corners, blocks, sizes)
    spans[~seen, 0], spans[~seen, 1], blocks[~seen] = 0, sizes[~seen], 1
    maps = patch_from_image @ image_from_region(spans[:, 0], blocks)
    regions = []
    for i, picture in enumerate(pictures):
        region = _cut(picture, spans[i], int(blocks[i]))
        if sample and seen[i]:
            region = _warp(region, maps[i], patch_size)
            maps[i] = _IDENTITY
        regions.append(region if region.base is None else region.copy())  # the rest of the picture is let go
    return tuple(regions), maps


def _warp(region: Pixels, patch_from_region: Float[np.ndarray, "3 3"], size: int) -> Pixels:
    """Twice as fast where the patch is a plain crop, with the same pixels."""
    if (patch_from_region[2] == (0, 0, 1)).all():
        return np.asarray(cv2.warpAffine(region, patch_from_region[:2], (size, size), flags=cv2.INTER_LINEAR))
    return np.asarray(cv2.warpPerspective(region, patch_from_region, (size, size), flags=cv2.INTER_LINEAR))


def block_sizes(corners: Float[np.ndarray, "t 4 2"], patch_size: int) -> Int[np.ndarray, " t"]:
    """The largest power of two by which the patch shrinks on average; 1 below `LARGEST_SHRINKING`."""
    diagonals = corners[:, 2:] - corners[:, :2]
    area = np.abs(diagonals[:, 0, 0] * diagonals[:, 1, 1] - diagonals[:, 0, 1] * diagonals[:, 1, 0]) / 2
    shrinking = np.sqrt(area) / patch_size
    exponent = np.floor(np.log2(np.maximum(shrinking, 1.0)))
    return np.where(shrinking > LARGEST_SHRINKING, 2.0**exponent, 1.0).astype(np.int64)


def image_from_region(first: Int[np.ndarray, "t 2"], block: Int[np.ndarray, " t"]) -> Float[np.ndarray, "t 3 3"]:
    """Pixels of the pictures from those of regions that begin at these blocks."""
    matrices = np.zeros((len(first), 3, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = block
    matrices[:, :2, 2] = block[:, None] * first + (block[:, None] - 1) / 2
    matrices[:, 2, 2] = 1
    return matrices


def _spans(
    corners: Float[np.ndarray, "t 4 2"], blocks: Int[np.ndarray, " t"], sizes: Int[np.ndarray, "t 2"]
) -> Int[np.ndarray, "t 2 2"]:
    """First block and end block of each axis, within the picture."""
    block = blocks[:, None]
    last = -(-sizes // block)
    spans = np.stack([np.floor(corners.min(1) / block), np.ceil(corners.max(1) / block)], 1)
    last = last[:, None]
    # minimum and maximum: `clip` takes three times as long, and this is asked for every clip that is loaded
    spans = np.minimum(np.maximum(spans, -1), last) + _REACH
    return np.asarray(np.minimum(np.maximum(spans, 0), last).astype(np.int64))


def _cut(picture: Picture, span: Int[np.ndarray, "2 2"], block: int) -> Pixels:
    (left, top), (right, bottom) = span.tolist()
    if right <= left or bottom <= top:
        return np.zeros((1, 1, 3), np.uint8)
    pixels, done = picture.decoded(block, bottom * block)
    rest = block // done
    part = pixels[top * rest : bottom * rest, left * rest : right * rest]
    if rest == 1:
        return part
    width, height = (right - left) * rest, (bottom - top) * rest
    padding = (0, height - part.shape[0], 0, width - part.shape[1])
    if any(padding):  # the picture ends within its last blocks; JPEG repeats its border there too
        part = cv2.copyMakeBorder(part, *padding, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(part, (right - left, bottom - top), interpolation=cv2.INTER_AREA))


def open_pictures(contents: Sequence[bytes | np.ndarray], key: str) -> tuple[Picture, ...]:
    """Pictures named by the sample's key and their place in the clip."""
    return tuple(Picture.open(content, f"{key}: frame {i}") for i, content in enumerate(contents))
