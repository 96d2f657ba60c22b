"""Digests: `sha256:` and 64 hexadecimal digits, of bytes, of JSON values and of folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PATTERN = r"^sha256:[0-9a-f]{64}$"
SIGNATURE_FILE = "model.sig"  # of a folder; speaks of the digest, and so is no part of it
_BLOCK_BYTES = 1 << 20


def of_bytes(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """The one spelling of a JSON value: sorted keys, no spaces, UTF-8. Raises ValueError on NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def of_json(value: Any) -> str:
    return of_bytes(canonical_json(value))


def of_file(path: Path) -> str:
    """Raises OSError if the file cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return "sha256:" + digest.hexdigest()


def of_listing(files: Mapping[str, str]) -> str:
    """The digest of a folder, from the digest of each file by its path relative to the folder."""
    return of_json(dict(files))


def counts(name: str) -> bool:
    """Whether a file, by its path relative to the folder, is part of the folder's digest."""
    return name != SIGNATURE_FILE and not any(part.startswith(".") for part in name.split("/"))


def of_folder(folder: Path) -> str:
    """Every regular file below the folder counts, hidden ones and its signature excepted. Raises OSError."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*"))}
    return of_listing(
        {name: of_file(file) for name, file in files.items() if counts(name) and file.is_file()}
    )


def short(digest: str, length: int = 12) -> str:
    """For people: the first hexadecimal digits, without the algorithm."""
    return digest.removeprefix("sha256:")[:length]
