"""Writes samples as WebDataset shards: each appears under its name when it is whole, with its index beside it."""

import io
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from posecore.data.shard_fields import encode_field
from posecore.data.shard_index import scan, write_index
from posecore.errors import InputError

KEY = re.compile(r"[^./\\\s\x00-\x1f]+(/[^./\\\s\x00-\x1f]+)*")
FIELD = re.compile(r"\w+(\.\w+)*", re.ASCII)
MAX_NAME = 100
"""Bytes that a name has in the plain tar header."""


class ShardWriter:
    """Writes samples to `folder / (pattern % number)`, a new shard after so many samples or bytes.

    Left by an error, it discards the shard that it was writing; those before stay.

    Raises:
        InputError: Shards of that pattern are there already: old and new samples would mix.
    """

    def __init__(
        self, folder: Path, pattern: str = "%06d.tar", *, max_samples: int = 1000, max_bytes: int = 1 << 30
    ) -> None:
        if pattern % 0 == pattern % 1 or not pattern.endswith(".tar"):
            raise ValueError(f"{pattern=} needs a number and the ending .tar, as in train-%06d.tar")
        self.paths: list[Path] = []
        """Shards that are whole."""
        self.num_samples = 0
        self._folder, self._pattern, self._max_samples, self._max_bytes = folder, pattern, max_samples, max_bytes
        folder.mkdir(parents=True, exist_ok=True)
        old = sorted(folder.glob(re.sub(r"%\d*d", "*", pattern)))
        if old:
            raise InputError(f"{old[0]}: is there already; write to an empty folder, or delete the old shards")
        self._keys: set[str] = set()
        self._tar: tarfile.TarFile | None = None
        self._in_shard = 0

    def write(self, key: str, fields: Mapping[str, Any]) -> None:
        """Add a sample. Values are bytes, or what `shard_fields.encode_field` takes for the field's extension.

        Raises:
            ValueError: A key or field that WebDataset would read differently, a key given twice, or no field at all.
        """
        encoded = {f"{key}.{field}": encode_field(field, value) for field, value in fields.items()}
        _check_names(key, fields)
        if key in self._keys:
            raise ValueError(f"{key}: was written already")
        tar = self._open_tar()
        for name, data in encoded.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        self._keys.add(key)
        self.num_samples += 1
        self._in_shard += 1
        if self._in_shard >= self._max_samples or tar.offset >= self._max_bytes:
            self._finish_shard()

    def close(self) -> None:
        """Finish the last shard."""
        if self._tar is not None:
            self._finish_shard()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif self._tar is not None:
            self._tar.fileobj.close()  # type: ignore[union-attr]
            self._unfinished.unlink()
            self._tar = None

    @property
    def _path(self) -> Path:
        return self._folder / (self._pattern % len(self.paths))

    @property
    def _unfinished(self) -> Path:
        return self._path.with_name(f".{self._path.name}.writing")

    def _open_tar(self) -> tarfile.TarFile:
        if self._tar is None:
            self._tar = tarfile.open(self._unfinished, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            self._in_shard = 0
        return self._tar

    def _finish_shard(self) -> None:
        assert self._tar is not None
        self._tar.close()
        self._tar = None
        with self._unfinished.open("rb") as file:
            os.fsync(file.fileno())
        path = self._path
        self._unfinished.replace(path)
        self.paths.append(path)
        write_index(scan(path))


def _check_names(key: str, fields: Mapping[str, Any]) -> None:
    if not KEY.fullmatch(key) or key.startswith("__"):
        raise ValueError(f"key {key!r}: must not be empty or hold dots, blanks or backslashes, nor begin with / or __")
    if not fields:
        raise ValueError(f"key {key!r}: has no fields")
    for field in fields:
        if not FIELD.fullmatch(field):
            raise ValueError(f"{key}: field {field!r} must be letters, digits, _ and dots between them, as in rgb.jpg")
        if len(f"{key}.{field}".encode()) > MAX_NAME:
            raise ValueError(f"{key}.{field}: is longer than the {MAX_NAME} bytes of a tar name")
