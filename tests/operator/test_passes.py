"""When a pass over a cycle wants to be made again though nothing changes, on a real API server."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from alignment_operator.api import CYCLE, JOB
from alignment_operator.cluster import Cluster
from alignment_operator.observe import Known
from alignment_operator.reconcile import Pass, one_pass
from tests.cluster.client import Namespace
from tests.operator.edges import SETTINGS, KilledError, OnApi, Recorder, cycle, now

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]


async def pass_(api: Any, namespace: Namespace, at: datetime, **arguments: Any) -> Pass:
    return await one_pass(api, CYCLE, namespace.name, "support", at, SETTINGS, **arguments)


async def until_its_job_waits(api: Cluster, namespace: Namespace, at: datetime) -> datetime:
    """When the Job was made, of a cycle whose claims are not there."""
    await api.create(CYCLE, cycle("support", namespace.name))
    while (await pass_(api, namespace, at)).written:
        pass
    (job,) = await api.list(JOB, namespace.name, {})
    return datetime.fromisoformat(job["metadata"]["creationTimestamp"])


@pytest.mark.parametrize(
    ("age", "wait"),
    [
        (timedelta(seconds=1), timedelta(seconds=5)),
        (timedelta(seconds=100), timedelta(seconds=100)),
        (timedelta(seconds=2000), timedelta(minutes=5)),
    ],
)
def test_a_pod_that_does_not_start_is_looked_at_ever_more_seldom(
    on_api: OnApi[Any], namespace: Namespace, age: timedelta, wait: timedelta
) -> None:
    async def work(api: Cluster) -> tuple[datetime, datetime | None]:
        made = await until_its_job_waits(api, namespace, now())
        return made, (await pass_(api, namespace, made + age)).wake_at

    made, wake_at = on_api(work)
    assert wake_at == made + age + wait


def test_a_job_on_its_way_out_needs_no_further_look(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> Pass:
        made = await until_its_job_waits(api, namespace, now())
        cancel = {"metadata": {"annotations": {"alignment.dev/cancel": "1"}}}
        await api.merge(CYCLE, namespace.name, "support", cancel)
        (job,) = await api.list(JOB, namespace.name, {})
        held = {"metadata": {"finalizers": ["example.com/held"]}}
        await api.merge(JOB, namespace.name, job["metadata"]["name"], held)
        for _ in range(3):  # it is cancelled, its Job is deleted, and is on its way out
            outcome = await pass_(api, namespace, made)
        await api.merge(JOB, namespace.name, job["metadata"]["name"], {"metadata": {"finalizers": None}})
        return outcome

    assert on_api(work).wake_at is None


def test_a_job_that_was_refused_is_tried_again_after_half_a_minute(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    spec: dict[str, Any] = {
        "defaults": {"resources": {"limits": {"cpu": "1"}}},
        "stages": {"sample": {"resources": {"requests": {"cpu": "2"}}}},
    }
    at = now()

    async def work(api: Cluster) -> list[datetime | None]:
        await api.create(CYCLE, cycle("support", namespace.name, **spec))
        return [(await pass_(api, namespace, at)).wake_at for _ in range(3)]

    assert on_api(work)[1:] == [at + timedelta(seconds=30)] * 2


def test_a_job_that_the_cache_does_not_show_yet_is_looked_at_at_once(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    at = now()

    async def work(api: Cluster) -> Pass:
        await api.create(CYCLE, cycle("support", namespace.name))
        await pass_(api, namespace, at)
        dies = Recorder(api, die_before=1)  # after the Job is made, before the status says so
        with pytest.raises(KilledError):
            await pass_(dies, namespace, at)
        assert dies.writes[0].startswith("create Job")
        return await pass_(api, namespace, at, known=Known(jobs=lambda *_: []))

    assert on_api(work).wake_at == at
