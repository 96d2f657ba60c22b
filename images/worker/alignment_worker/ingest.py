"""The stage `ingest`: pairs and unpaired rows from a dataset's sources, as one immutable revision.

Makes pairs.jsonl (`ordinal`; `prompt`, then `chosen` and `rejected`, or of an unpaired row `completion` and `label`;
`source`, `file`, `line`), rejected.jsonl with every row that is left out, `ordinals` for the revision to come, and
README.md, the data card; where a filter or judges are named, flagged.jsonl and contested-SOURCE.jsonl (`ordinal`, and
`score` or `lead`). The same input on the same revision gives the same bytes; but for derived/, the vector store and
the filter's scores.

Rows are read once and kept on disk with their keys; then judges are asked about what is open; then it is decided which
rows stay; then those are written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alignment_api.stage import IngestedSource, IngestParameters, InputKind
from alignment_worker import exclusion, rows
from alignment_worker.artifacts import PAIRS, PROMPTS
from alignment_worker.exclusion import Forbidden
from alignment_worker.failures import InvalidConfigError, TooFewPairsError
from alignment_worker.ingestion import deciding, near_gold
from alignment_worker.ingestion.asked import Asked
from alignment_worker.ingestion.card import CARD, card
from alignment_worker.ingestion.deciding import (
    CAPPED,
    CONFLICTING,
    DUPLICATE,
    FILTERED,
    NEAR_DUPLICATE,
    Decided,
)
from alignment_worker.ingestion.identity import key_of
from alignment_worker.ingestion.languages import Languages
from alignment_worker.ingestion.measured import Groups, Measured
from alignment_worker.ingestion.open_pairs import OpenPairs
from alignment_worker.ingestion.ordinals import ORDINALS, Known, Numbers
from alignment_worker.ingestion.rejected import REJECTED, Rejected, Why
from alignment_worker.ingestion.sources import Given, Sources
from alignment_worker.ingestion.staging import Staging
from alignment_worker.rows import Prompt, Row, RowProblemError
from alignment_worker.store import Outcome, SealedFolder
from alignment_worker.workspace import Workspace

if TYPE_CHECKING:
    from alignment_worker.ingestion.embedded import Embedded
    from alignment_worker.ingestion.feedback import Feedback
    from alignment_worker.ingestion.flagging import Quality
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
    with (
        Rejected(workspace.run_folder / REJECTED, redact=redact) as rejected,
        _personal(workspace, parameters, rejected) as personal,
        Staging(folder) as staging,
        Asked(folder / "asked") as asked,
        OpenPairs(folder / "open.sqlite") as opened,
    ):
        forbidden = _forbidden(workspace)
        quality = _quality(workspace, staging)
        feedback = _feedback(workspace, parameters, staging, forbidden)
        sources = Sources(workspace, folder, opened, quality, personal)
        reading = _Reading(workspace, staging, asked, rejected, sources, forbidden, personal)
        read = reading.all(parameters.sources)
        read_from = {role: found.digest() for role, found in workspace.inputs.sources.items()}
        if feedback:
            read += feedback.give(opened)
        if not staging.count and not reading.logged:
            raise _nothing(workspace, read, sources.counts["answers"], rejected)
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
            marks=_marks(quality, embedded, parameters.similarity_percent),
        )
        counts, groups, languages = _write(workspace, staging, decided, rejected, before, quality)
        counts["prompts"] = asked.write(workspace.run_folder / PROMPTS)
        if feedback:
            counts |= feedback.write(decided.codes) | feedback.counts
        if quality:
            counts |= quality.write(decided.codes)
        if embedded:
            counts |= _write_embedded(workspace, embedded, decided.codes, counts["prompts"], folder)
    shutil.rmtree(folder)
    counts |= {"read": read, "sequence": decided.sequence} | sources.counts
    counts |= _left_out(rejected, parameters) | (personal.counts() if personal else {})
    if not counts["kept"] and not reading.logged:
        raise _nothing(workspace, read, sources.counts["answers"], rejected)
    measured = feedback.by_source if feedback else {}
    digests = {**workspace.inputs.digests, **read_from}
    text = card(workspace.config, counts, groups, languages, digests, measured)
    (workspace.run_folder / CARD).write_text(text, encoding="utf-8")
    return Outcome(counts=counts, by_category=measured)


def _left_out(rejected: Rejected, parameters: IngestParameters) -> dict[str, int]:
    """By reason, but for reasons that the settings do not have."""
    counts = rejected.counts()
    if parameters.similarity_percent is None:
        del counts["nearDuplicate"]
    if parameters.filter is None or parameters.filter.action != "Drop":
        del counts["filtered"]
    if parameters.pii is None:
        del counts["pii"]
    return counts


def _marks(
    quality: Quality | None, embedded: Embedded | None, similarity_percent: float | None
) -> list[Callable[[Numbers], None]]:
    """What is flagged is looked for first, so that none of it stays in the place of its near-duplicates."""
    return [
        *([quality.mark] if quality else []),
        *([partial(embedded.fill, least_percent=similarity_percent)] if embedded else []),
    ]


def _feedback(
    workspace: Workspace, parameters: IngestParameters, staging: Staging, forbidden: Forbidden | None
) -> Feedback | None:
    logs = [source.inference_log for source in parameters.sources]
    if not any(log and log.judge for log in logs):
        return None
    from alignment_worker.ingestion.feedback import Feedback  # noqa: PLC0415 - loads SciPy, a reward model torch

    return Feedback(workspace, staging, forbidden)


def _quality(workspace: Workspace, staging: Staging) -> Quality | None:
    if "filter" not in workspace.inputs:
        return None
    from alignment_worker.ingestion.flagging import Quality  # noqa: PLC0415 - loads torch

    return Quality(workspace, staging)


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


def _write_embedded(
    workspace: Workspace, embedded: Embedded, codes: Numbers, prompts: int, folder: Path
) -> dict[str, int]:
    """What embeddings make of the rows that stay, and of the prompts; the counts of it."""
    from alignment_worker.ingestion import embedded_prompts  # noqa: PLC0415 - loads torch

    parameters = workspace.config.parameters
    assert isinstance(parameters, IngestParameters)
    embedded.write(codes)
    embedded_prompts.write(workspace, embedded, workspace.run_folder / PROMPTS, prompts, folder)
    if parameters.near_gold_percent is None:
        return {}
    return {"nearGold": near_gold.flag(workspace, embedded, codes, parameters.near_gold_percent)}


class _Reading:
    """The rows of all sources, in their order, into the staging."""

    def __init__(
        self,
        workspace: Workspace,
        staging: Staging,
        asked: Asked,
        rejected: Rejected,
        sources: Sources,
        forbidden: Forbidden | None,
        personal: Personal | None,
    ) -> None:
        self.logged = 0  # prompts of logs, for which a revision needs no judgement
        self._progress = workspace.progress
        self._staging = staging
        self._asked = asked
        self._rejected = rejected
        self._sources = sources
        self._forbidden = forbidden
        self._personal = personal

    def all(self, sources: list[IngestedSource]) -> int:
        """How many rows there are."""
        count = 0
        for index, source in enumerate(sources):
            for given in self._sources.rows(index, source):
                if given.asked is not None:
                    self._prompt(source.name, given, given.asked)
                    continue
                count += 1
                if count % _ROWS_BETWEEN_REPORTS == 0:
                    self._progress.advance(0, f"reading {source.name}, {count:,} rows so far")
                self._row(source.name, given)
            self._staging.end_part(source.name)
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
                continue
            stays = self._personal.checked(each, key, source, given) if self._personal else (each, key)
            if stays is not None:
                self._staging.add(*stays, source, given.file)
                self._asked.add(stays[0].prompt, source, given.file, each.number)

    def _prompt(self, source: str, given: Given, asked: Prompt) -> None:
        """A prompt alone is no row, and so none is left out."""
        row = Row(given.line, asked)
        if self._forbidden is None or not self._forbidden.has(row):
            self._asked.add(asked, source, given.file, given.line)
            self.logged += 1


def _forbidden(workspace: Workspace) -> Forbidden | None:
    """Raises InvalidRowError, NoPromptsError: what is measured on must be known."""
    paths = [workspace.inputs.path(role) for role in workspace.inputs.roles("goldSet")]
    prompts = [row.prompt for path in paths for row in rows.read(path, InputKind.PROMPTS)]
    return exclusion.of_prompts(prompts) if prompts else None


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
    workspace: Workspace,
    staging: Staging,
    decided: Decided,
    rejected: Rejected,
    before: _Before,
    quality: Quality | None,
) -> tuple[dict[str, int], Groups, Languages]:
    """pairs.jsonl, and the rest of rejected.jsonl; what they hold."""
    measured, new = Measured(), Measured()
    languages = Languages(int(np.count_nonzero(decided.codes > 0)))
    groups = Groups((part.source for part in staging.parts), staging.models)
    by_judge = {part.source: 0 for part in staging.parts if part.judged}
    workspace.progress.begin(staging.count, "rows", "writing")
    with (workspace.run_folder / PAIRS).open("wb", buffering=1 << 20) as kept:
        for start, records, lines in staging.chunks():
            codes = decided.codes[start : start + len(records)]
            measured.add(records[codes > 0])
            new.add(records[codes > before.sequence])
            for each in staging.parts:
                part = slice(max(0, each.rows.start - start), max(0, each.rows.stop - start))
                there = records[part][codes[part] > 0]
                groups.sources[each.source].add(there)
                if each.judged:
                    by_judge[each.source] += len(there)
            groups.add_models(records[codes > 0])
            sampled = languages.sampled(records).tolist()
            there_are = zip(codes.tolist(), sampled, lines, strict=True)
            for place, (code, is_sampled, line) in enumerate(there_are, start):
                if code > 0:
                    kept.write(b'{"ordinal":%d,%b' % (code, line[1:]))
                    if is_sampled:
                        languages.add(line)
                elif code == FILTERED:
                    assert quality is not None
                    _aside(rejected, json.loads(line), Why.FILTERED, quality.said_of(place), line)
                else:
                    _leave_out(code, line, decided, rejected)
            workspace.progress.advance(len(records))
    ever = {"pairsEver": before.pairs_ever + new.pairs, "unpairedEver": before.unpaired_ever + new.unpaired}
    judged = {f"judged/{name}": count for name, count in by_judge.items()}
    return measured.counts() | ever | judged | groups.counts(), groups, languages


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
    _aside(rejected, row, why, problem, line)


def _aside(rejected: Rejected, row: Mapping[str, Any], why: Why, problem: str, line: bytes) -> None:
    rejected.add(row["source"], row["file"], row["line"], why, problem, line)


def _nothing(workspace: Workspace, read: int, answers: int, rejected: Rejected) -> TooFewPairsError:
    if read:
        return TooFewPairsError(
            f"none of the {read} rows is a pair or an unpaired row that stays; the first problem: {rejected.first}"
        )
    searched = ", ".join(found.where for found in workspace.inputs.sources.values())
    if answers:
        return TooFewPairsError(
            f"{searched}: the prompts of all {answers} answers are left out: they hold personal data "
            "(spec.curation.pii), or are gold or held-out prompts (spec.curation.contamination)"
        )
    return TooFewPairsError(f"{searched}: no rows; give at least one")
