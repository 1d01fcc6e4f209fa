"""Moving pictures: GIF and MP4 files."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from keypoint_nvs.draw.canvas import AnyPicture
from posecore.errors import InputError

GIF_FASTEST_FPS = 50.0
"""Of two hundredths of a second a frame; programs show quicker ones slowly."""
PALETTE_FRAMES = 8
MP4_QUALITY = 18
"""x264's constant rate factor: 18 looks like the original, 23 is its default."""


def write_gif(path: Path, frames: Sequence[AnyPicture], fps: float) -> None:
    """A GIF that begins again at its end.

    A frame lasts whole hundredths of a second; they are spread so that the film as a whole has the right length.

    Raises:
        InputError: fps is not above 0 and at most 50.
        ValueError: No frames, or frames of different sizes.
    """
    if not 0 < fps <= GIF_FASTEST_FPS:
        raise InputError(f"{path}: {fps:g} frames a second; a GIF has above 0 and at most {GIF_FASTEST_FPS:g}, use MP4")
    _check_sizes(path, frames)
    ends = np.round(100 * np.arange(1, len(frames) + 1) / fps).astype(int)
    durations_ms = (10 * np.diff(ends, prepend=0)).tolist()
    palette = _common_palette(frames)
    # Pillow joins equal neighbours into one frame and adds up their durations
    pictures = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    unfinished = path.with_name(f".{path.name}.writing")
    pictures[0].save(
        unfinished, format="GIF", save_all=True, append_images=pictures[1:], duration=durations_ms, loop=0, disposal=1
    )
    unfinished.replace(path)


def write_mp4(path: Path, frames: Sequence[AnyPicture], fps: float) -> None:
    """H.264 in MP4, as browsers and slides play it (yuv420p); odd sizes grow by a row or column like the last one.

    Raises:
        InputError: fps is not above 0.
        ValueError: No frames, or frames of different sizes.
    """
    import av  # 0.3 s that --help does not need

    if not fps > 0:
        raise InputError(f"{path}: {fps:g} frames a second; more than 0 are needed")
    _check_sizes(path, frames)
    height, width = frames[0].shape[:2]
    unfinished = path.with_name(f".{path.name}.writing")
    with av.open(str(unfinished), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        stream.options = {"crf": str(MP4_QUALITY), "movflags": "+faststart"}
        for frame in frames:
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode(None))
    unfinished.replace(path)


def _common_palette(frames: Sequence[AnyPicture]) -> Image.Image:
    """256 colours of a few frames: one palette for all neither flickers nor takes its time for each."""
    some = [frames[i] for i in np.linspace(0, len(frames) - 1, min(len(frames), PALETTE_FRAMES)).astype(int)]
    return Image.fromarray(np.concatenate(some)).quantize(256, Image.Quantize.MEDIANCUT)


def _check_sizes(path: Path, frames: Sequence[AnyPicture]) -> None:
    if not frames:
        raise ValueError(f"{path}: there are no frames")
    sizes = {frame.shape for frame in frames}
    if len(sizes) > 1:
        raise ValueError(f"{path}: frames have sizes {sorted(sizes)}; all must have the same")
