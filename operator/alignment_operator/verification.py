"""Whether what was promoted is what its evidence says: every digest and every verdict, from the store's files alone.

A cycle's folder in the store has `ledger/NNNNNN.json`, which names the evidence of a promotion by digest, and
`iterations/N/STAGE/`, each with a manifest over its files. The evidence names the manifests, and they the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alignment_api import digests
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.evidence import Evidence
from alignment_api.gates import Verdict
from alignment_api.stage import CONTRACT_VERSION, SIGNED, Located, Stage, StageReport, StageResult
from alignment_operator.gates.verdicts import judge_all
from alignment_operator.local import signatures

_MANIFEST = "manifest.json"
_EVIDENCE = "evidence.json"


@dataclass(frozen=True)
class Promotion:
    """What the ledger has of one iteration, and what is not as it says."""

    iteration: int
    candidate: str = ""  # digests
    evidence: str = ""
    incumbent: str = ""
    collected: bool = False  # its artifacts are gone: retention lets them go
    signed: bool = False  # and the signature was looked at
    approved: bool = False  # by a person: a gate was Inconclusive, which promotes nothing by itself
    files: int = 0  # that were digested
    problems: list[str] = field(default_factory=list)


def verify(folder: Path, public_keys: Sequence[str] = ()) -> list[Promotion]:
    """Every promotion of the cycle whose folder in the store this is, the oldest first.

    With public keys, PEM, each has to be signed by one of them; else by one that its own evidence names, if it names
    any. Raises OSError.
    """
    found: list[Promotion] = []
    for file in sorted((folder / "ledger").glob("*.json")):
        found.append(_promotion(folder, file, found, public_keys))
    if found and found[-1].collected:
        found[-1].problems.append(
            f"{_iteration(folder, found[-1].iteration)}: is gone, but the newest promotion's folder is always kept"
        )
    return [*found, *_unlisted(folder, {promotion.iteration for promotion in found})]


def _unlisted(folder: Path, listed: Container[int]) -> Iterator[Promotion]:
    """What was sealed, as the manifest says that is written after the ledger's entry, and has none."""
    for manifest in sorted((folder / "iterations").glob(f"*/{Stage.PROMOTE}/{_MANIFEST}")):
        name = manifest.parts[-3]
        if name.isdecimal() and int(name) not in listed:
            problem = f"{_entry_file(folder, int(name))}: is gone, but {manifest} says that it was written"
            yield Promotion(int(name), problems=[problem])


def _entry_file(folder: Path, number: int) -> Path:
    return folder / "ledger" / f"{number:06d}.json"


def _iteration(folder: Path, number: int) -> Path:
    return folder / "iterations" / str(number)


class _TamperedError(Exception):
    """Something cannot even be read as what it should be."""


def _promotion(folder: Path, file: Path, before: list[Promotion], public_keys: Sequence[str]) -> Promotion:
    try:
        number, entry = int(file.stem), _object(file)
        candidate, evidence = _digest(entry["candidate"]["digest"]), _digest(entry["evidenceDigest"])
        incumbent = _digest(entry["incumbentDigest"])
        written = file == _entry_file(folder, number) and digests.canonical_json(entry) == file.read_bytes()
    except (_TamperedError, ValueError, KeyError, TypeError) as error:
        return Promotion(
            int(file.stem) if file.stem.isdecimal() else 0, problems=[f"{file}: is no entry: {error}"]
        )
    problems: list[str] = []
    if entry.get("iteration") != number or not written:
        problems.append(f"{file}: is not what the stage promote wrote")
    known = [*(promotion.candidate for promotion in before), *(first.incumbent for first in before[:1])]
    if before and incumbent not in known:
        problems.append(
            f"{file}: incumbentDigest {incumbent} was promoted by no entry before it, nor was it there before all"
        )
    iteration = _iteration(folder, number)
    if not iteration.is_dir():
        return Promotion(number, candidate, evidence, incumbent, collected=True, problems=problems)
    checked = _Iteration(iteration, entry, public_keys)
    problems += checked.problems()
    return Promotion(
        number,
        candidate,
        evidence,
        incumbent,
        signed=checked.signed,
        approved=checked.approved,
        files=checked.files,
        problems=problems,
    )


class _Iteration:
    """One iteration's folder against its entry in the ledger."""

    def __init__(self, folder: Path, entry: Mapping[str, Any], public_keys: Sequence[str]) -> None:
        self._folder = folder
        self._entry = entry
        self._public_keys = public_keys
        self.files = 0
        self.signed = False
        self.approved = False

    def problems(self) -> Iterator[str]:
        """In the order in which one thing names the next."""
        try:
            evidence = self._evidence()
            self.approved = any(gate.verdict is Verdict.INCONCLUSIVE for gate in evidence.gates)
            yield from self._stage_files(Stage.PROMOTE.value, None, evidence)
            yield from self._sealing(_keys_of(evidence))
            yield from self._contradictions(evidence)
            results = {}
            for stage in evidence.stages:
                yield from self._stage_files(stage.name, stage.manifest_digest, evidence)
                result = self._result(stage.name)
                if (result.counts, result.measurements, result.by_category) != (
                    stage.counts,
                    stage.measurements,
                    stage.by_category,
                ):
                    yield f"{self._folder / stage.name / _MANIFEST}: its result is not what the evidence says"
                results[Stage(stage.name)] = result
            yield from self._candidate(evidence)
            yield from self._signature(evidence)
            yield from _verdicts(evidence, results, self._folder)
        except _TamperedError as error:
            yield str(error)

    def _evidence(self) -> Evidence:
        manifest = self._manifest(Stage.PROMOTE.value)
        file = self._folder / Stage.PROMOTE.value / str(manifest.get("run")) / _EVIDENCE
        data = _bytes(file)
        if digests.of_bytes(data) != self._entry["evidenceDigest"]:
            raise _TamperedError(
                f"{file}: has not the digest that the ledger names, {self._entry['evidenceDigest']}"
            )
        try:
            return Evidence.from_wire(json.loads(data))
        except (ValueError, RecursionError) as error:  # its digest is right: another version wrote it
            raise _TamperedError(f"{file}: cannot be read by this version: {error}") from error

    def _contradictions(self, evidence: Evidence) -> Iterator[str]:
        entry, candidate = self._entry, self._entry["candidate"]
        said = (
            evidence.iteration,
            evidence.candidate_uri,
            evidence.candidate_digest,
            evidence.incumbent_digest,
        )
        if said != (
            entry.get("iteration"),
            candidate.get("uri"),
            candidate["digest"],
            entry["incumbentDigest"],
        ):
            yield f"{self._folder / Stage.PROMOTE.value}: the evidence is of another promotion than the ledger's entry"

    def _sealing(self, keys: Sequence[str]) -> Iterator[str]:
        """The manifest of `promote`, which no evidence names: all of it follows from the ledger's entry."""
        file = self._folder / Stage.PROMOTE.value / _MANIFEST
        manifest = self._manifest(Stage.PROMOTE.value)
        listing = {name.partition("/")[2]: digest for name, digest in manifest["files"].items()}
        sealed = digests.of_listing(listing)
        expected = {
            "contractVersion": CONTRACT_VERSION,
            "stage": Stage.PROMOTE.value,
            "configHash": self._entry.get("configHash"),
            "run": f"run-{digests.short(sealed, 8)}",
            "files": {f"run-{digests.short(sealed, 8)}/{name}": digest for name, digest in listing.items()},
            "result": {
                "byCategory": {},
                "counts": {"sealed": 1} | ({SIGNED: 1} if keys else {}),
                "inputs": {},
                "measurements": {},
            },
        }
        if sealed != self._entry.get("sealed") or digests.canonical_json(expected) != _bytes(file):
            yield f"{file}: is not what the ledger's entry says"

    def _stage_files(self, stage: str, expected: str | None, evidence: Evidence) -> Iterator[str]:
        """Each file that the manifest names, and no other beside them but the candidate's signature.

        That came after the manifest, and what it is of is looked at by itself.
        """
        folder, manifest = self._folder / stage, self._manifest(stage)
        if expected is not None and digests.of_bytes(_bytes(folder / _MANIFEST)) != expected:
            yield f"{folder / _MANIFEST}: has not the digest that the evidence names, {expected}"
        for name, digest in manifest["files"].items():
            self.files += 1
            try:
                found = digests.of_file(folder / name)
            except OSError as error:
                yield f"{folder / name}: cannot be read: {error.strerror}"
                continue
            if found != digest:
                yield f"{folder / name}: has not the digest that its manifest names, {digest}"
        run = folder / str(manifest["run"])
        signature = self._folder / _inside(evidence) / digests.SIGNATURE_FILE
        holding = {file for file in run.rglob("*") if _holds_data(file)} - {signature}
        there = {file.relative_to(folder).as_posix() for file in holding}
        yield from (
            f"{folder / name}: no manifest names it" for name in sorted(there - set(manifest["files"]))
        )

    def _candidate(self, evidence: Evidence) -> Iterator[str]:
        inside = _inside(evidence)
        if not inside or digests.of_folder(self._folder / inside) != evidence.candidate_digest:
            yield f"{self._folder / inside}: is not the candidate that the evidence is of, {evidence.candidate_digest}"

    def _signature(self, evidence: Evidence) -> Iterator[str]:
        keys = self._public_keys or _keys_of(evidence)
        inside = _inside(evidence)
        if keys and inside:
            problem = signatures.problem(self._folder / inside, keys)
            self.signed = not problem
            yield from [problem] if problem else []

    def _result(self, stage: str) -> StageResult:
        """As its report brought it to the operator: some digits of the manifest's are lost on that way."""
        manifest = self._manifest(stage)
        here = {"uri": str(self._folder / stage), "digest": digests.of_bytes(b"")}
        try:
            result = StageResult.from_wire({**manifest["result"], "manifest": here})
            told = StageReport.decode(StageReport(result=result).encode()).result
        except (ValidationError, ValueError, TypeError, KeyError) as error:
            raise _TamperedError(f"{self._folder / stage / _MANIFEST}: holds no result: {error}") from error
        assert told is not None
        return told

    def _manifest(self, stage: str) -> dict[str, Any]:
        file = self._folder / stage / _MANIFEST
        manifest = _object(file)
        files = manifest.get("files")
        if not isinstance(manifest.get("run"), str) or not isinstance(files, dict):
            raise _TamperedError(f"{file}: is no manifest")
        if not all(isinstance(digest, str) for digest in files.values()):
            raise _TamperedError(f"{file}: is no manifest: a digest is no text")
        return manifest


def _inside(evidence: Evidence) -> str:
    """Where the candidate is in its iteration's folder; empty if it is elsewhere."""
    return evidence.candidate_uri.partition(f"/iterations/{evidence.iteration}/")[2]


def _keys_of(evidence: Evidence) -> list[str]:
    """Of the spec in it; none if it cannot be read, of which the verdicts tell."""
    try:
        signature = AlignmentCycleSpec.from_wire(evidence.spec).promotion.signature
    except ValidationError:
        return []
    return signature.public_keys if signature else []


def _holds_data(path: Path) -> bool:
    """A link to a folder too, through which rglob does not look."""
    return path.is_file() or path.is_symlink()


def _verdicts(evidence: Evidence, results: Mapping[Stage, StageResult], folder: Path) -> Iterator[str]:
    """Given again by this version's gates, from the same measurements and limits."""
    try:
        spec = AlignmentCycleSpec.from_wire(evidence.spec)
    except ValidationError as error:
        yield f"{folder}: the spec in the evidence cannot be read by this version: {error}"
        return
    for gate in evidence.gates:
        if gate.verdict in {Verdict.FAILED, Verdict.ERROR}:
            yield f"{folder}: gate {gate.name}: is {gate.verdict}, which nobody can approve, and yet it was promoted"
    candidate = Located(uri=evidence.candidate_uri, digest=evidence.candidate_digest)
    again = {result.name: result.verdict for result in judge_all(spec, results, evidence.inputs, candidate)}
    said = {gate.name: gate.verdict for gate in evidence.gates}
    for name in sorted({*again, *said}):
        if again.get(name) != said.get(name):
            yield f"{folder}: gate {name}: the evidence says {said.get(name)}, its measurements give {again.get(name)}"


def _digest(value: object) -> str:
    """Raises ValueError."""
    if not isinstance(value, str) or not re.match(digests.PATTERN, value):
        raise ValueError(f"{value!r:.80} is no digest")
    return value


def _object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(_bytes(file))
    except (ValueError, RecursionError) as error:
        raise _TamperedError(f"{file}: is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise _TamperedError(f"{file}: is no JSON object")
    return found


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _TamperedError(f"{file}: cannot be read: {error.strerror}") from error
