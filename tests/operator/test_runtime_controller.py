"""What wakes which key."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from alignment_api import names
from alignment_operator.api import CYCLE, DATASET, Manifest
from alignment_operator.reconcile import Pass
from alignment_operator.runtime import controller as controller_module
from alignment_operator.runtime.controller import Controller, Key
from alignment_operator.runtime.metrics import Live, Metrics
from tests.operator.edges import SETTINGS, Recorder, now

SUPPORT = Key(CYCLE, "team", "support")
FEEDBACK = Key(DATASET, "team", "feedback")


def a_cycle(version: str = "1", *datasets: str) -> Manifest:
    spec = {"datasets": [{"name": name} for name in datasets]}
    return {"metadata": {"name": "support", "namespace": "team", "resourceVersion": version}, "spec": spec}


def a_dataset(version: str = "1") -> Manifest:
    return {"metadata": {"name": "feedback", "namespace": "team", "resourceVersion": version}}


def owned(**labels: str) -> Manifest:
    return {"metadata": {"name": "any", "namespace": "team", "labels": labels}}


def new_metrics() -> Metrics:
    return Metrics("0.1.0", lambda: Live(0, 0.0, {}))


def new_controller() -> Controller:
    nothing: Any = None
    return Controller(Recorder(nothing), SETTINGS, lambda *_: [], new_metrics())


async def woken(controller: Controller) -> list[Key]:
    keys = []
    while len(controller.queue):
        keys.append(await controller.queue.take())
    for key in keys:
        controller.queue.done(key)
    return keys


def test_a_dataset_wakes_the_cycles_that_name_it_now() -> None:
    async def work() -> None:
        controller = new_controller()
        controller.heard_of_cycle(a_cycle("1", "feedback", "other"), deleted=False)
        await woken(controller)
        controller.heard_of_dataset(a_dataset(), deleted=False)
        assert await woken(controller) == [FEEDBACK, SUPPORT]
        controller.heard_of_cycle(a_cycle("2", "other"), deleted=False)
        await woken(controller)
        controller.heard_of_dataset(a_dataset("2"), deleted=False)
        assert await woken(controller) == [FEEDBACK]
        controller.heard_of_cycle(a_cycle("3", "feedback"), deleted=False)
        controller.heard_of_cycle(a_cycle("4", "feedback"), deleted=True)
        await woken(controller)
        controller.heard_of_dataset(a_dataset("3"), deleted=True)
        assert await woken(controller) == [FEEDBACK]

    asyncio.run(work())


def test_a_job_or_target_wakes_whom_its_label_names() -> None:
    async def work() -> None:
        controller = new_controller()
        controller.heard_of_owned(owned(**{names.LABEL_CYCLE: "support"}))
        controller.heard_of_owned(owned(**{names.LABEL_DATASET: "feedback"}))
        controller.heard_of_owned(owned(team="a"))
        assert await woken(controller) == [SUPPORT, FEEDBACK]

    asyncio.run(work())


def test_the_status_that_it_wrote_itself_is_no_news_and_any_other_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        controller = new_controller()
        passes = asyncio.Event()

        async def one_pass(*_: Any) -> Pass:
            passes.set()
            return Pass(written="8")

        monkeypatch.setattr(controller_module, "one_pass", one_pass)
        worker = asyncio.create_task(controller.work())
        controller.heard_of_cycle(a_cycle("7"), deleted=False)
        await asyncio.wait_for(passes.wait(), 10)
        worker.cancel()
        controller.heard_of_cycle(a_cycle("8"), deleted=False)
        assert await woken(controller) == []
        controller.heard_of_cycle(a_cycle("9"), deleted=False)
        assert await woken(controller) == [SUPPORT]

    asyncio.run(work())


@pytest.mark.parametrize(("written", "at_once"), [("8", True), (None, False)])
def test_a_pass_that_changed_nothing_is_not_repeated_at_once(
    monkeypatch: pytest.MonkeyPatch, written: str | None, *, at_once: bool
) -> None:
    async def work() -> list[float]:
        controller = new_controller()
        waits: list[float] = []
        waited = asyncio.Event()

        def add_after(_: Key, seconds: float) -> None:
            waits.append(seconds)
            waited.set()

        async def one_pass(*_: Any) -> Pass:
            return Pass(wake_at=now() - timedelta(seconds=5), written=written)

        monkeypatch.setattr(controller.queue, "add_after", add_after)
        monkeypatch.setattr(controller_module, "one_pass", one_pass)
        worker = asyncio.create_task(controller.work())
        controller.heard_of_cycle(a_cycle(), deleted=False)
        await asyncio.wait_for(waited.wait(), 10)
        worker.cancel()
        return waits

    (wait,) = asyncio.run(work())
    assert (wait <= 0) == at_once


def test_one_objects_trouble_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        controller = new_controller()
        fine = asyncio.Event()

        async def one_pass(_api: Any, _kind: Any, _namespace: str, name: str, *_: Any) -> Pass:
            if name == "support":
                raise ZeroDivisionError("of this cycle alone")
            fine.set()
            return Pass()

        monkeypatch.setattr(controller_module, "one_pass", one_pass)
        worker = asyncio.create_task(controller.work())
        controller.heard_of_cycle(a_cycle(), deleted=False)
        controller.heard_of_dataset(a_dataset(), deleted=False)
        await asyncio.wait_for(fine.wait(), 10)
        assert not worker.done()
        worker.cancel()

    asyncio.run(work())
    assert "AlignmentCycle team/support: of this cycle alone; again in" in caplog.text
