"""The stage `ingest`: pairs and unpaired rows from a dataset's sources, as one immutable revision.

Makes pairs.jsonl (`ordinal`; `prompt`, then `chosen` and `rejected`, or of an unpaired row `completion` and `label`;
`source`, `file`, `line`), rejected.jsonl with every row that is left out, `ordinals` for the revision to come, and
README.md, the data card. The same input on the same revision gives the same bytes; but for derived/, the vector store,
which is made where there is a model for it.

Rows are read once and kept on disk with their keys; then it is decided which of them stay; then those are written.
"""

from __future__ import annotations

import json
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from alignment_api.stage import IngestedSource, IngestParameters, InputKind
from alignment_worker import exclusion, rows
from alignment_worker.artifacts import PAIRS
from alignment_worker.exclusion import Forbidden
from alignment_worker.failures import InputMissingError, InvalidConfigError, TooFewPairsError
from alignment_worker.ingestion import deciding, files, near_gold
from alignment_worker.ingestion.card import CARD, card
from alignment_worker.ingestion.deciding import CAPPED, CONFLICTING, DUPLICATE, NEAR_DUPLICATE, Decided
from alignment_worker.ingestion.identity import key_of
from alignment_worker.ingestion.measured import Groups, Measured
from alignment_worker.ingestion.ordinals import ORDINALS, Known
from alignment_worker.ingestion.rejected import REJECTED, Rejected, Why
from alignment_worker.ingestion.sources import Given, Sources
from alignment_worker.ingestion.staging import Staging
from alignment_worker.rows import RowProblemError
from alignment_worker.store import Outcome, SealedFolder
from alignment_worker.workspace import Workspace

if TYPE_CHECKING:
    from alignment_worker.ingestion.embedded import Embedded
    from alignment_worker.ingestion.personal import Personal

_ROWS_BETWEEN_REPORTS = 2000
_PROBLEMS = {
    CONFLICTING: (Why.CONFLICTING, "the same answers are judged the other way, too"),
    CAPPED: (Why.CAPPED, "the source has more rows than maxPairsPerSource; those that are read last stay"),
}


def run(workspace: Workspace) -> Outcome:
    """Raises WorkerError, OSError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, IngestParameters)
    if not parameters.sources:
        raise InvalidConfigError("parameters.sources: is empty; give at least one")
    folder = workspace.run_folder / "staging"
    redact = parameters.pii in ("Drop", "Redact")
    with Rejected(workspace.run_folder / REJECTED, redact=redact) as rejected, Staging(folder) as staging:
        sources = Sources(workspace, folder)
        with _personal(workspace, parameters, rejected) as personal:
            read = _Reading(workspace, staging, rejected, sources, personal).all(parameters.sources)
        _require_same(workspace)
        if not staging.count:
            raise _nothing(workspace, read, rejected)
        before = _before(workspace)
        embedded = _embedded(workspace, staging, folder)
        decided = deciding.decide(
            staging,
            before.known,
            before.sequence,
            parameters.conflicts,
            parameters.max_pairs_per_source,
            folder,
            workspace.run_folder / ORDINALS,
            near=partial(embedded.fill, least_percent=parameters.similarity_percent) if embedded else None,
        )
        counts, groups = _write(workspace, staging, decided, rejected, before)
        if embedded:
            embedded.write(decided.codes)
            counts |= _near_gold(workspace, embedded, decided, parameters.near_gold_percent)
    shutil.rmtree(folder)
    counts |= {"read": read, "sequence": decided.sequence} | rejected.counts() | sources.counts
    if parameters.similarity_percent is None:
        del counts["nearDuplicate"]
    if personal is None:
        del counts["pii"]
    else:
        counts |= personal.counts()
    if not counts["kept"]:
        raise _nothing(workspace, read, rejected)
    text = card(workspace.config, counts, groups, workspace.inputs.digests)
    (workspace.run_folder / CARD).write_text(text, encoding="utf-8")
    return Outcome(counts=counts)


def _personal(
    workspace: Workspace, parameters: IngestParameters, rejected: Rejected
) -> AbstractContextManager[Personal | None]:
    if parameters.pii is None:
        return nullcontext()
    from alignment_worker.ingestion.personal import PERSONAL, Personal  # noqa: PLC0415 - slow to load

    return Personal(parameters.pii, rejected, workspace.run_folder / PERSONAL)


def _embedded(workspace: Workspace, staging: Staging, folder: Path) -> Embedded | None:
    if "embedding" not in workspace.inputs:
        return None
    from alignment_worker.ingestion.embedded import Embedded  # noqa: PLC0415 - loads torch

    return Embedded(workspace, staging, folder)


def _near_gold(
    workspace: Workspace, embedded: Embedded, decided: Decided, least_percent: float | None
) -> dict[str, int]:
    if least_percent is None:
        return {}
    return {"nearGold": near_gold.flag(workspace, embedded, decided.codes, least_percent)}


class _Reading:
    """The rows of all sources, in their order, into the staging."""

    def __init__(
        self,
        workspace: Workspace,
        staging: Staging,
        rejected: Rejected,
        sources: Sources,
        personal: Personal | None,
    ) -> None:
        self._progress = workspace.progress
        self._staging = staging
        self._rejected = rejected
        self._sources = sources
        self._personal = personal
        self._forbidden = _forbidden(workspace)

    def all(self, sources: list[IngestedSource]) -> int:
        """How many rows there are."""
        count = 0
        for index, source in enumerate(sources):
            for given in self._sources.rows(index, source):
                count += 1
                if count % _ROWS_BETWEEN_REPORTS == 0:
                    self._progress.advance(0, f"reading {source.name}, {count:,} rows so far")
                self._row(source.name, given)
            self._staging.ends[source.name] = self._staging.count
        return count

    def _row(self, source: str, given: Given) -> None:
        try:
            found = [(each, key_of(each)) for each in given.preferences]
        except RowProblemError as problem:
            given, found = replace(given, preferences=(), problem=str(problem)), []
        if given.problem:
            self._rejected.add(source, given.file, given.line, Why.INVALID, given.problem, given.row)
        for each, key in found:
            if self._forbidden is not None and self._forbidden.has(each):
                said = "asks a gold or held-out prompt, or holds 13 words in a row of one"
                row = given.row if given.row is not None else each.columns()
                self._rejected.add(source, given.file, given.line, Why.CONTAMINATED, said, row)
            elif self._personal is None:
                self._staging.add(each, key, source, given.file)
            elif (cleaned := self._personal.checked(each, key, source, given)) is not None:
                self._staging.add(*cleaned, source, given.file)


def _forbidden(workspace: Workspace) -> Forbidden | None:
    """Raises InvalidRowError, NoPromptsError: what is measured on must be known."""
    paths = [workspace.inputs.path(role) for role in workspace.inputs.roles("goldSet")]
    prompts = [row.prompt for path in paths for row in rows.read(path, InputKind.PROMPTS)]
    return exclusion.of_prompts(prompts) if prompts else None


def _require_same(workspace: Workspace) -> None:
    """What was read must be what the manifest says. Raises InputMissingError: the next attempt reads it anew."""
    for role in workspace.inputs.roles("source"):
        path = workspace.inputs.path(role)
        if files.digest(path, workspace.inputs.files[role]) != workspace.inputs.digests[role]:
            raise InputMissingError(
                f"inputs.{role}: {path} changed while it was read. Write a file under another name, and then rename it."
            )


@dataclass(frozen=True)
class _Before:
    """What the revision in force knows: ordinals, the highest, and how many pairs and unpaired rows ever had one."""

    known: Known
    sequence: int = 0
    pairs_ever: int = 0
    unpaired_ever: int = 0


def _before(workspace: Workspace) -> _Before:
    if "base" not in workspace.inputs:
        return _Before(Known(None))
    counts = SealedFolder.open(workspace.inputs.path("base")).counts
    known = Known(workspace.inputs.file("base", ORDINALS))
    return _Before(known, counts["sequence"], counts["pairsEver"], counts["unpairedEver"])


def _write(
    workspace: Workspace, staging: Staging, decided: Decided, rejected: Rejected, before: _Before
) -> tuple[dict[str, int], Groups]:
    """pairs.jsonl, and the rest of rejected.jsonl; what they hold."""
    measured, new = Measured(), Measured()
    groups, source_of = Groups(staging.ends, staging.models), _ranges(staging)
    workspace.progress.begin(staging.count, "rows", "writing")
    with (workspace.run_folder / PAIRS).open("wb", buffering=1 << 20) as kept:
        for start, records, lines in staging.chunks():
            codes = decided.codes[start : start + len(records)]
            measured.add(records[codes > 0])
            new.add(records[codes > before.sequence])
            for name, (first, end) in source_of.items():
                part = slice(max(0, first - start), max(0, end - start))
                groups.sources[name].add(records[part][codes[part] > 0])
            groups.add_models(records[codes > 0])
            for code, line in zip(codes.tolist(), lines, strict=True):
                if code > 0:
                    kept.write(b'{"ordinal":%d,%b' % (code, line[1:]))
                else:
                    _leave_out(code, line, decided, rejected)
            workspace.progress.advance(len(records))
    ever = {"pairsEver": before.pairs_ever + new.pairs, "unpairedEver": before.unpaired_ever + new.unpaired}
    return measured.counts() | ever | groups.counts(), groups


def _ranges(staging: Staging) -> dict[str, tuple[int, int]]:
    starts = [0, *staging.ends.values()]
    return {name: (start, end) for (name, end), start in zip(staging.ends.items(), starts, strict=False)}


def _leave_out(code: int, line: bytes, decided: Decided, rejected: Rejected) -> None:
    row = json.loads(line)
    if code in _PROBLEMS:
        why, problem = _PROBLEMS[code]
    else:
        near = code <= NEAR_DUPLICATE
        first = int(decided.codes[(NEAR_DUPLICATE if near else DUPLICATE) - code])
        why, verb = (Why.NEAR_DUPLICATE, "is alike to") if near else (Why.DUPLICATE, "equals")
        problem = (
            f"{verb} the one of ordinal {first}" if first > 0 else f"{verb} one before it, which is left out"
        )
    rejected.add(row["source"], row["file"], row["line"], why, problem, line)


def _nothing(workspace: Workspace, read: int, rejected: Rejected) -> TooFewPairsError:
    if read:
        return TooFewPairsError(
            f"none of the {read} rows is a pair or an unpaired row that stays; the first problem: {rejected.first}"
        )
    paths = ", ".join(str(workspace.inputs.path(role)) for role in workspace.inputs.roles("source"))
    return TooFewPairsError(f"{paths}: no rows; give at least one")
