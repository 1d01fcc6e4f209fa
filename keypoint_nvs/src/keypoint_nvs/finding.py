"""Where the files of a configuration are."""

from collections.abc import Sequence
from pathlib import Path

from keypoint_nvs.model.hub import is_hub_name, local_folder
from posecore.errors import InputError

WHERE = {
    "model.weights": "a folder in the layout of diffusers (https://huggingface.co/sudo-ai/zero123plus-v1.2, or Stable "
    "Diffusion), or a run of an earlier stage",
    "keypoints.weights": "a folder in the layout of diffusers, such as Stable Diffusion 1.5 "
    "(https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5)",
    "model.vision_weights": "a folder with the image encoder CLIP ViT-H/14 "
    "(https://huggingface.co/laion/CLIP-ViT-H-14-laion2B-s32B-b79K)",
    "model.unet_weights": "a state dict of the UNet (https://huggingface.co/TencentARC/InstantMesh)",
}

FROM_HUB = ("model.weights", "keypoints.weights", "model.vision_weights")
"""Fields that may name a repository of the hub."""


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


def find_weights(path: Path, field: str, folders: Sequence[Path], *, download: bool = True) -> Path:
    """As `find_path`; where it is nowhere and reads ORGANISATION/MODEL, the hub's repository of that name, from its cache or
    downloaded.

    Args:
        download: False: only what the cache has.

    Raises:
        InputError: It is neither here nor can be had; names the field and what is needed.
    """
    is_here = any((folder / path).parent.is_dir() for folder in folders)
    if field not in FROM_HUB or is_here or not is_hub_name(path):
        return find_path(path, field, folders)
    try:
        return local_folder(path, layout="vision" if field == "model.vision_weights" else "pipeline", download=download)
    except InputError as error:
        raise InputError([f"{field}: {problem}; needed: {WHERE[field]}" for problem in error.problems]) from None


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
