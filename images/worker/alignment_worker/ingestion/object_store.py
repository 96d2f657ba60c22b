"""One bucket of S3, Google Cloud Storage or Azure Blob Storage, or of a server that speaks like one of them.

https://developmentseed.org/obstore: one library for the three, which retries what is busy (5xx, 429, lost connections).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from alignment_api.judges import URL_PATTERN
from alignment_api.sources import CREDENTIALS
from alignment_api.stage import Digest
from alignment_api.uris import InBucket
from alignment_worker.failures import BucketError, InputMissingError, InvalidConfigError, WorkerError
from alignment_worker.ingestion.finding import NOT_THERE

if TYPE_CHECKING:
    from obstore import ObjectMeta

MAX_RETRIES = 8
_RETRY_SECONDS = 180.0
_READ_SECONDS = timedelta(seconds=60)  # between two pieces; a slow server is not a silent one
_WHOLE = timedelta(days=7)  # of one answer, which may be a big object
_PIECE_BYTES = 1 << 20
_LISTED_AT_ONCE = 1000
_STATUS = re.compile(r"status code: (\d{3})")
_SETTINGS = ("InvalidPathError", "UnknownConfigurationKeyError")  # a library's error that no attempt mends
_ADDRESS = re.compile(r"ENDPOINT|BASE_URL")
# What says where a bucket is, and not who asks: of the pod's environment it counts beside a Secret, too.
_PLACE = re.compile(r"ENDPOINT|REGION|BASE_URL|AUTHORITY_HOST|VIRTUAL_HOSTED|REQUEST_PAYER")


@dataclass(frozen=True)
class Object:
    """What a listing says of one; `tag` changes with the content."""

    key: str
    size: int
    tag: str | None


class ObjectStore:
    """Every method raises InvalidConfigError for what a person must mend, InputMissingError for what is not there or
    has changed, BucketError for what another attempt may mend."""

    def __init__(self, place: InBucket, where: str, given: Mapping[str, str] | None) -> None:
        """`where`: path of the field that errors name. `given`: variables of the source's Secret; None: no Secret."""
        self._place, self._where = place, where
        self._listed = False
        known = _of_cloud(place.scheme, given) if given is not None else {}
        if given is not None and not known:
            raise InvalidConfigError(
                f"{where}.credentialsSecretRef: no key of the Secret begins with {CREDENTIALS[place.scheme]}; it "
                "needs the variables that docs/data.md lists"
            )
        with self._told(self._uri("")):
            self._store = _store(place, known, beside=given is not None)

    def head(self, key: str) -> Object | None:
        """None if there is no such object."""
        import obstore  # noqa: PLC0415 - only who reads a bucket needs it

        with self._told(self._uri(key)):
            try:
                found = _object(obstore.head(self._store, key))
            except FileNotFoundError:
                return None
        self._listed = True
        return found

    def below(self, key: str) -> Iterator[Object]:
        """Every object in the folder and in all folders in it, in no order."""
        import obstore  # noqa: PLC0415

        with self._told(self._uri(key)):
            for some in obstore.list(self._store, key or None, chunk_size=_LISTED_AT_ONCE):
                yield from map(_object, some)
        self._listed = True

    def within(self, key: str) -> tuple[list[Object], list[str]]:
        """The folder's own objects, and the keys of the folders in it."""
        import obstore  # noqa: PLC0415

        with self._told(self._uri(key)):
            found = obstore.list_with_delimiter(self._store, key or None)
        self._listed = True
        return [_object(item) for item in found["objects"]], list(found["common_prefixes"])

    def read(self, key: str) -> bytes | None:
        """A small object; None if there is none."""
        import obstore  # noqa: PLC0415

        with self._told(self._uri(key)):
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except FileNotFoundError:
                return None

    def fetch(self, wanted: Object, file: Path, stopped: Event) -> Digest:
        """The object as it was listed, into a file, unless it is `stopped`. Raises OSError of the file, too."""
        digest, size = hashlib.sha256(), 0
        with file.open("wb") as out:
            for piece in self._pieces(wanted) if wanted.size else ():
                out.write(piece)
                digest.update(piece)
                size += len(piece)
                if stopped.is_set():
                    break
        if size != wanted.size and not stopped.is_set():
            raise BucketError(f"{self._uri(wanted.key)}: {size} bytes came of {wanted.size}")
        return "sha256:" + digest.hexdigest()

    def _pieces(self, wanted: Object) -> Iterator[memoryview]:
        import obstore  # noqa: PLC0415

        with self._told(self._uri(wanted.key)):
            got = obstore.get(self._store, wanted.key, options={"if_match": wanted.tag})
            if _bare(_object(got.meta).tag) != _bare(wanted.tag):  # there are servers that heed no condition
                raise self._changed(self._uri(wanted.key))
            for piece in got.stream(min_chunk_size=_PIECE_BYTES):
                yield memoryview(piece)

    def _uri(self, key: str) -> str:
        return f"{self._place.scheme}://{self._place.bucket}/{key}"

    @contextmanager
    def _told(self, uri: str) -> Iterator[None]:
        """The library's exceptions, in the words of whoever must act on them."""
        from obstore import exceptions  # noqa: PLC0415

        try:
            yield
        except FileNotFoundError as error:
            raise InputMissingError(f"{uri}: {NOT_THERE}") from error
        except (ValueError, exceptions.BaseError) as error:
            raise self._failure(uri, error) from error

    def _failure(self, uri: str, error: Exception) -> WorkerError:
        """By the status, which the library does not always make an exception of its own of."""
        found = _STATUS.search(str(error))
        match int(found[1]) if found else None:
            case 401 | 403:
                return self._refused(uri, error)
            case 404:
                return InputMissingError(f"{uri}: {NOT_THERE}")
            case 412:
                return self._changed(uri)
        if isinstance(error, ValueError) or type(error).__name__ in _SETTINGS:
            return InvalidConfigError(f"{self._where}: {uri}: {_said(error)}")
        return BucketError(f"{uri}: {_said(error)}")

    def _changed(self, uri: str) -> InputMissingError:
        return InputMissingError(f"{uri} changed while it was read; the next attempt reads it anew.")

    def _refused(self, uri: str, error: Exception) -> WorkerError:
        """The next attempt's pod has credentials that were changed since it began to list."""
        if self._listed:
            return BucketError(
                f"{uri} is refused, though it was listed: {_said(error)}. Were the credentials changed "
                "meanwhile, or may they list and not read?"
            )
        return InvalidConfigError(
            f"{self._where}.credentialsSecretRef: {uri} is refused: {_said(error)}. Give credentials that may list and "
            "read it; who may not list is refused what is not there, too."
        )


def _store(place: InBucket, given: Mapping[str, str], *, beside: bool) -> Any:
    from obstore import store  # noqa: PLC0415

    kinds = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}
    environment = _of_cloud(place.scheme, os.environ)
    known = {**environment, **given}
    addresses = {name: value for name, value in known.items() if _ADDRESS.search(name)}
    for name, value in addresses.items():
        if not re.match(URL_PATTERN, value):
            raise ValueError(f"{name} is {value!r}; write http:// or https://, and a host")
    plain = any(value.startswith("http://") for value in addresses.values())
    with _without([name for name in environment if beside and not _PLACE.search(name)]):
        return kinds[place.scheme](
            place.bucket,
            config={name.lower(): value for name, value in given.items()},
            client_options={"timeout": _WHOLE, "read_timeout": _READ_SECONDS, "allow_http": plain},
            retry_config={
                "max_retries": MAX_RETRIES,
                "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
            },
        )


def _of_cloud(scheme: str, variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value.strip()
        for name, value in variables.items()
        if name.startswith(CREDENTIALS[scheme]) and value.strip()
    }


@contextmanager
def _without(names: list[str]) -> Iterator[None]:
    """The library takes what is not given from the environment: half of somebody else's credentials."""
    taken = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(taken)


def _object(meta: ObjectMeta) -> Object:
    return Object(meta["path"], meta["size"], meta["e_tag"] or meta["version"])


def _bare(tag: str | None) -> str | None:
    """Azure and Google quote a tag in an answer, and not in a list."""
    return tag and tag.removeprefix("W/").strip('"')


def _said(error: Exception) -> str:
    """The server's own code and words if there are any: the library tells them within a long account of its own."""
    text = str(error)
    found = re.search(r"<Code>([^<]+)</Code>(?:.*?<Message>([^<]*)</Message>)?", text, re.DOTALL)
    if found:
        return " ".join(part.strip() for part in found.groups() if part)[:300]
    told = re.sub(r"\s+", " ", text.partition("\n\nDebug source")[0]).rpartition(" - ")[2]
    return told.removeprefix("Server returned non-2xx status code: ").strip(" :")[:300]
