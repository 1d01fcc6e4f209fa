"""From a path or a hub's name to a folder on this disk."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from keypoint_nvs.model.folder_files import INDEX, LIBRARY, PROMPT_FILE, VISION, candidates
from posecore.errors import InputError

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
PAGE = "https://huggingface.co"
Layout = Literal["pipeline", "vision"]
"""pipeline: a folder for each component, as diffusers has it; vision: the image encoder of CLIP alone, as transformers has it."""
SMALL_FILES: dict[Layout, list[str]] = {
    "pipeline": [INDEX, "*/config.json", "*/scheduler_config.json", "*/preprocessor_config.json", PROMPT_FILE],
    "vision": ["config.json"],
}


def is_hub_name(name: str | Path) -> bool:
    """Whether it reads ORGANISATION/MODEL and is neither here nor in a folder that is here."""
    path = Path(name)
    return not path.exists() and bool(HUB_NAME.fullmatch(path.as_posix())) and not path.parent.is_dir()


def local_folder(
    name: str | Path, cache: Path | None = None, *, layout: Layout = "pipeline", download: bool = True
) -> Path:
    """A folder that is here, else the hub's repository of that name (org/name), downloaded once and then taken from the cache.

    Only configurations and one weight file of each component are downloaded; nothing of a repository is executed.

    Args:
        cache: Where downloads are kept; None: where all programs of the hub keep them.
        download: False: what the cache lacks is not had.

    Raises:
        InputError: It is neither here nor can be had.
    """
    path = Path(name)
    return _from_hub(path.as_posix(), cache, layout, download) if is_hub_name(path) else path


def _from_hub(repository: str, cache: Path | None, layout: Layout, download: bool) -> Path:
    """The hub's own functions take what is in the cache where it cannot be reached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                repository, allow_patterns=SMALL_FILES[layout], cache_dir=cache, local_files_only=not download
            )
        )
        if download:
            for names in _weight_files(folder, layout):
                _fetch_first(repository, names, folder.name, cache)
    except LocalEntryNotFoundError:
        reach = ", and the hub cannot be reached" if download else ""
        raise InputError(
            f"{repository}: no such folder here, nor in the cache of the hub{reach}; "
            f"give the path of a folder downloaded from {PAGE}/{repository}"
        ) from None
    except (HfHubHTTPError, HFValidationError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{repository}: no such folder here, and the hub refuses the name: {reason}") from None
    return folder


def _weight_files(folder: Path, layout: Layout) -> list[list[str]]:
    """For each component the names that its weights may have, best first."""
    if layout == "vision":
        return [[name for name, _, _ in candidates(VISION)]]
    return [[f"{part}/{name}" for name, _, _ in candidates(part)] for part in LIBRARY if (folder / part).is_dir()]


def _fetch_first(repository: str, names: Sequence[str], revision: str, cache: Path | None) -> None:
    """The first file that the repository has; where it has none, reading the folder will say so."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    for name in names:
        try:
            hf_hub_download(repository, name, revision=revision, cache_dir=cache)
        except EntryNotFoundError:
            continue
        return
