"""What is said of a judge in each category: how often it agrees with people, and with itself in the other order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from alignment_api.measurements import Measurement
from alignment_worker.failures import JudgeStaleError
from alignment_worker.rows import MAX_CATEGORIES, MAX_CATEGORY_BYTES
from alignment_worker.statistics import judge_bias

_Item = TypeVar("_Item")
ByCategory = Mapping[str, Mapping[str, Measurement]]


def grouped(items: Sequence[_Item], categories: Sequence[str | None]) -> dict[str, list[_Item]]:
    """By category, those without one left out. Raises ValueError if there are not as many of both."""
    groups: dict[str, list[_Item]] = {}
    for item, category in zip(items, categories, strict=True):
        if category is not None:
            groups.setdefault(category, []).append(item)
    return groups


def reported(*some: ByCategory) -> tuple[dict[str, dict[str, Measurement]], dict[str, int]]:
    """All together, but no more categories than a report holds: those that were asked about most.

    Beside them the count of those left out, if any: datasets and prompts name categories freely.
    """
    joined: dict[str, dict[str, Measurement]] = {}
    for each in some:
        for category, measured in each.items():
            joined.setdefault(category, {}).update(measured)
    most_first = sorted(joined, key=lambda name: (-sum(value.n for value in joined[name].values()), name))
    kept: list[str] = []
    for category in most_first:
        taken = sum(len(name.encode()) for name in (*kept, category))
        if len(kept) < MAX_CATEGORIES and taken <= MAX_CATEGORY_BYTES:
            kept.append(category)
    left_out = len(joined) - len(kept)
    counts = {"categoriesLeftOut": left_out} if left_out else {}
    return {category: joined[category] for category in sorted(kept)}, counts


def refuse_if_against_people(
    what: str,
    leads: Mapping[str, Sequence[float]],
    confidence: float,
    remedy: str,
    labels: str = "spec.datasets",
) -> None:
    """`leads`: by category, what the chosen answer of each pair leads by; below 0 it lost.

    Raises JudgeStaleError if it is shown to prefer what people rejected in one: exact one-sided sign test, its level
    (1 − confidence) / 2 over all categories (Bonferroni).
    """
    level = (1 - confidence) / 2 / max(1, len(leads))
    found = {category: judge_bias.against(some) for category, some in leads.items()}
    worse = [category for category in sorted(found) if found[category].p <= level]
    if not worse:
        return
    told = "; ".join(
        f"{category!r}: {found[category].agreed} of {found[category].decided} (p = {found[category].p:.2g})"
        for category in worse[:3]
    )
    more = f" and {len(worse) - 3} categories more" if len(worse) > 3 else ""
    raise JudgeStaleError(
        f"{what} goes against people in some category. Of the pairs that it decides it prefers the chosen answer in "
        f"{told}{more}, which is less than chance (below {level:.2g}). {remedy} Or look whether chosen and rejected "
        f"are the right way round there in {labels}."
    )
