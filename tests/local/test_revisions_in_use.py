"""A revision that a cycle works from is not collected, whichever of both moves first. Passes on a folder, by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alignment_api import digests
from alignment_operator.api import CONTROLLER_REVISION, CYCLE, DATASET, JOB, ConflictError, Kind
from alignment_operator.local.directory import Directory
from alignment_operator.observe.revisions_in_use import revisions_in_use
from alignment_operator.observed import Settings
from alignment_operator.reconcile import Pass, one_pass

Manifest = dict[str, Any]

SETTINGS = Settings(worker_image="worker")
NAMESPACE = "default"
DIGEST = digests.of_bytes(b"")


class Site:
    """A dataset that keeps one revision, and a cycle that is asked to run."""

    def __init__(self, state: Path, cycle: Manifest, dataset: Manifest) -> None:
        self.api = Directory(state)
        dataset["spec"]["retention"] = {"revisions": 1}
        self.uid = self.api.put(DATASET, dataset)["metadata"]["uid"]
        cycle["spec"]["datasets"] = [{"name": "feedback"}]
        cycle["metadata"]["annotations"] = {"alignment.dev/run": "now"}
        self.api.put(CYCLE, cycle)

    def folder(self, number: int) -> str:
        return f"{number}-2026112{number}T030000Z"

    def uri(self, number: int) -> str:
        return f"pvc://models/datasets/{NAMESPACE}/feedback/{self.uid}/revisions/{self.folder(number)}"

    def revision(self, number: int) -> Manifest:
        return {"number": number, "uri": self.uri(number), "digest": DIGEST, "at": "", "pairsEver": 9}

    async def refreshed(self, number: int) -> None:
        """As a refresh has left the status that made this revision after the first."""
        manifest = await self.dataset()
        ready = {"type": "Ready", "status": "True", "reason": "Ingested", "message": ""}
        manifest["status"] = {
            "observedGeneration": 1,
            "conditions": [{**ready, "observedGeneration": 1, "lastTransitionTime": ""}],
            "ingest": {"name": "ingest", "state": "Succeeded", "startedAt": f"2026-11-2{number}T03:00:00Z"},
            "ingestNumber": number,
            "ingestGeneration": 1,
            "rows": {"read": 9, "invalid": 0, "kept": 9},
            "pairs": 9,
            "revision": self.revision(number),
            "revisions": [self.revision(1)] if number > 1 else [],
        }
        await self.api.replace_status(DATASET, manifest)

    async def dataset(self) -> Manifest:
        return await self.api.get(DATASET, NAMESPACE, "feedback") or {}

    async def collection(self) -> Manifest:
        found: Manifest = (await self.dataset())["status"].get("collection", {})
        return found

    async def pass_(self, kind: Kind, api: Any = None) -> Pass:
        name = "feedback" if kind == DATASET else "assistant"
        return await one_pass(api or self.api, kind, NAMESPACE, name, datetime.now(UTC), SETTINGS)

    async def frozen(self) -> list[str]:
        """URIs of the revisions that iterations have frozen, the last one last."""
        found = await self.api.list(CONTROLLER_REVISION, NAMESPACE, {})
        found.sort(key=lambda each: each["revision"])
        return [entry["uri"] for each in found for entry in each["data"]["datasets"]]

    async def collecting(self) -> bool:
        return bool(await self.api.list(JOB, NAMESPACE, {"alignment.dev/stage": "collect"}))


@pytest.fixture
def site(state: Path, cycle: Manifest, dataset: Manifest) -> Site:
    return Site(state, cycle, dataset)


class Meanwhile:
    """The API, on which something else happens just before the first ControllerRevision, or just behind it."""

    def __init__(
        self, api: Directory, happens: Callable[[], Awaitable[object]], *, behind: bool = False
    ) -> None:
        self._api = api
        self._happens: Callable[[], Awaitable[object]] | None = happens
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        happens = self._happens if kind == CONTROLLER_REVISION else None
        if happens:
            self._happens = None
        if happens and not self._behind:
            await happens()
        made = await self._api.create(kind, manifest)
        if happens and self._behind:
            await happens()
        return made


async def frozen_and_killed(site: Site) -> None:
    """The operator has written what an iteration froze, and not yet the status."""

    async def it_is_killed() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await site.pass_(CYCLE, Meanwhile(site.api, it_is_killed, behind=True))


async def test_an_iteration_that_froze_what_is_about_to_go_freezes_anew(site: Site) -> None:
    await site.refreshed(1)

    async def a_collection_is_written_down() -> None:
        await site.refreshed(2)
        await site.pass_(DATASET)
        assert (await site.collection())["kept"] == [site.folder(2)]

    with pytest.raises(ConflictError, match="revision 1 of feedback is no longer kept"):
        await site.pass_(CYCLE, Meanwhile(site.api, a_collection_is_written_down))
    assert await site.frozen() == []
    await site.pass_(CYCLE)
    assert await site.frozen() == [site.uri(2)]
    await site.pass_(DATASET)
    assert await site.collecting()


async def test_what_was_frozen_before_the_collection_looked_stays(site: Site) -> None:
    await site.refreshed(1)
    await site.pass_(CYCLE)
    assert await site.frozen() == [site.uri(1)]
    await site.refreshed(2)
    for _ in range(4):
        await site.pass_(DATASET)
    assert (await site.collection())["inUse"] == [site.folder(1)]
    assert await site.collecting()
    listed = (await site.dataset())["status"]["revisions"]
    assert [revision["number"] for revision in listed] == [1]


async def test_what_is_frozen_and_not_in_a_status_yet_stays_and_is_taken_up(site: Site) -> None:
    """The operator is killed between both writes, and the dataset moves on before it is there again."""
    await site.refreshed(1)
    await frozen_and_killed(site)
    await site.refreshed(2)
    for _ in range(4):
        await site.pass_(DATASET)
    assert (await site.collection())["inUse"] == [site.folder(1)]
    await site.pass_(CYCLE)
    cycle = await site.api.get(CYCLE, NAMESPACE, "assistant")
    assert cycle is not None
    assert [each["uri"] for each in cycle["status"]["iteration"]["datasets"]] == [site.uri(1)]


async def test_what_is_frozen_and_was_let_go_is_not_taken_up(site: Site) -> None:
    """Here the dataset's status does not know the revision any more."""
    await site.refreshed(1)
    await frozen_and_killed(site)
    await site.refreshed(2)
    manifest = await site.dataset()
    manifest["status"]["revisions"] = []
    await site.api.replace_status(DATASET, manifest)
    await site.pass_(CYCLE)
    assert await site.frozen() == [site.uri(1), site.uri(2)]
    cycle = await site.api.get(CYCLE, NAMESPACE, "assistant")
    assert cycle is not None
    assert [each["uri"] for each in cycle["status"]["iteration"]["datasets"]] == [site.uri(2)]


def worked_from(uri: str) -> Manifest:
    return {
        "iteration": 1,
        "uri": "",
        "digest": "",
        "at": "",
        "datasets": [{"name": "x", "pairs": 1, "uri": uri}],
    }


@pytest.mark.parametrize(
    ("status", "used"),
    [
        ({"iteration": {"number": 1, "datasets": [{"uri": "runs"}]}}, {"runs"}),
        ({"iteration": {"number": 1, "outcome": "Failed", "datasets": [{"uri": "ended"}]}}, set()),
        ({"promoted": worked_from("now"), "promotions": [*map(worked_from, "ab")]}, {"now", "a"}),
        ({"promotions": [*map(worked_from, "abc")]}, {"a", "b"}),  # the record was lost
        ({"promoted": {"iteration": 0, "datasets": [{"name": "adopted", "pairs": 1}]}}, set()),
        ({}, set()),
    ],
)
async def test_running_iterations_and_kept_checkpoints_of_any_cycle_hold_their_revisions(
    state: Path, cycle: Manifest, status: Manifest, used: set[str]
) -> None:
    """Of a cycle too whose spec does not name the dataset any more; two of its promoted checkpoints are kept."""
    api = Directory(state)
    cycle["spec"]["history"] = {"keepPromoted": 2}
    made = api.put(CYCLE, cycle)
    await api.replace_status(CYCLE, {**made, "status": status})
    assert await revisions_in_use(api, NAMESPACE, "feedback") == used
