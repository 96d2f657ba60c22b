"""What a finished refresh says of a dataset: its revision, unless its bias refuses it, and what that looks like."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from alignment_api.conditions import Reason
from alignment_api.cycle_status import StageStatus
from alignment_api.dataset import (
    MAX_REVISIONS,
    JudgeStatistics,
    PreferenceDatasetSpec,
    PreferenceDatasetStatus,
    Revision,
    Rows,
    Statistics,
)
from alignment_api.measurements import JUDGE_ACCURACY, ORDER_AGREEMENT
from alignment_api.stage import StageResult
from alignment_operator.plan import instants
from alignment_operator.planned import Event

_ROWS = [name for field in Rows.model_fields.values() if (name := field.alias)]


def after(
    status: PreferenceDatasetStatus, spec: PreferenceDatasetSpec, now: datetime
) -> tuple[PreferenceDatasetStatus, tuple[Event, ...]]:
    """What a finished ingest adds: a revision, unless it has the content of the last one or its bias refuses it."""
    ingest = status.ingest
    assert ingest is not None
    if ingest.state == "Failed":
        return status, (Event("IngestFailed", ingest.message or "", warning=True),)
    if ingest.state != "Succeeded":
        return status, ()
    assert ingest.result is not None
    manifest, counts = ingest.result.manifest, ingest.result.counts
    if biased := length_bias(ingest, spec):
        return status, (Event(Reason.LENGTH_BIASED, biased, warning=True),)
    last, before = status.revision, status.revisions
    if last is None or last.digest != manifest.digest:
        before = [last, *before][:MAX_REVISIONS] if last else before
        last = Revision(
            number=(last.number if last else 0) + 1,
            uri=manifest.uri,
            digest=manifest.digest,
            sequence=counts.get("sequence"),
            pairs_ever=counts.get("pairsEver"),
            unpaired_ever=counts.get("unpairedEver"),
            at=instants.spell(now),
        )
    rows = Rows.from_wire(
        {"read": 0, "invalid": 0, "kept": 0} | {key: counts[key] for key in _ROWS if key in counts}
    )
    unpaired = counts.get("unpaired", 0)
    known = {
        "revision": last,
        "revisions": before,
        "rows": rows,
        "pairs": rows.kept - unpaired,
        "unpaired": unpaired,
        "prompts": counts.get("prompts"),
        "statistics": statistics(ingest.result),
    }
    status = status.model_copy(update=known)
    return status, (Event("Ingested", f"revision {last.number}: {contents(status)}"),)


def length_bias(ingest: StageStatus, spec: PreferenceDatasetSpec) -> str | None:
    """Why the revision that was made is not taken; None if it is."""
    limit = spec.curation.max_longer_chosen_percent
    counts = ingest.result.counts if ingest.result else {}
    percent = longer_chosen(counts)
    if limit is None or percent is None or percent <= limit:
        return None
    differing = counts["longerChosen"] + counts["shorterChosen"]
    return (
        f"the longer answer is chosen in {percent:.1f} % of the {differing} pairs whose answers differ by more than "
        f"10 % in length, limit {limit:g} % (spec.curation.maxLongerChosenPercent); what trains on them learns length. "
        "The last revision stays in force: correct the sources, or raise the limit"
    )


def statistics(result: StageResult) -> Statistics:
    """What the revision of that refresh looks like."""
    counts = result.counts
    percent = longer_chosen(counts)
    return Statistics(
        longer_chosen_percent=None if percent is None else round(percent, 1),
        median_prompt_characters=counts.get("medianPromptCharacters"),
        median_completion_characters=counts.get("medianCompletionCharacters"),
        by_source=_under("source/", counts),
        by_model=_under("model/", counts),
        longer_chosen_percent_by_source=_longer_chosen_by("source", counts),
        longer_chosen_percent_by_model=_longer_chosen_by("model", counts),
        answers=counts.get("answers"),
        open_pairs=counts.get("openPairs"),
        pushed=counts.get("pushed"),
        pii=_under("pii/", counts),
        near_gold=counts.get("nearGold"),
        flagged=counts.get("flagged"),
        judges=[
            JudgeStatistics(
                source=(name := key.removeprefix("judged/")),
                pairs=count,
                agreement=result.by_category.get(name, {}).get(JUDGE_ACCURACY),
                order_agreement=result.by_category.get(name, {}).get(ORDER_AGREEMENT),
                contested=counts.get(f"contested/{name}"),
            )
            for key, count in counts.items()
            if key.startswith("judged/")
        ],
    )


def longer_chosen(
    counts: Mapping[str, int], longer: str = "longerChosen", shorter: str = "shorterChosen"
) -> float | None:
    """In percent of the pairs whose answers differ by more than 10 % in length; None without any."""
    won = counts.get(longer, 0)
    differing = won + counts.get(shorter, 0)
    return 100 * won / differing if differing else None


def _longer_chosen_by(kind: str, counts: Mapping[str, int]) -> dict[str, float]:
    percents = {
        name: longer_chosen(counts, f"longer/{kind}/{name}", f"shorter/{kind}/{name}")
        for name in _under(f"longer/{kind}/", counts)
    }
    return {name: round(percent, 1) for name, percent in percents.items() if percent is not None}


def _under(prefix: str, counts: Mapping[str, int]) -> dict[str, int]:
    return {key.removeprefix(prefix): count for key, count in counts.items() if key.startswith(prefix)}


def left_out(rows: Rows) -> int:
    """For whatever reason."""
    reasons = Rows.model_fields.keys() - {"read", "kept"}
    return sum(getattr(rows, name) or 0 for name in reasons)


def contents(status: PreferenceDatasetStatus) -> str:
    """For people."""
    alone = f", {status.prompts} prompts" if status.prompts and not (status.pairs or status.unpaired) else ""
    return f"{status.pairs} pairs{alone}" + (f", {status.unpaired} unpaired rows" if status.unpaired else "")
