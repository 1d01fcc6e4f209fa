"""From a path or a hub's name to a folder on this disk."""

import re
from pathlib import Path

from keypoint_nvs.model.folder_files import INDEX, LIBRARY, PROMPT_FILE, candidates
from posecore.errors import InputError

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
SMALL_FILES = [INDEX, "*/config.json", "*/scheduler_config.json", "*/preprocessor_config.json", PROMPT_FILE]


def local_folder(name: str | Path, cache: Path | None = None) -> Path:
    """A folder that is here, else the hub's repository of that name (org/name), downloaded once and then taken from the cache.

    Only configurations and one weight file of each component are downloaded; nothing of a repository is executed.

    Args:
        cache: Where downloads are kept; None: where all programs of the hub keep them.

    Raises:
        InputError: It is neither here nor can be had.
    """
    path = Path(name)
    if path.exists() or not HUB_NAME.fullmatch(path.as_posix()):
        return path
    return _from_hub(path.as_posix(), cache)


def _from_hub(repository: str, cache: Path | None) -> Path:
    """The hub's own functions take what is in the cache where it cannot be reached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, allow_patterns=SMALL_FILES, cache_dir=cache))
    except LocalEntryNotFoundError:
        raise InputError(
            f"{repository}: no such folder here, nor in the cache of the hub, and the hub cannot be reached; "
            "give the path of a downloaded folder"
        ) from None
    except (HfHubHTTPError, HFValidationError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{repository}: no such folder here, and the hub refuses the name: {reason}") from None
    for component in LIBRARY:
        if (folder / component).is_dir():
            _fetch_weights(repository, component, folder.name, cache)
    return folder


def _fetch_weights(repository: str, component: str, revision: str, cache: Path | None) -> None:
    """The best file that the repository has; where it has none, reading the folder will say so."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    for name, _, _ in candidates(component):
        try:
            hf_hub_download(repository, f"{component}/{name}", revision=revision, cache_dir=cache)
        except EntryNotFoundError:
            continue
        return
