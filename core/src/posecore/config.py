"""Configurations: frozen pydantic models read from JSON files that may extend one another, with dotted overrides.

Precedence, highest first: overrides, the file, the files it `extends` (the last named wins), the model's defaults.
Everything is checked before anything else is loaded; each problem is one line that names file, field, value and
what would be right.
"""

import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from posecore.errors import InputError

JsonDict = dict[str, Any]
ConfigT = TypeVar("ConfigT", bound="Config")

MAX_CONFIG_BYTES = 4 * 2**20
"""A configuration larger than this is some other file."""


class Config(BaseModel):
    """Base of every configuration: frozen, unknown keys are errors, field docstrings become help and schema text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    presets: ClassVar[Path | None] = None
    """Folder of the JSON files shipped with the package; a bare file name that is no file is looked up there."""

    @model_validator(mode="before")
    @classmethod
    def _kind_of_the_default(cls, data: Any) -> Any:
        """A part that leaves out its `kind` is of the kind that the field's default has."""
        if not isinstance(data, dict):
            return data
        filled = dict(data)
        for name, field in cls.model_fields.items():
            kind = getattr(field.default, "kind", None)
            part = data.get(name)
            if isinstance(field.default, Config) and isinstance(kind, str) and isinstance(part, dict):
                filled[name] = {"kind": kind} | part
        return filled

    def to_json_dict(self) -> JsonDict:
        """The resolved configuration as plain JSON types."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls: type[ConfigT], data: Mapping[str, Any], source: str = "config") -> ConfigT:
        """Check plain data.

        Raises:
            InputError: One line for each wrong field, each beginning with `source`.
        """
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise InputError([f"{source}: {line}" for line in _explain(cls, error)]) from None


def load_config(cls: type[ConfigT], path: Path | str, overrides: Sequence[str] = ()) -> ConfigT:
    """Read a JSON configuration, merge what it extends, apply `key.path=value` overrides and check the result.

    Args:
        path: A file, or the bare name of a preset shipped with the package of `cls`.
        overrides: Each `dotted.key=value`; the value is JSON, or text where it is no JSON; it
            replaces what stood there.

    Raises:
        InputError: A missing file, broken JSON, a cycle of `extends`, an unknown key, a wrong value.
    """
    file = find_config(path, cls.presets)
    data = read_json_config(file)
    for override in overrides:
        _apply_override(data, override)
    return cls.from_dict(data, str(file))


def find_config(path: Path | str, presets: Path | None) -> Path:
    """The file itself, or the preset of that name (with or without `.json`)."""
    file = Path(path)
    if file.is_file():
        return file
    names: list[str] = []
    if presets is not None and file.parent == Path():
        for candidate in (presets / file.name, presets / f"{file.name}.json"):
            if candidate.is_file():
                return candidate
        names = preset_names(presets)
    if file.is_dir():
        raise InputError(f"{path}: is a folder; a JSON file is needed")
    known = f"; presets are {', '.join(names)}" if names else ""
    raise InputError(f"{path}: no such configuration file{known}{_did_you_mean(file.name, names)}")


def preset_names(presets: Path) -> list[str]:
    """Names of the shipped configurations, sorted."""
    return sorted(file.name for file in presets.glob("*.json") if not file.name.endswith(".schema.json"))


def read_json_config(file: Path, chain: tuple[Path, ...] = ()) -> JsonDict:
    """Read a JSON object and merge it over the files that its `extends` names (paths relative to the file)."""
    file = file.resolve()
    if file in chain:
        raise InputError(f"{chain[0]}: extends runs in a circle: {' -> '.join(p.name for p in (*chain, file))}")
    data = _parse(file)
    data.pop("$schema", None)
    parents = data.pop("extends", [])
    merged: JsonDict = {}
    for parent in [parents] if isinstance(parents, str) else parents:
        if not isinstance(parent, str):
            raise InputError(f"{file}: extends: {parent!r} is no file name; a string or a list of strings is needed")
        parent_file = file.parent / parent
        if not parent_file.is_file():
            raise InputError(f"{file}: extends: {parent_file}: no such file")
        merged = merge(merged, read_json_config(parent_file, (*chain, file)))
    return merge(merged, data)


def merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> JsonDict:
    """Merge nested dicts; lists and plain values are replaced. A change of `kind` starts that part afresh."""
    merged = dict(base)
    for key, value in update.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and value.get("kind", old.get("kind")) == old.get("kind"):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def json_schema(cls: type[Config]) -> JsonDict:
    """The JSON Schema that editors complete from, with the keys that only files have (`extends`, `$schema`)."""
    schema = cls.model_json_schema()
    file_keys: JsonDict = {
        "$schema": {"type": "string"},
        "extends": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "Files that this one is merged over, relative to it; the last named wins.",
        },
    }
    schema["properties"] = file_keys | schema.get("properties", {})
    return schema


def _parse(file: Path) -> JsonDict:
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise InputError(f"{file}: {file.stat().st_size} bytes is no configuration (at most {MAX_CONFIG_BYTES})")
        data = json.loads(
            file.read_text(encoding="utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant
        )
    except json.JSONDecodeError as error:
        raise InputError(f"{file}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: not a text file (UTF-8 is needed)") from None
    except RecursionError:
        raise InputError(f"{file}: nested too deeply") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"{file}: holds a {type(data).__name__}; a JSON object {{...}} is needed")
    return data


def _no_duplicates(pairs: list[tuple[str, Any]]) -> JsonDict:
    seen: JsonDict = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key {key!r} stands twice in one object")
        seen[key] = value
    return seen


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number that JSON or a configuration knows")


def _apply_override(data: JsonDict, override: str) -> None:
    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise InputError(f"--set {override}: should read dotted.key=value, for example optimizer.learning_rate=1e-4")
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except ValueError:
        value = text
    target = data
    for depth, key in enumerate(keys[:-1], 1):
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise InputError(f"--set {override}: {'.'.join(keys[:depth])} is a value, it has no fields")
    last = keys[-1]
    old = target.get(last)
    if isinstance(old, dict) and isinstance(value, dict) and "kind" not in value:
        target[last] = value if "kind" not in old else merge(old, value)
    elif last == "kind" and target.get("kind") != value:
        target.clear()
        target["kind"] = value
    else:
        target[last] = value


def _explain(cls: type[Config], error: ValidationError) -> list[str]:
    lines = [_explain_one(cls, detail) for detail in error.errors()]
    return list(dict.fromkeys(lines))


def _explain_one(cls: type[Config], detail: ErrorDetails) -> str:
    keys, model = _readable_location(cls, detail["loc"])
    where = ".".join(keys)
    if detail["type"] == "extra_forbidden":
        fields = list(_models_fields(model))
        parent = [*keys[:-1], ""]
        hint = _did_you_mean(keys[-1], [*fields], ".".join(parent))
        return f"{where}: no such field{hint}" if hint else f"{where}: no such field; known here: {', '.join(fields)}"
    if detail["type"] == "missing":
        return f"{where}: is missing and has no default"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{where}: {message}" if where else message
    value = detail["input"]
    shown = json.dumps(value, default=str) if not isinstance(value, BaseModel) else type(value).__name__
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"{where}: {message[:1].lower()}{message[1:]}, not {shown}"


def _readable_location(
    cls: type[BaseModel], location: Iterable[int | str]
) -> tuple[list[str], Sequence[type[BaseModel]]]:
    """Keys as the file has them (the tags of unions dropped), and the models that the last key was looked up in."""
    keys: list[str] = []
    models: list[type[BaseModel]] = [cls]
    parts = list(location)
    for position, part in enumerate(parts):
        annotations = [
            m.model_fields[part].annotation for m in models if isinstance(part, str) and part in m.model_fields
        ]
        if not annotations:
            tagged = [m for m in models if isinstance(part, str) and _is_tag(m, part)]
            if tagged and keys:
                models = tagged
                continue
            keys.append(str(part))
            continue
        keys.append(str(part))
        if position < len(parts) - 1:
            models = [m for a in annotations for m in _models_in(a)]
    return keys, models


def _is_tag(model: type[BaseModel], tag: str) -> bool:
    kind = model.model_fields.get("kind")
    return model.__name__ == tag or (kind is not None and tag in get_args(kind.annotation))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, list, tuple, dict, typing.Annotated):
        return [m for a in get_args(annotation) for m in _models_in(a)]
    return []


def _models_fields(models: Sequence[type[BaseModel]]) -> list[str]:
    return sorted({name for model in models for name in model.model_fields})


def _did_you_mean(name: str, known: Sequence[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    contained = [k for k in known if name in k.split("_") or k in name.split("_")]
    guess = close or contained[:1]
    return f"; did you mean {prefix}{guess[0]}?" if guess else ""
