"""The stage `ingest`: pairs and unpaired rows from a dataset's sources, as one immutable revision.

Makes pairs.jsonl (`ordinal`; `prompt`, then `chosen` and `rejected`, or of an unpaired row `completion` and `label`;
`source`, `file`, `line`), prompts.jsonl with all that was asked, rejected.jsonl with every row that is left out,
`ordinals` for the revision to come, and README.md, the data card; where a filter or judges are named, flagged.jsonl and
contested-SOURCE.jsonl (`ordinal`, and `score` or `lead`). The same input on the same revision gives the same bytes; but
for derived/, the vector store and the filter's scores.

Rows are read once and kept on disk with their keys; then judges are asked about what is open; then it is decided which
rows stay; then those are written.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from alignment_api import names
from alignment_api.stage import Digest, IngestParameters, InputKind
from alignment_worker import exclusion, rows
from alignment_worker.artifacts import PAIRS, PROMPTS
from alignment_worker.exclusion import Forbidden
from alignment_worker.failures import InvalidConfigError, TooFewPairsError
from alignment_worker.ingestion import deciding, near_gold
from alignment_worker.ingestion.asked import Asked
from alignment_worker.ingestion.card import CARD, card
from alignment_worker.ingestion.deciding import Decided
from alignment_worker.ingestion.open_pairs import OpenPairs
from alignment_worker.ingestion.ordinals import ORDINALS, Known, Numbers
from alignment_worker.ingestion.reading import Reading
from alignment_worker.ingestion.rejected import Rejected
from alignment_worker.ingestion.sources import Sources
from alignment_worker.ingestion.staging import Staging
from alignment_worker.ingestion.writing import Writing
from alignment_worker.store import Outcome, SealedFolder
from alignment_worker.workspace import Workspace

if TYPE_CHECKING:
    from alignment_worker.ingestion.embedded import Embedded
    from alignment_worker.ingestion.feedback import Feedback
    from alignment_worker.ingestion.flagging import Quality
    from alignment_worker.ingestion.personal import Personal


def run(workspace: Workspace) -> Outcome:
    """Raises WorkerError, OSError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, IngestParameters)
    if not parameters.sources:
        raise InvalidConfigError("parameters.sources: is empty; give at least one")
    folder = workspace.run_folder / "staging"
    redact = parameters.pii in ("Drop", "Redact")
    with (
        Rejected(workspace.run_folder / names.REJECTED_ROWS, redact=redact) as rejected,
        _personal(workspace, parameters, rejected) as personal,
        Staging(folder) as staging,
        Asked(folder / "asked") as asked,
        OpenPairs(folder / "open.sqlite") as opened,
    ):
        refresh = _Refresh(workspace, parameters, folder, rejected, personal, staging, asked, opened)
        refresh.read()
        refresh.decide()
        refresh.write()
    shutil.rmtree(folder)
    return refresh.outcome()


@dataclass
class _Refresh:
    """Its steps, in their order, are its methods; `counts` grows with them. They raise WorkerError, OSError."""

    workspace: Workspace
    parameters: IngestParameters
    folder: Path  # for what is not kept
    rejected: Rejected
    personal: Personal | None
    staging: Staging
    asked: Asked
    opened: OpenPairs
    quality: Quality | None = field(init=False)
    feedback: Feedback | None = field(init=False)
    reading: Reading = field(init=False)
    before: _Before = field(init=False)
    embedded: Embedded | None = field(init=False)
    decided: Decided = field(init=False)
    writing: Writing = field(init=False)
    digests: dict[str, Digest] = field(default_factory=dict)  # of the sources, as they were read
    counts: dict[str, int] = field(default_factory=dict)

    def read(self) -> None:
        """All rows, and then those that judges make of what is open."""
        forbidden = _forbidden(self.workspace)
        self.quality = _quality(self.workspace, self.staging)
        self.feedback = _feedback(self.workspace, self.parameters, self.staging, forbidden)
        sources = Sources(self.workspace, self.folder, self.opened, self.quality, self.personal)
        self.reading = Reading(self.staging, self.asked, self.rejected, forbidden, self.personal)
        read = self.reading.all(sources, self.parameters.sources, self.workspace.progress)
        self.digests = {role: found.digest() for role, found in self.workspace.inputs.sources.items()}
        if self.feedback:
            read += self.feedback.give(self.opened)
        self.counts |= {"read": read} | sources.counts
        self._require(self.staging.count)

    def decide(self) -> None:
        """Which rows stay, and by what ordinal."""
        self.before = _before(self.workspace)
        self.embedded = _embedded(self.workspace, self.staging, self.folder)
        self.decided = deciding.decide(
            self.staging,
            self.before.known,
            self.before.sequence,
            self.parameters.conflicts,
            self.parameters.max_pairs_per_source,
            self.folder,
            self.workspace.run_folder / ORDINALS,
            marks=_marks(self.quality, self.embedded, self.parameters.similarity_percent),
        )
        self.counts["sequence"] = self.decided.sequence

    def write(self) -> None:
        """The rows, the prompts, and what is told of both."""
        run_folder, codes = self.workspace.run_folder, self.decided.codes
        self.writing = Writing(self.staging, codes, self.before.sequence, self.rejected, self.quality)
        self.writing.all(run_folder / PAIRS, self.workspace.progress)
        self.counts |= self.writing.counts() | {
            "pairsEver": self.before.pairs_ever + self.writing.new.pairs,
            "unpairedEver": self.before.unpaired_ever + self.writing.new.unpaired,
            "prompts": self.asked.write(run_folder / PROMPTS),
        }
        if self.feedback:
            self.counts |= self.feedback.write(codes) | self.feedback.counts
        if self.quality:
            self.counts |= self.quality.write(codes)
        if self.embedded:
            self.counts |= _write_embedded(
                self.workspace, self.embedded, codes, self.counts["prompts"], self.folder
            )

    def outcome(self) -> Outcome:
        """With the data card."""
        self.counts |= _left_out(self.rejected, self.parameters)
        self.counts |= self.personal.counts() if self.personal else {}
        self._require(self.counts["kept"])
        measured = self.feedback.by_source if self.feedback else {}
        digests = {**self.workspace.inputs.digests, **self.digests}
        told = self.writing.groups, self.writing.languages
        text = card(self.workspace.config, self.counts, *told, digests, measured)
        (self.workspace.run_folder / CARD).write_text(text, encoding="utf-8")
        return Outcome(counts=self.counts, by_category=measured)

    def _require(self, rows: int) -> None:
        """Raises TooFewPairsError, but where a log gave prompts, which are enough."""
        if not rows and not self.reading.logged:
            raise _nothing(self.workspace, self.counts, self.rejected)


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


def _nothing(workspace: Workspace, counts: Mapping[str, int], rejected: Rejected) -> TooFewPairsError:
    if read := counts["read"]:
        return TooFewPairsError(
            f"none of the {read} rows is a pair or an unpaired row that stays; the first problem: {rejected.first}"
        )
    searched = ", ".join(found.where for found in workspace.inputs.sources.values())
    if answers := counts.get("answers"):  # of logs
        return TooFewPairsError(
            f"{searched}: the prompts of all {answers} answers are left out: they hold personal data "
            "(spec.curation.pii), or are gold or held-out prompts (spec.curation.contamination)"
        )
    return TooFewPairsError(f"{searched}: no rows; give at least one")
