"""A run on a folder, with a stand-in for the worker: what is retried, what is not, and where it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignment_operator.api import CYCLE, JOB, POD
from alignment_operator.local.admission import InvalidObjectError
from alignment_operator.local.claims import Claims
from alignment_operator.local.directory import Directory
from alignment_operator.local.run import Snapshot, run
from alignment_operator.local.secrets import Secrets
from alignment_operator.local.worker import WorkerError, threads

Manifest = dict[str, Any]
StandIn = Callable[..., Path]


class Ran:
    """Runs manifests on one state folder; `seen` is what there was to watch."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.seen: list[Snapshot] = []

    def __call__(self, cycle: Manifest | None, *datasets: Manifest) -> Manifest:
        """The last object in the end."""
        claims = Claims({}, [], self.state)
        ended = asyncio.run(run(cycle, datasets, claims, Secrets({}), self.state, self.seen.append))
        return ended[-1].manifest


@pytest.fixture
def ran(state: Path) -> Ran:
    return Ran(state)


def runs_of(stand_in: StandIn, stage: str) -> int:
    ran = stand_in() / f"{stage}.ran"
    return len(ran.read_text().splitlines()) if ran.exists() else 0


async def pods_of(state: Path) -> list[Manifest]:
    return await Directory(state).list(POD, "default", {})


def test_a_dataset_is_ingested(ran: Ran, stand_in: StandIn, dataset: Manifest) -> None:
    ended = ran(None, dataset)
    assert ended["status"]["ingest"]["state"] == "Succeeded"
    assert ended["status"]["revision"]["number"] == 1


def test_a_cycle_runs_to_its_promotion(ran: Ran, stand_in: StandIn, cycle: Manifest) -> None:
    ended = ran(cycle)
    iteration = ended["status"]["iteration"]
    assert (iteration["number"], iteration["outcome"]) == (1, "Promoted")
    assert [stage["name"] for stage in iteration["stages"]] == [
        "sample",
        "judge",
        "train",
        "evaluate",
        "promote",
    ]
    assert ended["status"]["promoted"]["digest"] == iteration["candidate"]["digest"]


def test_the_same_command_starts_the_next_iteration(ran: Ran, stand_in: StandIn, cycle: Manifest) -> None:
    ran(cycle)
    assert ran(cycle)["status"]["iteration"]["number"] == 2


def test_a_run_annotation_in_the_file_starts_no_iteration_of_its_own(
    ran: Ran, stand_in: StandIn, cycle: Manifest
) -> None:
    cycle["metadata"]["annotations"] = {"alignment.dev/run": "1"}
    ran(cycle)
    ended = ran(cycle)
    assert ended["status"]["iteration"]["number"] == 2
    assert runs_of(stand_in, "sample") == 2


def test_targets_follow_before_the_run_ends(
    ran: Ran, stand_in: StandIn, cycle: Manifest, state: Path
) -> None:
    cycle["spec"]["promotion"] = {"targets": [{"configMap": {"name": "serving", "key": "uri"}}]}
    promoted = ran(cycle)["status"]["promoted"]
    path = state / "objects" / "configmaps" / "default" / "serving.json"
    assert json.loads(path.read_text())["data"] == {"uri": promoted["uri"]}


def test_a_refused_candidate_leaves_the_incumbent(ran: Ran, stand_in: StandIn, cycle: Manifest) -> None:
    stand_in("evaluate", {"lengthRatio": 2.0})
    ended = ran(cycle)
    assert (ended["status"]["iteration"]["outcome"], ended["status"]["iteration"]["reason"]) == (
        "Rejected",
        "LengthDrift",
    )
    assert "promoted" not in ended["status"]


def test_the_users_fault_is_not_retried_and_the_workers_words_reach_the_status(
    ran: Ran, stand_in: StandIn, cycle: Manifest
) -> None:
    stand_in(
        "sample", {"exit": 65, "failure": {"reason": "InvalidRow", "message": "prompts.jsonl:7: no prompt"}}
    )
    iteration = ran(cycle)["status"]["iteration"]
    assert (iteration["outcome"], iteration["reason"]) == ("Failed", "InvalidRow")
    assert "prompts.jsonl:7: no prompt" in iteration["message"]
    assert runs_of(stand_in, "sample") == 1


def test_an_input_that_is_not_there_fails_at_once(ran: Ran, stand_in: StandIn, cycle: Manifest) -> None:
    stand_in("sample", {"exit": 63, "failure": {"reason": "InputMissing", "message": "no such file"}})
    iteration = ran(cycle)["status"]["iteration"]
    assert (iteration["outcome"], iteration["reason"]) == ("Failed", "InputMissing")
    assert runs_of(stand_in, "sample") == 1


def test_after_a_failure_the_mended_manifest_starts_anew(
    ran: Ran, stand_in: StandIn, cycle: Manifest
) -> None:
    stand_in("sample", {"exit": 65})
    ran(cycle)
    cycle["spec"]["training"] = {"epochs": 2}
    ended = ran(cycle)
    assert (ended["status"]["iteration"]["number"], ended["status"]["iteration"]["outcome"]) == (
        2,
        "Promoted",
    )
    assert ended["status"]["iteration"]["generation"] == 2


@pytest.mark.parametrize("death", [{"exit": 1}, {"signal": 9}])
def test_a_stage_that_dies_is_run_again(
    ran: Ran, stand_in: StandIn, cycle: Manifest, death: Manifest
) -> None:
    stand_in("sample", death)
    ended = ran(cycle)
    assert ended["status"]["iteration"]["outcome"] == "Promoted"
    assert runs_of(stand_in, "sample") == 2


def test_exit_codes_are_spelt_as_kubelet_does(
    ran: Ran, stand_in: StandIn, cycle: Manifest, state: Path
) -> None:
    stand_in("sample", {"signal": 9})
    ran(cycle)
    pods = asyncio.run(pods_of(state))
    codes = {
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]
        for pod in pods
        if pod["metadata"]["labels"]["alignment.dev/stage"] == "sample"
    }
    assert codes == {0, 137}


def test_retries_end_at_the_backoff_limit(ran: Ran, stand_in: StandIn, cycle: Manifest) -> None:
    cycle["spec"]["defaults"] = {"retries": 1}
    stand_in("sample", {"exit": 1}, {"exit": 1}, {"exit": 1})
    iteration = ran(cycle)["status"]["iteration"]
    assert (iteration["outcome"], iteration["reason"]) == ("Failed", "JobFailed")
    assert runs_of(stand_in, "sample") == 2


def test_a_stage_that_runs_too_long_is_watched_and_ended(
    ran: Ran, stand_in: StandIn, cycle: Manifest
) -> None:
    cycle["spec"]["stages"] = {"train": {"activeDeadlineSeconds": 2}}
    stand_in("train", {"hang": True})
    iteration = ran(cycle)["status"]["iteration"]
    assert (iteration["outcome"], iteration["reason"]) == ("Failed", "DeadlineExceeded")
    assert runs_of(stand_in, "train") == 1
    progress = [snapshot.progress for snapshot in ran.seen if snapshot.progress]
    seen = {(item.stage, item.said.done, item.said.total, item.said.unit) for item in progress}
    assert ("train", 1, 2, "rows") in seen


def test_one_stage_gets_all_cores_and_the_users_environment(
    ran: Ran, stand_in: StandIn, dataset: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    dataset["spec"]["defaults"] = {"env": [{"name": "STAND_IN_EXTRA", "value": "x"}]}
    ran(None, dataset)
    _, cores, extra = (stand_in() / "ingest.ran").read_text().split()
    assert (cores, extra) == (str(threads()), "x")


def test_datasets_are_ingested_before_the_cycle_that_names_them(
    ran: Ran, stand_in: StandIn, cycle: Manifest, dataset: Manifest
) -> None:
    cycle["spec"]["datasets"] = [{"name": "feedback"}]
    ended = ran(cycle, dataset)
    assert ended["status"]["iteration"]["outcome"] == "Promoted"
    assert ended["status"]["iteration"]["datasets"][0]["revision"] == 1


def test_a_dataset_from_an_earlier_run_is_refreshed(
    ran: Ran, stand_in: StandIn, cycle: Manifest, dataset: Manifest
) -> None:
    ran(None, dataset)
    cycle["spec"]["datasets"] = [{"name": "feedback"}]
    assert ran(cycle)["status"]["iteration"]["outcome"] == "Promoted"
    assert runs_of(stand_in, "ingest") == 2


def test_a_run_ends_when_what_its_refresh_has_left_is_collected(
    ran: Ran, stand_in: StandIn, dataset: Manifest
) -> None:
    """The stand-in finds the same each time, so that the second folder beside the revision's is one too many."""
    dataset["spec"]["retention"] = {"revisions": 1}
    for _ in range(2):
        ran(None, dataset)
    assert runs_of(stand_in, "collect") == 0
    ended = ran(None, dataset)
    collection = ended["status"]["collection"]
    assert (collection["refresh"], collection["stage"]["state"]) == (3, "Succeeded")
    assert runs_of(stand_in, "collect") == 1


def test_a_dataset_that_fails_ends_the_run(
    ran: Ran, stand_in: StandIn, cycle: Manifest, dataset: Manifest
) -> None:
    stand_in(
        "ingest", {"exit": 65, "failure": {"reason": "InvalidRow", "message": "pairs.jsonl:1: no chosen"}}
    )
    cycle["spec"]["datasets"] = [{"name": "feedback"}]
    ended = ran(cycle, dataset)
    assert ended["kind"] == "PreferenceDataset"
    assert ended["status"]["ingest"]["message"] == "pairs.jsonl:1: no chosen"
    assert runs_of(stand_in, "sample") == 0


def test_a_dataset_that_nobody_gave_is_named(ran: Ran, stand_in: StandIn, cycle: Manifest) -> None:
    cycle["spec"]["datasets"] = [{"name": "feedback"}]
    with pytest.raises(InvalidObjectError, match=r"spec\.datasets\[0\]\.name: feedback: .* -f FILE"):
        ran(cycle)


def test_a_held_candidate_waits_and_goes_on_once_approved(
    ran: Ran, stand_in: StandIn, cycle: Manifest, state: Path
) -> None:
    cycle["spec"]["promotion"] = {"mode": "Manual"}
    held = ran(cycle)["status"]["iteration"]
    assert "outcome" not in held
    assert "outcome" not in ran(cycle)["status"]["iteration"]
    approval = f"1@{held['evidenceDigest']}"
    Directory(state).annotate(CYCLE, "default", "assistant", {"alignment.dev/approve": approval})
    ended = ran(cycle)["status"]["iteration"]
    assert (ended["number"], ended["outcome"], ended["reason"]) == (1, "Promoted", "Approved")
    assert runs_of(stand_in, "sample") == 1


def test_a_worker_that_does_not_start_is_no_stage_that_failed(
    ran: Ran, stand_in: StandIn, cycle: Manifest, state: Path
) -> None:
    (stand_in() / "alignment_worker" / "__main__.py").write_text("raise ImportError('no torch here')")
    with pytest.raises(WorkerError, match="no torch here"):
        ran(cycle)
    jobs = asyncio.run(Directory(state).list(JOB, "default", {}))
    assert [job["status"].get("conditions") for job in jobs] == [None]


def test_finished_jobs_and_their_files_are_cleared_away(
    ran: Ran, stand_in: StandIn, cycle: Manifest, state: Path
) -> None:
    cycle["spec"]["defaults"] = {"ttlSecondsAfterFinished": 0}
    ran(cycle)
    ran(cycle)
    jobs = asyncio.run(Directory(state).list(JOB, "default", {"alignment.dev/iteration": "1"}))
    assert jobs == []
    assert not [folder for folder in (state / "jobs").iterdir() if folder.name.startswith("assistant-1-")]
