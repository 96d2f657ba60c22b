"""Signatures of models by elliptic-curve keys, in `model.sig` of the model's folder.

OpenSSF's model-signing (https://github.com/sigstore/model-transparency) hashes the folder and has the format. It is
imported where a signature is asked for, for that takes seconds. With keys it needs no network.

`python -m alignment_worker.signatures FOLDER --public-key FILE...` verifies one, for `alignctl verify`.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alignment_api import digests
from alignment_api.signature import Signature
from alignment_worker.failures import (
    DigestMismatchError,
    InputMissingError,
    InvalidConfigError,
    NotVerifiedError,
    StoreError,
    WorkerError,
)
from alignment_worker.store import replace_durably

FILE = digests.SIGNATURE_FILE
_FIELD = "spec.promotion.signature"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_OF_ANOTHER_KEY = "Key mismatch"  # how the library begins to say so


def check(wanted: Signature, folders: Mapping[str, Path]) -> None:
    """The model of each role carries a signature that counts; one folder of several roles is looked at once.

    Raises NotVerifiedError, InvalidConfigError, InputMissingError.
    """
    _loaded(wanted.public_keys)
    roles: dict[Path, str] = {}
    for role, folder in folders.items():
        roles.setdefault(folder.resolve(), role)
    for folder, role in roles.items():
        if not (folder / FILE).exists():
            if wanted.unsigned == "Refuse":
                raise NotVerifiedError(
                    f"inputs.{role}: {folder} has no {FILE}. Sign it (model_signing sign key --private_key KEY "
                    f"--signature {folder / FILE} {folder}), or write {_FIELD}.unsigned: Allow."
                )
            continue
        try:
            verify(folder, wanted.public_keys)
        except NotVerifiedError as error:
            raise NotVerifiedError(
                f"inputs.{role}: {error}. Put back what was signed, or sign what is there. Nothing was loaded."
            ) from error


def sign(folder: Path, digest: str, wanted: Signature, key: Path | None) -> None:
    """Write `model.sig`, unless one is there that counts; `digest` is of the bytes that it must be of.

    An attempt that was killed leaves a whole signature or none. ECDSA makes another each time, so the last one written
    counts. Raises InputMissingError, InvalidConfigError, DigestMismatchError, StoreError.
    """
    there = folder / FILE
    if there.exists() and _holds(folder, wanted.public_keys) and _digest_signed(there.read_bytes()) == digest:
        return
    for leftover in folder.glob(f".{FILE}.*"):  # a signature would be of them too
        leftover.unlink(missing_ok=True)
    data = _signed(folder, _private_key(key, wanted.public_keys))
    if _digest_signed(data) != digest:
        raise DigestMismatchError(
            f"{folder} was changed while it was signed: the signature, which was thrown away, is not of {digest}"
        )
    try:
        replace_durably(there, data)
    except PermissionError as error:
        raise StoreError(
            f"{there} cannot be written: {error.strerror}. Let the stage promote have the user, or the "
            "fsGroup, of the stage train."
        ) from error
    if not _holds(folder, wanted.public_keys):
        raise StoreError(f"{folder} was changed while it was signed")


def verify(folder: Path, public_keys: Sequence[str]) -> None:
    """`model.sig` is of one of these keys, PEM, and of every file in the folder.

    Raises NotVerifiedError, InvalidConfigError, InputMissingError.
    """
    _loaded(public_keys)
    if not (folder / FILE).exists():
        raise NotVerifiedError(f"{folder} has no {FILE}")
    with _files(public_keys) as files:
        said = [_problem(folder, file) for file in files]
    if all(said):
        telling = next((each for each in said if not each.startswith(_OF_ANOTHER_KEY)), "")
        raise NotVerifiedError(
            f"{folder / FILE}: {telling or 'is of another key than the public keys given'}"
        )


def _holds(folder: Path, public_keys: Sequence[str]) -> bool:
    try:
        verify(folder, public_keys)
    except NotVerifiedError:
        return False
    return True


def _problem(folder: Path, public_key: Path) -> str:
    """Why the signature is not one of this key; empty if it is."""
    from model_signing import verifying  # noqa: PLC0415 - seconds, and only where there are signatures

    # Links are followed, as the digest follows them; a hub's cache is made of them.
    config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    config.set_hashing_config(_hashing().set_allow_symlinks(True))
    try:
        config.verify(folder, folder / FILE)
    except OSError as error:
        raise InputMissingError(f"{error.filename or folder}: cannot be read: {error.strerror}") from error
    except Exception as error:  # noqa: BLE001 - whatever a broken bundle makes of the library
        return str(error) or "is not of what it says that it is of"
    return ""


def _signed(folder: Path, key: Path) -> bytes:
    from model_signing import signing  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / FILE
        config = signing.Config().use_elliptic_key_signer(private_key=key)
        config.set_hashing_config(_hashing()).sign(folder, file)
        return file.read_bytes()


def _hashing() -> Any:
    """What `model_signing sign key` and `verify key` do too, unless they are told otherwise."""
    from model_signing import hashing  # noqa: PLC0415 - as above

    return hashing.Config().set_ignored_paths(paths=[Path(FILE)])


def _digest_signed(data: bytes) -> str:
    """Of the folder, from the files' digests that a signature of ours is of."""
    payload = json.loads(base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"]))
    files = {each["name"]: f"sha256:{each['digest']}" for each in payload["predicate"]["resources"]}
    return digests.of_listing({name: digest for name, digest in files.items() if digests.counts(name)})


def _private_key(file: Path | None, public_keys: Sequence[str]) -> Path:
    """A key that can be read, and is the other half of one of these.

    Raises InvalidConfigError, and InputMissingError: meanwhile a person may mend the Secret.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above

    field = f"{_FIELD}.privateKeySecretRef"
    if file is None or not file.exists():
        raise InputMissingError(f"{field}: the key is not there")
    try:
        key: Any = serialization.load_pem_private_key(file.read_bytes(), None)
    except Exception as error:
        raise InputMissingError(
            f"{field}: holds no private key that can be read without a passphrase, as `openssl ecparam -genkey -noout "
            f"-name prime256v1` prints one: {error}"
        ) from error
    if key.public_key() not in _loaded(public_keys):
        raise InputMissingError(
            f"{field}: holds the key of none of {_FIELD}.publicKeys, as this iteration froze them. Put back the one "
            "that is, or start another iteration with the new public key."
        )
    return file


def _loaded(public_keys: Sequence[str]) -> list[Any]:
    """Raises InvalidConfigError for what only looks like a key."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above

    keys = []
    for index, text in enumerate(public_keys):
        try:
            key: Any = serialization.load_pem_public_key(text.encode())
            known = key.curve.name in _CURVES
        except Exception as error:
            raise InvalidConfigError(f"{_FIELD}.publicKeys[{index}]: cannot be read: {error}") from error
        if not known:
            raise InvalidConfigError(f"{_FIELD}.publicKeys[{index}]: is not on P-256, P-384 or P-521")
        keys.append(key)
    return keys


@contextmanager
def _files(public_keys: Sequence[str]) -> Iterator[list[Path]]:
    """The library reads keys from files."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{index}.pem" for index in range(len(public_keys))]
        for file, key in zip(files, public_keys, strict=True):
            file.write_text(key)
        yield files


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 if the signature is of one of the keys, 1 and a line why if it is not."""
    parser = argparse.ArgumentParser(
        prog="python -m alignment_worker.signatures", description="Verify a signed model."
    )
    parser.add_argument("folder", type=Path, help="the model")
    parser.add_argument(
        "--public-key", type=Path, action="append", required=True, help="a PEM; again for more"
    )
    arguments = parser.parse_args(argv)
    try:
        verify(arguments.folder, [file.read_text() for file in arguments.public_key])
    except ImportError as error:
        print(f"not installed: {error.name}. pip install 'alignment-operator[worker]'", file=sys.stderr)
    except OSError as error:
        print(f"{error.filename}: cannot be read: {error.strerror}", file=sys.stderr)
    except WorkerError as error:
        print(error, file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
