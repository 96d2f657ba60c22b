"""The work queue: each key at most once, never twice at the same time, later after an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from alignment_operator.runtime.backoff import Backoff
from alignment_operator.runtime.work_queue import WorkQueue

T = TypeVar("T")


def run(work: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(10):
            return await work()

    return asyncio.run(bounded())


async def nothing_ready(queue: WorkQueue[str]) -> bool:
    """Everything that is due now has had its turn, and no key came."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return len(queue) == 0


def test_a_key_added_many_times_is_taken_once() -> None:
    async def work() -> None:
        queue: WorkQueue[str] = WorkQueue()
        for _ in range(5):
            queue.add("a")
        queue.add("b")
        assert [await queue.take(), await queue.take()] == ["a", "b"]
        assert len(queue) == 0

    run(work)


def test_a_key_that_is_worked_on_waits_for_its_worker_and_is_taken_once_more() -> None:
    async def work() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        key = await queue.take()
        queue.add("a")
        queue.add("a")
        assert await nothing_ready(queue)
        queue.done(key)
        assert await queue.take() == "a"
        queue.done("a")
        assert await nothing_ready(queue)

    run(work)


@pytest.mark.parametrize("delays", [(0.01, 3000), (3000, 0.01)])
def test_of_two_wakes_the_sooner_counts(delays: tuple[float, float]) -> None:
    async def work() -> None:
        queue: WorkQueue[str] = WorkQueue()
        for delay in delays:
            queue.add_after("a", delay)
        assert await queue.take() == "a"

    run(work)


def test_what_is_urgent_comes_first_and_once() -> None:
    async def work() -> list[str]:
        queue: WorkQueue[str] = WorkQueue()
        for key in "abc":
            queue.add(key)
        queue.add("c", urgent=True)
        queue.add("c", urgent=True)
        queue.add("b", urgent=True)
        assert len(queue) == 3
        taken = [await queue.take(), await queue.take()]
        queue.add("c", urgent=True)
        queue.add("d")
        queue.done("c")
        taken += [await queue.take() for _ in range(3)]
        assert await nothing_ready(queue)
        return taken

    assert run(work) == ["c", "b", "c", "a", "d"]


def test_an_event_comes_before_a_wake() -> None:
    async def work() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 3000)
        queue.add("a")
        assert await queue.take() == "a"
        queue.add_after("a", 0)
        queue.done("a")
        assert await queue.take() == "a"

    run(work)


def test_a_key_that_is_taken_no_longer_waits_for_its_wake() -> None:
    async def work() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        queue.add_after("a", 0)
        key = await queue.take()
        assert await nothing_ready(queue)
        queue.done(key)
        assert await nothing_ready(queue)

    run(work)


def test_a_key_that_failed_waits_longer_each_time_until_it_succeeds() -> None:
    async def work() -> list[float]:
        queue: WorkQueue[str] = WorkQueue(first_backoff_seconds=0.01, longest_backoff_seconds=0.03)
        queue.add("a")
        waits = [queue.failed(await queue.take()) for _ in range(4)]
        queue.done(await queue.take())
        queue.add("a")
        waits.append(queue.failed(await queue.take()))
        return waits

    assert run(work) == [0.01, 0.02, 0.03, 0.03, 0.01]


def test_a_key_that_failed_is_taken_at_once_when_something_changed() -> None:
    async def work() -> None:
        queue: WorkQueue[str] = WorkQueue(first_backoff_seconds=3000)
        queue.add("a")
        queue.failed(await queue.take())
        queue.add("a")
        assert await queue.take() == "a"
        queue.add("a")
        queue.failed("a")
        assert await queue.take() == "a"

    run(work)


def test_many_workers_never_hold_the_same_key() -> None:
    async def work() -> tuple[int, int]:
        queue: WorkQueue[int] = WorkQueue()
        held: set[int] = set()
        taken = 0

        async def worker() -> None:
            nonlocal taken
            while True:
                key = await queue.take()
                assert key not in held
                held.add(key)
                await asyncio.sleep(0)
                held.remove(key)
                taken += 1
                queue.done(key)

        workers = [asyncio.create_task(worker()) for _ in range(8)]
        for round_ in range(200):
            queue.add(round_ % 5)
            if round_ % 3 == 0:
                await asyncio.sleep(0)
        while len(queue) or held:  # noqa: ASYNC110 - the queue has no reason to tell
            await asyncio.sleep(0)
        for each in workers:
            assert not each.done()
            each.cancel()
        return taken, len(held)

    taken, held = run(work)
    assert held == 0
    assert 5 <= taken <= 200


@pytest.mark.parametrize("failures", [0, 1, 2000])
def test_a_backoff_starts_short_and_is_bounded(failures: int) -> None:
    backoff = Backoff(0.5, 30.0)
    waits = [backoff.next() for _ in range(failures + 1)]
    assert waits[0] == 0.5
    assert max(waits) <= 30.0
    backoff.reset()
    assert backoff.next() == 0.5
