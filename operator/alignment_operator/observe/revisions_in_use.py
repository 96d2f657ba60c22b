"""The revisions of datasets that cycles work from, or can go back to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

from alignment_api import names
from alignment_api.cycle import History
from alignment_operator.api import CONTROLLER_REVISION, CYCLE, Api, Manifest
from alignment_operator.observe.objects import controlled_by


async def revisions_in_use(api: Api, namespace: str, dataset: str) -> frozenset[str]:
    """URIs; those of other datasets may be among them. The cycles are read before what they have frozen."""
    cycles = await api.list(CYCLE, namespace, {})
    naming = [cycle for cycle in cycles if dataset in _datasets(cycle)]
    frozen = await asyncio.gather(*(_frozen(api, namespace, cycle["metadata"]["uid"]) for cycle in naming))
    begun = (
        uri for cycle, revisions in zip(naming, frozen, strict=True) for uri in _to_begin(cycle, revisions)
    )
    return frozenset([*(uri for cycle in cycles for uri in _named(cycle)), *begun])


async def _frozen(api: Api, namespace: str, uid: str) -> list[Manifest]:
    listed = await api.list(CONTROLLER_REVISION, namespace, {names.LABEL_OWNER_UID: uid})
    return [revision for revision in listed if controlled_by(revision, uid)]


def _datasets(cycle: Manifest) -> list[str]:
    return [each["name"] for each in cycle["spec"].get("datasets") or []]


def _named(cycle: Manifest) -> Iterator[str]:
    """By the running iteration, and by the lineages of the checkpoints that are kept."""
    status = cycle.get("status") or {}
    iteration, promoted = status.get("iteration") or {}, status.get("promoted")
    if "outcome" not in iteration:
        yield from _uris(iteration.get("datasets"))
    keep = (cycle["spec"].get("history") or {}).get("keepPromoted", History().keep_promoted)
    for promotion in [*([promoted] if promoted else ()), *(status.get("promotions") or ())][:keep]:
        yield from _uris(promotion.get("datasets"))


def _to_begin(cycle: Manifest, frozen: Iterable[Manifest]) -> Iterator[str]:
    """What is frozen for iterations that the status does not know yet, or has forgotten."""
    number = ((cycle.get("status") or {}).get("iteration") or {}).get("number", 0)
    for revision in frozen:
        if int(revision["revision"]) > number:
            yield from _uris((revision.get("data") or {}).get("datasets"))


def _uris(entries: list[dict[str, Any]] | None) -> Iterator[str]:
    return (entry["uri"] for entry in entries or () if "uri" in entry)
