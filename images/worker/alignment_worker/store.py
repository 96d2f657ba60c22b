"""The store: where URIs are on this machine, and how a stage's folder becomes finished exactly once.

A stage's folder holds `manifest.json`, created exclusively and last, and the files of the run that won under
`run-<8 hex digits>/`. Two pods at once, or a retry after SIGKILL at any byte, leave one manifest or none.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alignment_api import digests, uris
from alignment_api.measurements import Measurement
from alignment_api.stage import CONTRACT_VERSION, Digest, Located, StageConfig, StageReport, StageResult
from alignment_worker import report
from alignment_worker.failures import DigestMismatchError, InvalidConfigError, StoreConflictError, StoreError

CLAIMS = Path("/alignment/claims")
MANIFEST = "manifest.json"
DERIVED = "derived"  # a folder of a run that its manifest does not name: what can be made anew from the rest
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Outcome:
    """What a stage's computation gives.

    `model` is the candidate: the folder inside the run's folder that was trained, or what was measured.
    """

    counts: dict[str, int]
    measurements: dict[str, Measurement] = field(default_factory=dict)
    by_category: dict[str, dict[str, Measurement]] = field(default_factory=dict)
    model: Path | Located | None = None


@dataclass(frozen=True)
class Places:
    """Which folder of this machine a claim is; one that is not named is mounted below `CLAIMS`.

    `signing_key` is a file with a private key, for the stage that signs.
    """

    claims: Mapping[str, Path]
    output: Path | None = None
    signing_key: Path | None = None

    def path(self, uri: str) -> Path:
        """Raises InvalidConfigError if the URI cannot be one."""
        try:
            location = uris.parse(uri)
        except ValueError as error:
            raise InvalidConfigError(str(error)) from error
        if not location.claim:
            return Path(location.path)
        return self.claims.get(location.claim, CLAIMS / location.claim) / location.path


class StageFolder:
    """A stage's own folder in the store."""

    def __init__(self, path: Path, config: StageConfig, config_hash: str) -> None:
        self.path = path
        self._config = config
        self.config_hash = config_hash

    def finished(self) -> StageResult | None:
        """What an earlier run, or another pod, has sealed; None if nothing is sealed yet.

        Raises StoreConflictError if the manifest is another stage's or cannot be read as one.
        """
        file = self.path / MANIFEST
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return None
        manifest = parse_manifest(file, data)
        if manifest["configHash"] != self.config_hash:
            raise StoreConflictError(
                f"{file} belongs to another run of the stage {manifest['stage']} (config "
                f"{manifest['configHash'][:12]}, this one is {self.config_hash[:12]}). Two cycles must not share "
                "a folder; if the folder is not needed, delete it."
            )
        self._keep_only(manifest["run"])
        return result_of(manifest, Located(uri=self._config.output, digest=digests.of_bytes(data)))

    def part(self, index: int) -> StageFolder:
        """Where the shard of that index seals its part."""
        inside = ("shards", str(index))
        config = self._config.model_copy(update={"output": uris.join(self._config.output, *inside)})
        return StageFolder(self.path.joinpath(*inside), config, self.config_hash)

    def sealed(self) -> SealedFolder | None:
        """None if nothing is sealed yet. Raises StoreConflictError as `finished`."""
        return SealedFolder.open(self.path) if self.finished() else None

    def new_run(self) -> Path:
        """A fresh folder for one run's files. Raises OSError."""
        run = self.path / f"run-{secrets.token_hex(4)}"
        run.mkdir(parents=True)
        return run

    @contextmanager
    def run(self) -> Iterator[Path]:
        """A fresh folder for one run's files, which goes if the run fails. Raises OSError."""
        run = self.new_run()
        try:
            yield run
        except BaseException:
            shutil.rmtree(run, ignore_errors=True)
            raise

    def seal(self, run: Path, outcome: Outcome, inputs: dict[str, Digest]) -> StageResult:
        """Create the manifest over the run's files; if another run was first, its result counts.

        Raises TooManyCategoriesError before anything is sealed, StoreConflictError, OSError.
        """
        files = {file.relative_to(run).as_posix(): _settled(file) for file in _files_below(run)}
        if (run / DERIVED).exists():
            _settle(run / DERIVED)
        name = self._published(run, files)
        manifest = {
            "contractVersion": CONTRACT_VERSION,
            "stage": self._config.stage.value,
            "configHash": self.config_hash,
            "run": name,
            "files": {f"{name}/{file}": digest for file, digest in files.items()},
            "result": self._result(name, run, outcome, inputs, files),
        }
        data = digests.canonical_json(manifest)
        sealed = result_of(manifest, Located(uri=self._config.output, digest=digests.of_bytes(data)))
        report.encode(StageReport(result=sealed))
        create_exclusively(self.path / MANIFEST, data)
        finished = self.finished()
        assert finished is not None
        return finished

    def _published(self, run: Path, files: Mapping[str, str]) -> str:
        """Name the run after its content, so that equal runs have equal manifests."""
        final = self.path / f"run-{digests.short(digests.of_listing(files), 8)}"
        try:
            run.rename(final)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if {file.relative_to(final).as_posix(): _settled(file) for file in _files_below(final)} != files:
                raise StoreConflictError(f"{final} is not what its name says; delete it") from error
        return final.name

    def _result(
        self, name: str, run: Path, outcome: Outcome, inputs: dict[str, Digest], files: Mapping[str, str]
    ) -> dict[str, Any]:
        placeholder = Located(uri=self._config.output, digest=digests.of_bytes(b""))
        model = outcome.model
        wire = StageResult(
            manifest=placeholder,
            inputs=inputs,
            model=self._located(name, model.relative_to(run), files) if isinstance(model, Path) else model,
            counts=outcome.counts,
            measurements=outcome.measurements,
            by_category=outcome.by_category,
        ).to_wire()
        del wire["manifest"]
        return wire

    def _located(self, run: str, model: Path, files: Mapping[str, str]) -> Located:
        """The digest is that of `digests.of_folder`, from the files' digests that are known already."""
        inside = model.as_posix()
        listing = {
            name[len(inside) + 1 :]: digest for name, digest in files.items() if name.startswith(inside + "/")
        }
        counted = {name: digest for name, digest in listing.items() if digests.counts(name)}
        uri = uris.join(self._config.output, run, inside)
        return Located(uri=uri, digest=digests.of_listing(counted))

    def _keep_only(self, run: str) -> None:
        """What killed runs left, and checkpoints to resume from, are of no use once a run has won."""
        for leftover in self.path.iterdir():
            if leftover.is_dir() and leftover.name != run:
                shutil.rmtree(leftover, ignore_errors=True)
            elif leftover.name.startswith(f".{MANIFEST}."):
                leftover.unlink(missing_ok=True)


@dataclass(frozen=True)
class SealedFolder:
    """A finished stage's folder, read by a later stage."""

    path: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> SealedFolder:
        """Raises FileNotFoundError if the stage is not finished, StoreConflictError if it is no stage."""
        file = path / MANIFEST
        return cls(path, parse_manifest(file, file.read_bytes()))

    def digest_of(self, name: str) -> str | None:
        """What the manifest says of a file, by its name inside the run's folder; None if there is no such file."""
        digest: str | None = self.manifest["files"].get(f"{self.manifest['run']}/{name}")
        return digest

    def file(self, name: str) -> Path:
        return self.path / str(self.manifest["run"]) / name

    def verified(self, name: str) -> Path:
        """A file that is what the manifest says. Raises DigestMismatchError, OSError."""
        file = self.file(name)
        if digests.of_file(file) != self.digest_of(name):
            raise DigestMismatchError(
                f"{file} is not what its manifest says: it was changed or damaged; delete it"
            )
        return file

    @property
    def counts(self) -> dict[str, int]:
        """Of the result."""
        return dict(self.manifest["result"]["counts"])

    @property
    def inputs(self) -> dict[str, Digest]:
        """Digests of the inputs that the stage found."""
        return dict(self.manifest["result"]["inputs"])


def parse_manifest(file: Path, data: bytes) -> dict[str, Any]:
    """Raises StoreConflictError if this is no manifest of this contract version."""
    try:
        manifest = json.loads(data)
        known = (
            manifest["contractVersion"] == CONTRACT_VERSION
            and isinstance(manifest["files"], dict)
            and all(isinstance(manifest[key], str) for key in ("configHash", "run", "stage"))
            and isinstance(manifest["result"], dict)
        )
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise StoreConflictError(
            f"{file} is not a manifest of contract version {CONTRACT_VERSION}; delete the folder, and the stage "
            "is done again."
        )
    return dict(manifest)


@contextmanager
def _written(file: Path, data: bytes) -> Iterator[Path]:
    """The data, durable, beside the file under another name, which goes in the end."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def create_exclusively(file: Path, data: bytes) -> bool:
    """Whole, durable, and only if the name is free; False if it is taken. Raises StoreError, OSError."""
    with _written(file, data) as temporary:
        try:
            os.link(temporary, file)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in _NO_HARD_LINKS:
                raise StoreError(
                    f"The file system of {file.parent} cannot create a file exclusively (hard links: "
                    f"{error.strerror}). Use a volume that can, such as a block device, NFS or CephFS."
                ) from error
            raise
    _sync(file.parent)
    return True


def replace_durably(file: Path, data: bytes) -> None:
    """Whole, durable, and instead of what was there. Raises OSError."""
    with _written(file, data) as temporary:
        temporary.replace(file)
    _sync(file.parent)


def result_of(manifest: Mapping[str, Any], located: Located) -> StageResult:
    """What the stage reported. Raises StoreConflictError if that cannot be read."""
    try:
        return StageResult.from_wire({**manifest["result"], "manifest": located.to_wire()})
    except ValidationError as error:
        raise StoreConflictError(
            f"{located.uri}/{MANIFEST} holds no result that can be read: {error}"
        ) from error


def _settled(file: Path) -> str:
    """Durable before the manifest names it."""
    _sync(file)
    return digests.of_file(file)


def _settle(folder: Path) -> None:
    for each in (folder, *folder.rglob("*")):
        _sync(each)


def _files_below(folder: Path) -> list[Path]:
    """Without what is derived."""
    derived = folder / DERIVED
    return sorted(file for file in folder.rglob("*") if file.is_file() and derived not in file.parents)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
