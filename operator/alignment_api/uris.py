"""Where things are: `pvc://CLAIM/PATH` on a cluster, `file:///PATH` without one.

A dataset's sources may be in a bucket, too: `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, `az://CONTAINER/BLOB`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote


def _part(some: str, no_dot: str) -> str:
    """Of a path, in these characters: anything but '..'."""
    return rf"({no_dot}{some}*|\.{no_dot}{some}*|\.\.{some}+|\.)"


_CLAIM = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
_NO = r"\s?#/\x00-\x1f\x7f"  # what no part of a path may hold
# Of no control character, '.' or '/'. RFC 8089 has them in file://; in pvc:// KServe takes '%' as it is, and so do we.
ESCAPE = "%(2[0-9A-Da-d]|[3-9A-Fa-f][0-9A-Fa-f])"
_TAKEN = _part(f"[^{_NO}]", f"[^{_NO}.]")
_ESCAPED = _part(f"([^{_NO}%]|{ESCAPE})", f"([^{_NO}.%]|{ESCAPE})")
_PLACE = rf"pvc://{_CLAIM}(/{_TAKEN}?)*|file:///{_ESCAPED}(/{_ESCAPED}?)*"
_BUCKET = r"[a-z0-9]([-a-z0-9._]*[a-z0-9])?"
BUCKET_SCHEMES = ("s3", "gs", "az")
PATTERN = rf"^({_PLACE})$"
SOURCE_PATTERN = rf"^({_PLACE}|({'|'.join(BUCKET_SCHEMES)})://{_BUCKET}(/{_TAKEN}?)*)$"
MAX_LENGTH = 512  # as a user writes it; NAMESPACE/NAME/UID/iterations/N/STAGE/… comes behind a store's
MAX_STORED_LENGTH = 1024


@dataclass(frozen=True)
class Location:
    """A parsed URI. `claim` is empty for `file://`; `path` is relative for `pvc://`, else absolute, without escapes."""

    claim: str
    path: PurePosixPath


@dataclass(frozen=True)
class InBucket:
    """A parsed URI of a bucket; `key` has no slash at either end, and is empty for the whole bucket."""

    scheme: str
    bucket: str
    key: str


def in_bucket(uri: str) -> InBucket | None:
    """None for any other URI."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in BUCKET_SCHEMES:
        return None
    bucket, _, key = rest.partition("/")
    return InBucket(scheme, bucket, key.strip("/"))


def claims_of(some: Iterable[str]) -> list[str]:
    """The claims that these URIs name, each once. Raises as `parse`."""
    return sorted({parse(uri).claim for uri in some if in_bucket(uri) is None} - {""})


def parse(uri: str) -> Location:
    """Of no bucket. Raises ValueError that says what a URI looks like, or that it leaves its claim by `..`."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in {"pvc", "file"}:
        raise ValueError(f"{uri!r} is not a URI of the form pvc://CLAIM/PATH or file:///PATH")
    if scheme == "file":
        rest = unquote(rest)
    if ".." in PurePosixPath(rest).parts:
        raise ValueError(f"{uri!r} contains '..'; name the folder itself")
    if scheme == "file":
        if not rest.startswith("/"):
            raise ValueError(f"{uri!r} is not absolute; a file URI has three slashes: file:///PATH")
        return Location("", PurePosixPath("/" + rest.lstrip("/")))
    claim, _, path = rest.partition("/")
    if not claim:
        raise ValueError(f"{uri!r} names no claim; write pvc://CLAIM/PATH")
    # A path that began with a slash would leave the claim when it is joined to the folder that stands for it.
    return Location(claim, PurePosixPath(path.lstrip("/")))


def join(uri: str, *parts: str) -> str:
    return "/".join([uri.rstrip("/"), *parts])
