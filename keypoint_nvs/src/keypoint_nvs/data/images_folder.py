"""Single pictures of a folder, for keypoints without novel views."""

import glob
from pathlib import Path

import numpy as np

from keypoint_nvs.data.batch import ViewSample
from keypoint_nvs.data.rgba_images import SUFFIXES, made_square, read_rgba, resized
from posecore.errors import InputError


def find_pictures(where: str) -> tuple[Path, list[Path]]:
    """A folder and the pictures in it and its subfolders, or those of a glob; in order of their paths.

    Hidden files are left out.

    Raises:
        InputError: There are none.
    """
    path = Path(where)
    if any(mark in where for mark in "*?["):
        plain = [part for part in path.parts[: next(i for i, p in enumerate(path.parts) if _is_magic(p))]]
        root, candidates = Path(*plain), [Path(name) for name in glob.glob(where, recursive=True)]
    else:
        root, candidates = path, list(path.rglob("*")) if path.is_dir() else []
    found = sorted(p for p in candidates if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())
    if not found:
        what = "no picture there" if path.is_dir() or root != path else "no such folder"
        raise InputError(f"{where}: {what} ({', '.join(SUFFIXES)} are read)")
    return root, found


class ImageFolder:
    """Each picture is one sample: a single target view without cameras and without an input view.

    Args:
        path: A folder, searched through, or a glob.
        image_px: Side of the square pictures that come out.
        fit: exact, centre_crop or pad: what becomes of pictures that are not square.

    Raises:
        InputError: There is no picture.
    """

    def __init__(self, path: str, image_px: int, fit: str = "exact") -> None:
        self.root, self.paths = find_pictures(path)
        self.image_px, self.fit = image_px, fit
        self.sample_ids = tuple(path.relative_to(self.root).as_posix() for path in self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int, rng: np.random.Generator) -> ViewSample:
        """
        Raises:
            InputError: The picture cannot be read or is not square; names it.
        """
        path = self.paths[index]
        rgba = resized(made_square(read_rgba(path), self.fit, str(path)), self.image_px)
        return ViewSample(
            sample_id=self.sample_ids[index],
            seed=int(rng.integers(2**63)),
            cond_imgs=None,
            target_imgs=np.ascontiguousarray(rgba[None]),
            target_cam_from_world=None,
            target_K=None,
        )


def _is_magic(part: str) -> bool:
    return any(mark in part for mark in "*?[")
