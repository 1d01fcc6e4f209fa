"""Where the files of a configuration are."""

from collections.abc import Sequence
from pathlib import Path

from posecore.errors import InputError

WHERE = {
    "model.weights": "a folder in the layout of diffusers (https://huggingface.co/sudo-ai/zero123plus-v1.2, or Stable "
    "Diffusion), or a run of an earlier stage",
    "keypoints.weights": "a folder in the layout of diffusers, such as Stable Diffusion 1.5",
    "model.vision_weights": "a folder with the image encoder CLIP ViT-H/14 "
    "(https://huggingface.co/laion/CLIP-ViT-H-14-laion2B-s32B-b79K)",
    "model.unet_weights": "a state dict of the UNet (https://huggingface.co/TencentARC/InstantMesh)",
}


def find_path(path: Path, field: str, folders: Sequence[Path]) -> Path:
    """A path that exists, whole: relative ones are looked for in the working folder, then in `folders`.

    Raises:
        InputError: It is nowhere; names the places and what is needed.
    """
    places = [path] if path.is_absolute() else [Path.cwd() / path, *(folder / path for folder in folders)]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        needed = f"; needed: {WHERE[field]}" if field in WHERE else ""
        raise InputError(f"{field}: {path} does not exist (looked for {', '.join(map(str, places))}){needed}")
    return found.resolve()


def find_weights(path: Path, field: str, folders: Sequence[Path]) -> Path:
    """As `find_path`."""
    return find_path(path, field, folders)


def find_data(path: str, folders: Sequence[Path]) -> str:
    """The path of a data set, whole; a glob stays one.

    Raises:
        InputError: There is nothing at it.
    """
    if any(sign in path for sign in "*?["):
        bases = [Path.cwd(), *folders]
        base = (
            next((b for b in bases if any(True for _ in b.glob(path))), None) if not Path(path).is_absolute() else None
        )
        return path if base is None else str(base / path)
    return str(find_path(Path(path), "data", folders))
