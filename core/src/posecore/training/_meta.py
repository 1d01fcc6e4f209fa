"""A checkpoint's meta.json: what the folder holds, with a checksum of each file and of itself."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posecore.training._atomic import digest, write_bytes

FORMAT = (1, 2)
"""Major and minor version; files of an older minor version load, those of a newer one are refused.

1.1: meta.json carries a checksum of itself. 1.2: state.pt has the best values of further metrics.
"""
MODEL, STATE, META = "model.safetensors", "state.pt", "meta.json"


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    complete = meta | {"sha256": _meta_digest(meta)}
    write_bytes(folder / META, json.dumps(complete, indent=2, allow_nan=False).encode())


def damage(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint, None if nothing is."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        if meta["format"] > [1, 0] and meta["sha256"] != _meta_digest(meta):
            return f"{META} does not match its checksum (damaged or changed)"
        expected = {name: entry["sha256"] for name, entry in meta["files"].items()} | {
            MODEL: meta["files"][MODEL]["sha256"]
        }
    except FileNotFoundError:
        return f"{META} is missing"
    except (ValueError, KeyError, TypeError):
        return f"{META} is damaged or half written"
    for name, sha256 in expected.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if digest(folder / name) != sha256:
            return f"{name} does not match its checksum (damaged or half written)"
    return None


def _meta_digest(meta: Mapping[str, Any]) -> str:
    """Of everything but itself, whatever the order and the spaces."""
    rest = {name: value for name, value in meta.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
