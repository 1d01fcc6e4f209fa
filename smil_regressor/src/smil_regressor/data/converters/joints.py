"""Which joint of the data is which joint of the model."""

import csv
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from posecore.errors import InputError


def match_joints(
    where: str, data_names: Sequence[str], model_names: Sequence[str], lookup: Mapping[str, str] | None = None
) -> Int[np.ndarray, " j"]:
    """For each joint of the model its index in the data, -1 where the data has none.

    lookup: model name to data name; without it equal names match. Raises InputError where nothing matches and where
    the lookup names a joint that model or data lack.
    """
    if lookup is None:
        lookup = {name: name for name in model_names if name in data_names}
        if not lookup:
            raise InputError(
                f"{where}: none of the joints {_some(data_names)} is a joint of the model ({_some(model_names)}); "
                "a joint lookup table with the columns model,data says which is which"
            )
    problems = [_unknown(where, "model", name, model_names) for name in lookup if name not in model_names]
    problems += [_unknown(where, "data", name, data_names) for name in lookup.values() if name not in data_names]
    if problems:
        raise InputError(problems)
    return np.array([data_names.index(lookup[name]) if name in lookup else -1 for name in model_names])


def read_joint_lookup(path: Path) -> dict[str, str]:
    """`joint_lookup.csv`: a header model,data, then a pair a line; no counterpart: an empty data cell."""
    rows = read_csv(path, ("model", "data"))
    pairs = [(row["model"].strip(), row["data"].strip()) for row in rows]
    pairs = [(model, data) for model, data in pairs if model and data]
    for column, names in zip(("model", "data"), zip(*pairs, strict=True), strict=False):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"{path}: {column}: {', '.join(twice)} is there twice; each joint has one counterpart")
    if not pairs:
        raise InputError(f"{path}: no pair of joints in it; lines model,data are expected")
    return dict(pairs)


def read_shape_betas(path: Path) -> dict[str, np.ndarray]:
    """`shape_betas.csv`: label, PC1, PC2, ...: shape coefficients by the name of a session."""
    rows = read_csv(path, ("label", "PC1"))
    betas = {}
    for number, row in enumerate(rows, start=2):
        values = [text for name, text in row.items() if name.startswith("PC")]
        try:
            betas[row["label"].strip()] = np.array(values, dtype=np.float64)
        except ValueError:
            raise InputError(f"{path}: line {number}: numbers PC1, PC2, ... are expected, these are {values}") from None
    return betas


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file with at least these columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = [{name: text or "" for name, text in row.items() if name} for row in reader]
            header = [name.strip() for name in reader.fieldnames or []]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a table with the columns {','.join(columns)} is expected") from None
    missing = [name for name in columns if name not in header]
    if missing:
        raise InputError(f"{path}: the header is {','.join(header)}; columns {','.join(columns)} are expected")
    return rows


def _unknown(where: str, side: str, name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {_some(names)}"
    return f"{where}: joint lookup: {side} joint {name!r} does not exist; {hint}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f", ... ({len(names)})" if len(names) > 6 else "")
