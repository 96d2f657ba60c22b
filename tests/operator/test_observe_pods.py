"""What the pods of a Job amount to, for one pod, for shards and for a gang."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from alignment_api import digests
from alignment_api.stage import Located, StageReport, StageResult
from alignment_operator.api import Manifest
from alignment_operator.observe.pods import computing, view_of
from alignment_operator.observed import JobState, PodView

ONE: Manifest = {"spec": {"backoffLimit": 2}}
SHARDS: Manifest = {"spec": {"completionMode": "Indexed", "completions": 3, "backoffLimitPerIndex": 2}}
GANG: Manifest = {"spec": {"completionMode": "Indexed", "completions": 2, "backoffLimit": 0}}

SCHEDULED = {"type": "PodScheduled", "status": "True"}
DISRUPTED = {"type": "DisruptionTarget", "status": "True"}
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes",
}
NEXT_HOUR = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)


def pod(
    *conditions: Manifest,
    phase: str = "Pending",
    index: int = 0,
    made: int = 0,
    deleted: datetime | None = None,
    server: Manifest | None = None,
    **state: Manifest,
) -> Manifest:
    metadata: dict[str, Any] = {
        "creationTimestamp": f"2026-11-23T03:00:{made:02}Z",
        "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
    }
    if deleted:
        metadata["deletionTimestamp"] = deleted.isoformat()
    worker = [{"name": "sidecar", "state": {"running": {}}}, {"name": "worker", "state": state}]
    status = {
        "phase": phase,
        "conditions": list(conditions),
        "containerStatuses": worker if state else [],
        "initContainerStatuses": [{"name": "server"} | server] if server else [],
    }
    return {"metadata": metadata, "status": status}


def running(index: int = 0, **more: Any) -> Manifest:
    return pod(SCHEDULED, phase="Running", index=index, running={}, **more)


def ended(
    code: int, index: int = 0, *conditions: Manifest, at: int = 0, said: str = "", made: int = 0
) -> Manifest:
    terminated = {"exitCode": code, "message": said, "finishedAt": f"2026-11-23T03:30:{at:02}Z"}
    phase = "Failed" if code or conditions else "Succeeded"
    return pod(SCHEDULED, *conditions, phase=phase, index=index, made=made, terminated=terminated)


WHOLE = StageReport(
    result=StageResult(manifest=Located(uri="pvc://a/b", digest=digests.of_bytes(b"")))
).encode()
PART = StageReport(part=1).encode()


@pytest.mark.parametrize(
    ("manifest", "view"),
    [
        (pod(), PodView()),
        (pod(UNSCHEDULABLE), PodView(pending="Unschedulable: 0/3 nodes")),
        (
            pod(SCHEDULED, waiting={"reason": "ImagePullBackOff", "message": "no such image"}),
            PodView(pending="ImagePullBackOff: no such image"),
        ),
        (pod(SCHEDULED, waiting={"reason": "ContainerCreating"}), PodView(pending="ContainerCreating")),
        (running(), PodView(started=True)),
        (pod(DISRUPTED, phase="Failed"), PodView(disrupted=True)),
        (ended(143, 0, DISRUPTED), PodView(exit_code=143, started=True, disrupted=True)),
        (running(deleted=NEXT_HOUR), PodView(started=True, gone_by=NEXT_HOUR)),
        (pod(DISRUPTED, phase="Failed", deleted=NEXT_HOUR), PodView(disrupted=True)),
    ],
)
def test_a_pod_is_seen_as_far_as_it_got(manifest: Manifest, view: PodView) -> None:
    assert view_of(ONE, [manifest], JobState.ACTIVE) == view


INITIALIZING = {"reason": "PodInitializing"}
CRASHED = {"terminated": {"exitCode": 1, "reason": "Error", "message": "…\nno GPU\n"}}


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}},
            "server: ImagePullBackOff: no such image",
        ),
        ({"state": {"running": {}}, "started": False}, "server: starting"),
        (
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m"}},
                "lastState": CRASHED,
            },
            "server: CrashLoopBackOff: back-off 5m; it ended with exit code 1: …\nno GPU",
        ),
        (
            {"state": {"running": {}}, "started": False, "lastState": CRASHED},
            "server: starting; it ended with exit code 1: …\nno GPU",
        ),
        ({"state": {"running": {}}, "started": True}, "PodInitializing"),
    ],
    ids=["no image", "loading", "crash loop", "once more", "serving"],
)
def test_a_worker_that_waits_for_its_server_says_why(server: Manifest, said: str) -> None:
    waiting = pod(SCHEDULED, server=server, waiting=INITIALIZING)
    assert view_of(ONE, [waiting], JobState.ACTIVE) == PodView(pending=said)


def test_no_node_explains_more_than_a_server_that_did_not_start() -> None:
    waiting = pod(UNSCHEDULABLE, server={"state": {"waiting": INITIALIZING}}, waiting=INITIALIZING)
    assert view_of(ONE, [waiting], JobState.ACTIVE) == PodView(pending="Unschedulable: 0/3 nodes")


def test_a_server_that_crashed_later_does_not_make_a_worker_pending() -> None:
    crashed = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": CRASHED}
    assert view_of(ONE, [running(server=crashed)], JobState.ACTIVE) == PodView(started=True)


def test_of_two_pods_the_one_that_the_job_counted_speaks() -> None:
    late = ended(1, made=9)
    assert view_of(ONE, [ended(0, said="a"), late], JobState.SUCCEEDED) == PodView(0, "a", started=True)
    assert view_of(ONE, [ended(0, said="a"), late], JobState.FAILED) == PodView(1, "", started=True)


def test_without_pods_nothing_is_known() -> None:
    for job in (ONE, SHARDS, GANG):
        assert view_of(job, [], JobState.ACTIVE) is None


@pytest.mark.parametrize("job", [SHARDS, GANG])
def test_whoever_of_several_has_the_whole_result_speaks_for_all(job: Manifest) -> None:
    pods = [ended(0, 0, said=PART), ended(0, 1, said=WHOLE)]
    assert view_of(job, pods, JobState.SUCCEEDED) == PodView(0, WHOLE, started=True)


@pytest.mark.parametrize("job", [SHARDS, GANG])
def test_parts_alone_are_no_result_and_no_error(job: Manifest) -> None:
    pods = [ended(0, 0, said=PART), ended(0, 1)]
    assert view_of(job, pods, JobState.SUCCEEDED) == PodView(started=True)


def test_a_report_that_cannot_be_read_is_shown() -> None:
    pods = [ended(0, 0, said=PART), ended(0, 1, said="version 9")]
    assert view_of(SHARDS, pods, JobState.SUCCEEDED) == PodView(0, "version 9", started=True)


@pytest.mark.parametrize("job", [SHARDS, GANG])
def test_a_users_fault_explains_a_failure_whatever_else_went_wrong(job: Manifest) -> None:
    pods = [ended(1, 0, at=1), ended(65, 1, at=2, said="row 3"), ended(143, 2, DISRUPTED, at=0)]
    assert view_of(job, pods, JobState.FAILED) == PodView(65, "row 3", started=True)


@pytest.mark.parametrize("job", [SHARDS, GANG])
def test_else_what_failed_first_does(job: Manifest) -> None:
    pods = [ended(143, 0, at=5, said="told to stop"), ended(137, 1, at=2), ended(0, 2, at=1)]
    assert view_of(job, pods, JobState.FAILED) == PodView(137, "", started=True)


def test_a_disruption_explains_what_became_of_its_gang_but_not_of_a_shards_retries() -> None:
    pods = [ended(1, 0, at=1), ended(143, 1, DISRUPTED, at=2)]
    assert view_of(GANG, pods, JobState.FAILED) == PodView(143, "", started=True, disrupted=True)
    assert view_of(SHARDS, pods, JobState.FAILED) == PodView(1, "", started=True)


def test_the_last_pod_of_an_index_counts() -> None:
    pods = [ended(1, 0, at=1), ended(137, 0, at=9, made=30), ended(143, 1, at=10)]
    assert view_of(SHARDS, pods, JobState.FAILED) == PodView(137, "", started=True)


def test_a_gang_has_started_when_all_of_it_has() -> None:
    waiting = pod(UNSCHEDULABLE, index=1)
    assert view_of(GANG, [running(0), running(1)], JobState.ACTIVE) == PodView(started=True)
    assert view_of(GANG, [running(0)], JobState.ACTIVE) == PodView()
    assert view_of(GANG, [running(0), waiting], JobState.ACTIVE) == PodView(
        pending="Unschedulable: 0/3 nodes"
    )


def test_a_gang_is_lost_with_any_of_it() -> None:
    view = view_of(GANG, [running(0), running(1, deleted=NEXT_HOUR)], JobState.ACTIVE)
    assert view == PodView(started=True, gone_by=NEXT_HOUR)


def test_shards_compute_as_long_as_one_does_and_wait_when_none_is_left_but_those_that_wait() -> None:
    waiting = pod(UNSCHEDULABLE, index=1)
    assert view_of(SHARDS, [running(0), waiting], JobState.ACTIVE) == PodView(started=True)
    assert view_of(SHARDS, [ended(0, 0), waiting], JobState.ACTIVE) == PodView(
        pending="Unschedulable: 0/3 nodes"
    )


def test_a_lost_shard_waits_for_the_others() -> None:
    lost = running(1, deleted=NEXT_HOUR)
    assert view_of(SHARDS, [running(0), lost], JobState.ACTIVE) == PodView(started=True)
    assert view_of(SHARDS, [ended(0, 0), lost], JobState.ACTIVE) == PodView(started=True, gone_by=NEXT_HOUR)


@pytest.mark.parametrize(
    ("job", "ready", "runs"),
    [(ONE, 0, False), (ONE, 1, True), (SHARDS, 1, True), (GANG, 1, False), (GANG, 2, True)],
)
def test_the_jobs_own_count_says_whether_it_computes(job: Manifest, ready: int, runs: bool) -> None:
    assert computing({**job, "status": {"ready": ready}}) is runs
