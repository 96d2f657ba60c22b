"""A stage's inputs: there, what they should be, and bound to their content, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alignment_api import digests, uris
from alignment_api.stage import SIGNED_ROLES, Digest, IngestParameters, Input, InputKind, Stage, StageConfig
from alignment_worker import rows, signatures
from alignment_worker.artifacts import PROMPTS
from alignment_worker.failures import (
    DigestMismatchError,
    InputMissingError,
    InvalidConfigError,
    InvalidRowError,
)
from alignment_worker.ingestion import finding
from alignment_worker.ingestion.finding import Found
from alignment_worker.progress import Progress
from alignment_worker.store import MANIFEST, Places, SealedFolder

# The settings that ask for checkable prompts of a role.
_VERIFIER = {"prompts": "judge", "heldOutPrompts": "evaluation.comparison.judge, or judge"}
PROMPTS_OF = "prompts"  # of roles like prompts/NAME: a dataset's revision, whose prompts are sampled on
_MODELS = (InputKind.MODEL, InputKind.REWARD_MODEL, InputKind.EMBEDDING_MODEL, InputKind.FILTER_MODEL)
_SOURCES = (InputKind.PAIRS, InputKind.INFERENCE_LOG)


@dataclass(frozen=True)
class Inputs:
    """By role. `found` has the digests of those that came without one, and of datasets' prompts as a whole; `digests`
    of all.

    A dataset's sources are in `sources` alone, and have their digests when they are read.
    """

    paths: Mapping[str, Path]
    kinds: Mapping[str, InputKind]
    digests: Mapping[str, Digest]
    found: Mapping[str, Digest]
    sources: Mapping[str, Found] = field(default_factory=dict)

    def __contains__(self, role: str) -> bool:
        return role in self.paths

    def roles(self, prefix: str) -> Iterator[str]:
        """Roles like `dataset/NAME`, in the config's order."""
        return (role for role in self.paths if role.startswith(prefix + "/"))

    def path(self, role: str) -> Path:
        """The file or folder. Raises InvalidConfigError if the stage was not given this input."""
        if role not in self.paths:
            raise InvalidConfigError(f"inputs.{role}: is required by this stage")
        return self.paths[role]

    def file(self, role: str, name: str) -> Path:
        """A finished stage's file `name`, verified against its manifest; of an input that is a file, that file.

        Raises DigestMismatchError, InputMissingError, InvalidConfigError.
        """
        path = self.path(role)
        if self.kinds[role] is not InputKind.STAGE:
            return path
        folder = SealedFolder.open(path)
        expected, file = folder.digest_of(name), folder.file(name)
        if expected is None:
            raise InvalidConfigError(
                f"inputs.{role}: the stage at {path} made no {name}; name the stage that does"
            )
        _verify(f"{role} ({file})", expected, _digest_of_file(role, file))
        return file


def opened(config: StageConfig, places: Places, progress: Progress) -> Inputs:
    """All inputs: those with a digest verified, those without one checked and digested; then signatures, if they count.

    Raises InputMissingError, InvalidConfigError, DigestMismatchError, NotVerifiedError, and what `rows.read` and
    `models.check` raise.
    """
    progress.begin(len(config.inputs), "inputs", "checking inputs")
    entries = {role: entry for role, entry in config.inputs.items() if entry.kind not in _SOURCES}
    paths = {role: _path(role, entry, places) for role, entry in entries.items()}
    sources = {
        role: _source(role, entry, config, places)
        for role, entry in config.inputs.items()
        if entry.kind in _SOURCES
    }
    known: dict[str, Digest] = {}
    for role, entry in entries.items():
        path = paths[role]
        if entry.digest is None and config.stage is not Stage.INGEST:
            _check(role, entry.kind, path)
        known[role] = _digest(role, entry.kind, path)
        if entry.digest is not None:
            _verify(f"{role} ({entry.uri}, {path})", entry.digest, known[role])
        progress.advance()
    if config.signature:
        signatures.check(config.signature, {role: paths[role] for role in SIGNED_ROLES if role in paths})
    found = {role: digest for role, digest in known.items() if config.inputs[role].digest is None}
    return Inputs(
        paths=paths,
        kinds={role: entry.kind for role, entry in entries.items()},
        digests=known,
        found=found | _prompts_of_datasets(paths),
        sources=sources,
    )


def _source(role: str, entry: Input, config: StageConfig, places: Places) -> Found:
    is_log = entry.kind is InputKind.INFERENCE_LOG
    place = uris.in_bucket(entry.uri)
    if place is None:
        path = places.path(entry.uri)
        return finding.log_files_of(path) if is_log else finding.files_of(path)
    from alignment_worker.ingestion import buckets  # noqa: PLC0415 - which files need not

    assert isinstance(config.parameters, IngestParameters)
    store = buckets.store_of(place, role.partition("/")[2], config.parameters.sources)
    return (buckets.log_files_of if is_log else buckets.files_of)(store, entry.uri, place)


def _prompts_of_datasets(paths: Mapping[str, Path]) -> dict[str, Digest]:
    """What a file of prompts would be reported as. Raises InvalidConfigError."""
    digests_of = {}
    for role, path in paths.items():
        if role.startswith(f"{PROMPTS_OF}/"):
            name = role.partition("/")[2]
            found = SealedFolder.open(path).digest_of(PROMPTS)
            if found is None:
                raise InvalidConfigError(
                    f"spec.prompts.fromDatasets: the revision of the dataset {name} has no prompts: an older release "
                    "made it. Refresh it (the annotation alignment.dev/run), and run the cycle again."
                )
            digests_of[name] = found
    return {PROMPTS_OF: digests.of_listing(digests_of)} if digests_of else {}


def _path(role: str, entry: Input, places: Places) -> Path:
    path = places.path(entry.uri)
    needed = path / MANIFEST if entry.kind is InputKind.STAGE else path
    try:
        there = needed.exists()
    except OSError:
        there = False
    if not there:
        raise InputMissingError(
            f"inputs.{role}: {entry.uri} is not there (looked for {needed}). Put it there, or correct the URI."
        )
    if not (needed.is_file() or needed.is_dir()):
        raise InvalidConfigError(
            f"inputs.{role}: {entry.uri} ({needed}) is a pipe, a socket or a device; name a file or a folder"
        )
    return path


def _check(role: str, kind: InputKind, path: Path) -> None:
    if kind in _MODELS:
        from alignment_worker import models  # noqa: PLC0415 - loads transformers, which data files don't need

        models.check(role, path, reward=kind is InputKind.REWARD_MODEL)
    elif kind is not InputKind.STAGE:
        try:
            rows.read(path, kind)
        except InvalidRowError as error:
            if role not in _VERIFIER or kind is not InputKind.CHECKABLE_PROMPTS:
                raise
            needs = f"the verifier ({_VERIFIER[role]}) needs `answer` and `grader` in each row of {role}"
            raise InvalidRowError(f"{error}; {needs}") from error


def _digest(role: str, kind: InputKind, path: Path) -> str:
    if kind in _MODELS:
        try:
            return digests.of_folder(path)
        except OSError as error:
            raise _unreadable(role, path, error) from error
    return _digest_of_file(role, path / MANIFEST if kind is InputKind.STAGE else path)


def _digest_of_file(role: str, file: Path) -> str:
    try:
        return digests.of_file(file)
    except OSError as error:
        raise _unreadable(role, file, error) from error


def _unreadable(role: str, path: Path, error: OSError) -> InputMissingError:
    return InputMissingError(
        f"inputs.{role}: {path} cannot be read: {error.strerror}. Correct the URI, or let the pod's user read it."
    )


def _verify(what: str, expected: str, actual: str) -> None:
    if expected != actual:
        raise DigestMismatchError(
            f"{what} has digest {actual}, but the iteration froze {expected}: it was changed meanwhile. "
            "Restore it, or start a new iteration."
        )
