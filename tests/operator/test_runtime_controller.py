"""What wakes which key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from alignment_api import names
from alignment_operator.api import CYCLE, DATASET, ConflictError, Manifest
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


def new_controller(most_active: int | None = None) -> Controller:
    nothing: Any = None
    return Controller(Recorder(nothing), SETTINGS, lambda *_: [], new_metrics(), most_active)


async def woken(controller: Controller) -> list[Key]:
    keys = []
    while len(controller.queue):
        keys.append(await controller.queue.take())
    for key in keys:
        controller.queue.done(key)
    return keys


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the controller tells nobody
            await asyncio.sleep(0)


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
        controller.heard_of_target(owned(**{names.LABEL_CYCLE: "support"}), None)
        controller.heard_of_progress(owned(**{names.LABEL_DATASET: "feedback"}))
        controller.heard_of_target(None, owned(team="a"))
        assert await woken(controller) == [SUPPORT, FEEDBACK]

    asyncio.run(work())


def test_the_status_that_it_wrote_itself_is_no_news_and_any_other_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        controller = new_controller()
        passes = asyncio.Event()

        async def one_pass(*_: Any) -> Pass:
            passes.set()
            return Pass(latest=a_cycle("8"))

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


@pytest.mark.parametrize(("heard", "looked_at_again"), [(["8"], False), (["8", "9"], True), (["7"], True)])
def test_its_own_status_is_no_news_even_before_the_write_is_answered(
    monkeypatch: pytest.MonkeyPatch, heard: list[str], *, looked_at_again: bool
) -> None:
    async def work() -> None:
        controller = new_controller()
        passes = 0

        async def one_pass(*_: Any) -> Pass:
            nonlocal passes
            passes += 1
            for version in heard if passes == 1 else ():
                controller.heard_of_cycle(a_cycle(version), deleted=False)
            return Pass(latest=a_cycle("8")) if passes == 1 else Pass()

        monkeypatch.setattr(controller_module, "one_pass", one_pass)
        worker = asyncio.create_task(controller.work())
        controller.heard_of_cycle(a_cycle("6"), deleted=False)
        controller.heard_of_dataset(a_dataset(), deleted=False)
        await until(lambda: passes >= 2 + looked_at_again)
        worker.cancel()
        assert await woken(controller) == []
        assert passes == 2 + looked_at_again

    asyncio.run(work())


def test_what_a_pass_wrote_is_acted_on_at_once_and_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> list[Manifest | None]:
        controller = new_controller()
        known: list[Manifest | None] = []

        async def one_pass(*arguments: Any) -> Pass:
            known.append(arguments[-1].latest)
            if len(known) < 3:
                return Pass(wake_at=now(), latest=a_cycle(str(len(known))))
            return Pass()

        monkeypatch.setattr(controller_module, "one_pass", one_pass)
        worker = asyncio.create_task(controller.work())
        controller.heard_of_cycle(a_cycle("0"), deleted=False)
        controller.heard_of_dataset(a_dataset(), deleted=False)
        await until(lambda: len(known) == 4)
        worker.cancel()
        return known

    assert asyncio.run(work()) == [None, a_cycle("1"), a_cycle("2"), None]


@pytest.mark.parametrize(
    ("status", "seconds"),
    [({}, 3), ({"active": 1}, 3), ({"ready": 1}, 0), ({"failed": 1}, 0), ({"conditions": [{}]}, 0)],
)
def test_a_job_whose_pods_do_not_run_yet_wakes_at_leisure(
    monkeypatch: pytest.MonkeyPatch, status: Manifest, seconds: float
) -> None:
    async def work() -> None:
        controller = new_controller()
        waits: list[float] = []
        monkeypatch.setattr(controller.queue, "add_after", lambda _, delay: waits.append(delay))
        job = {**owned(**{names.LABEL_CYCLE: "support"}), "spec": {}, "status": status}
        controller.heard_of_job(job, None)
        assert (waits, await woken(controller)) == (([seconds], []) if seconds else ([], [SUPPORT]))

    asyncio.run(work())


def test_a_job_that_only_got_a_ttl_wakes_nobody() -> None:
    async def work() -> None:
        controller = new_controller()
        ended = {**owned(**{names.LABEL_CYCLE: "support"}), "spec": {}, "status": {"conditions": [{}]}}
        expiring = {**ended, "spec": {"ttlSecondsAfterFinished": 60}}
        controller.heard_of_job(expiring, ended)
        assert await woken(controller) == []
        controller.heard_of_job(expiring, {**expiring, "status": {"ready": 1}})
        assert await woken(controller) == [SUPPORT]
        controller.heard_of_job(None, expiring)
        assert await woken(controller) == [SUPPORT]

    asyncio.run(work())


@pytest.mark.parametrize(
    ("runs", "heard", "read_again"),
    [
        (True, [], False),
        (True, ["8"], False),
        (True, ["8", "9"], True),
        (False, ["8"], True),
    ],
)
def test_a_running_iteration_is_not_read_again_before_somebody_else_has_written(
    monkeypatch: pytest.MonkeyPatch, heard: list[str], *, runs: bool, read_again: bool
) -> None:
    """The last of each is what the next pass is given: what was written here, or nothing."""

    async def work() -> list[Manifest | None]:
        controller = new_controller()
        known: list[Manifest | None] = []

        async def one_pass(*arguments: Any) -> Pass:
            known.append(arguments[-1].latest)
            return Pass(latest=a_cycle("8"), runs=runs) if len(known) == 1 else Pass(runs=runs)

        monkeypatch.setattr(controller_module, "one_pass", one_pass)
        worker = asyncio.create_task(controller.work())
        controller.queue.add(SUPPORT)
        await until(lambda: len(known) == 1 and not controller.queue.is_working_on(SUPPORT))
        for version in heard:
            controller.heard_of_cycle(a_cycle(version), deleted=False)
        controller.heard_of_progress(owned(**{names.LABEL_CYCLE: "support"}))
        await until(lambda: len(known) == 2)
        worker.cancel()
        return known

    assert asyncio.run(work()) == [None, None if read_again else a_cycle("8")]


def test_what_was_written_is_read_again_after_a_write_that_somebody_else_was_faster_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether it is heard of during the pass, or the write itself fails."""

    async def work() -> list[Manifest | None]:
        controller = new_controller()
        known: list[Manifest | None] = []

        async def one_pass(*arguments: Any) -> Pass:
            known.append(arguments[-1].latest)
            match len(known):
                case 1:
                    controller.heard_of_cycle(a_cycle("9"), deleted=False)
                    return Pass(latest=a_cycle("8"), runs=True)
                case 2:
                    return Pass(latest=a_cycle("10"), runs=True)
                case 3:
                    raise ConflictError("somebody wrote")
            return Pass(runs=True)

        monkeypatch.setattr(controller_module, "one_pass", one_pass)
        worker = asyncio.create_task(controller.work())
        controller.queue.add(SUPPORT)
        await until(lambda: len(known) == 2 and not controller.queue.is_working_on(SUPPORT))
        controller.queue.add(SUPPORT)
        await until(lambda: len(known) == 4)
        worker.cancel()
        return known

    assert asyncio.run(work()) == [None, None, a_cycle("10"), None]


def test_no_more_iterations_run_than_have_a_place_and_the_next_starts_when_one_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work() -> None:
        controller = new_controller(most_active=2)
        running: set[str] = set()
        started: list[str] = []
        most = 0

        async def one_pass(_api: Any, _kind: Any, _namespace: str, name: str, *rest: Any) -> Pass:
            nonlocal most
            await asyncio.sleep(0)
            if name in running:
                running.remove(name)
                return Pass()
            if not rest[-1].has_turn:
                return Pass(waits_for_turn=True)
            if name not in started:
                started.append(name)
                running.add(name)
                most = max(most, len(running))
                return Pass(wake_at=now(), runs=True, latest=a_cycle("2"))
            return Pass()

        monkeypatch.setattr(controller_module, "one_pass", one_pass)
        workers = [asyncio.create_task(controller.work()) for _ in range(4)]
        cycles = [f"c{number}" for number in range(20)]
        for name in cycles:
            manifest = a_cycle()
            controller.heard_of_cycle(
                {**manifest, "metadata": manifest["metadata"] | {"name": name}}, deleted=False
            )
        await until(lambda: len(started) == len(cycles) and not running)
        for worker in workers:
            worker.cancel()
        assert most == 2

    asyncio.run(work())


def test_a_pass_that_changed_nothing_is_not_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> list[float]:
        controller = new_controller()
        waits: list[float] = []
        waited = asyncio.Event()

        def add_after(_: Key, seconds: float) -> None:
            waits.append(seconds)
            waited.set()

        async def one_pass(*_: Any) -> Pass:
            return Pass(wake_at=now() - timedelta(seconds=5))

        monkeypatch.setattr(controller.queue, "add_after", add_after)
        monkeypatch.setattr(controller_module, "one_pass", one_pass)
        worker = asyncio.create_task(controller.work())
        controller.heard_of_cycle(a_cycle(), deleted=False)
        await asyncio.wait_for(waited.wait(), 10)
        worker.cancel()
        return waits

    assert asyncio.run(work()) == [1.0]


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
