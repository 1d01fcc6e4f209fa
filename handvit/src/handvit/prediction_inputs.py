"""The pictures and videos that are asked for, and the names of what is written for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from handvit.video_files import FrameSource, open_folder, open_video
from posecore.errors import InputError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm")


@dataclass(frozen=True)
class Inputs:
    """Files, each with the name of what is written for it."""

    pictures: dict[Path, str]
    sequences: dict[str, FrameSource]


def find_inputs(inputs: Sequence[Path], *, fps: float | None = None, smooth: bool = False) -> Inputs:
    """List pictures and videos; with `fps` a folder is a video.

    Raises:
        InputError: A missing file, a folder without pictures, a kind of file that is not read, an option without use.
    """
    if fps is not None and not fps > 0:
        raise InputError(f"--fps {fps:g}: has to be above 0")
    pictures: list[Path] = []
    sequences: list[FrameSource] = []
    for path in dict.fromkeys(inputs):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        if path.is_dir():
            files = _listed(path)
            if fps is None:
                pictures += files
            else:
                sequences.append(open_folder(path, files, fps))
        elif path.suffix.lower() in PICTURES:
            pictures.append(path)
        elif path.suffix.lower() in VIDEOS:
            sequences.append(open_video(path, fps))
        else:
            raise InputError(f"{path}: neither a picture ({', '.join(PICTURES)}) nor a video ({', '.join(VIDEOS)})")
    if not sequences and (smooth or fps is not None):
        option = "--smooth" if smooth else "--fps"
        raise InputError(f"{option}: is for videos, and for folders of numbered pictures with --fps; there is none")
    pictures = list(dict.fromkeys(pictures))
    names = distinct_names([*pictures, *(source.path for source in sequences)])
    named = dict(zip(names[len(pictures) :], sequences, strict=True))
    return Inputs(dict(zip(pictures, names, strict=False)), named)


def distinct_names(files: Sequence[Path]) -> list[str]:
    """Names for what is written: the files' own, with folder or number in front where they repeat, whatever the case."""
    names = [file.stem for file in files]
    if _repeat(names):
        names = [f"{file.absolute().parent.name}_{file.stem}" for file in files]
    if _repeat(names):
        names = [f"{number:06d}_{file.stem}" for number, file in enumerate(files)]
    return names


def _repeat(names: Sequence[str]) -> bool:
    return len({name.lower() for name in names}) < len(names)


def _listed(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names; frame_2 comes before frame_10."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith(".")]
    if not files:
        raise InputError(f"{folder}: no picture in it ({', '.join(PICTURES)})")
    return sorted(files, key=lambda file: (_numbered(file.stem), file.name))


def _numbered(stem: str) -> list[tuple[int, str]]:
    """Text and numbers in turn, to be compared as such."""
    parts: list[tuple[int, str]] = []
    for character in stem:
        if character.isascii() and character.isdigit():
            if parts and parts[-1][1] == "":
                parts[-1] = (parts[-1][0] * 10 + int(character), "")
            else:
                parts.append((int(character), ""))
        else:
            parts.append((-1, character))
    return parts
