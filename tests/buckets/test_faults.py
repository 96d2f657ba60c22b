"""What a refresh makes of a bucket that refuses, fails, breaks off, changes or is slow: a revision, or none and why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from alignment_api.stage import ExitCode
from alignment_worker.failures import EXIT_CRASHED
from alignment_worker.ingestion import object_store
from tests.buckets.refreshing import Dataset, lines, pairs, prompts
from tests.buckets.server import BUCKET, Asked, Faults, Server
from tests.worker import stages

BIG = lines(pairs(20_000))  # about 1.2 MB


@pytest.fixture(autouse=True)
def few_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "MAX_RETRIES", 3)


def of_object(status: int, times: int = 1_000) -> Callable[[Asked], int | None]:
    """Refuses an object the first times, and lists all the same."""
    return lambda asked: status if not asked.listing and asked.number < times else None


def of_all(status: int) -> Callable[[Asked], int | None]:
    return lambda _: status


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_refused_are_named(
    dataset: Dataset, server: Server, folder: str, status: int
) -> None:
    server.put(f"{folder}/a.jsonl", lines(pairs(1)))
    with Faults(server, of_all(status)) as faults:
        dataset.reach(faults.url)
        for name in ("a.jsonl", "*.jsonl"):
            done = dataset.refresh(f"s3://{BUCKET}/{folder}/{name}")
            assert done.code == ExitCode.INVALID_CONFIG
            assert "spec.sources[0].files.credentialsSecretRef: s3://" in done.failure.message
            assert "is refused" in done.failure.message


def test_a_token_that_is_rotated_meanwhile_is_taken_up_by_the_next_attempt(
    dataset: Dataset, server: Server, folder: str
) -> None:
    uri = f"s3://{BUCKET}/{folder}/*.jsonl"
    server.put(f"{folder}/a.jsonl", lines(pairs(3)))
    server.put(f"{folder}/b.jsonl", lines(pairs(3, 3)))
    with Faults(server) as faults:
        dataset.reach(faults.url)
        before = dataset.refresh(uri)
        faults.act = lambda asked: 403 if "b.jsonl" in asked.path else None
        done = dataset.refresh(uri)
        assert (done.code, done.failure.reason) == (EXIT_CRASHED, "Crashed")
        assert "Were the credentials changed" in done.failure.message
        assert not list(done.folder.glob("*")), "nothing half-written"
        faults.act = lambda asked: None if "rotated" in asked.headers["authorization"] else 403
        dataset.reach(faults.url, AWS_ACCESS_KEY_ID="rotated")
        after = dataset.refresh(uri)
    assert after.result.manifest.digest == before.result.manifest.digest
    assert after.result.counts["sequence"] == 6


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_bucket_is_asked_again_and_a_broken_one_by_the_next_attempt(
    dataset: Dataset, server: Server, folder: str, status: int
) -> None:
    uri = server.put(f"{folder}/a.jsonl", lines(pairs(3)))
    with Faults(server, of_object(status, times=2)) as faults:
        dataset.reach(faults.url)
        assert prompts(dataset.refresh(uri)) == ["p0", "p1", "p2"]
        faults.act = of_all(status)
        done = dataset.refresh(uri)
    assert done.code == EXIT_CRASHED
    assert uri in done.failure.message
    assert f"Told{status} as told" in done.failure.message or str(status) in done.failure.message
    assert not list(done.folder.glob("*"))


def test_an_answer_that_breaks_off_is_gone_on_with(dataset: Dataset, server: Server, folder: str) -> None:
    uri = server.put(f"{folder}/a.jsonl", BIG)
    with Faults(server, break_at=300_000, breaks=2) as faults:
        dataset.reach(faults.url)
        done = dataset.refresh(uri)
        assert faults.breaks == 0
        assert done.result.counts["kept"] == 20_000
        assert done.result.counts["invalid"] == 0
        faults.breaks = 1_000
        faults.break_at = 10
        again = dataset.refresh(uri)
    assert again.code == EXIT_CRASHED
    assert uri in again.failure.message
    assert not list(again.folder.glob("*"))


def test_an_object_that_goes_or_changes_half_way_makes_no_revision(
    dataset: Dataset, server: Server, folder: str
) -> None:
    uri = f"s3://{BUCKET}/{folder}/*.jsonl"
    server.put(f"{folder}/a.jsonl", lines(pairs(3)))
    server.put(f"{folder}/b.jsonl", BIG)
    before = dataset.refresh(uri)

    def change(asked: Asked) -> None:
        if "b.jsonl" in asked.path and asked.number == 0:
            server.put(f"{folder}/b.jsonl", lines(pairs(5)))

    def change_later(asked: Asked) -> None:
        """After a part of it has come."""
        if "b.jsonl" in asked.path and asked.number == 1:
            server.put(f"{folder}/b.jsonl", BIG.replace(b"good", b"fine"))

    def go(asked: Asked) -> None:
        if "b.jsonl" in asked.path:
            server.delete(f"{folder}/b.jsonl")

    for meanwhile, breaks, said in (
        (change_later, 1, "changed while it was read"),
        (change, 0, "changed while it was read"),
        (go, 0, "is not there"),
    ):
        server.put(f"{folder}/b.jsonl", BIG)
        with Faults(server, meanwhile, break_at=300_000, breaks=breaks) as faults:
            dataset.reach(faults.url)
            done = dataset.refresh(uri)
        assert (done.code, said in done.failure.message) == (ExitCode.INPUT_MISSING, True), done.failure
        assert not list(done.folder.glob("*"))
    server.put(f"{folder}/b.jsonl", BIG)
    dataset.reach(server.url)
    assert dataset.refresh(uri).result.manifest.digest == before.result.manifest.digest


def test_a_slow_bucket_is_waited_for_and_a_silent_one_asked_again(
    dataset: Dataset, server: Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "_READ_SECONDS", timedelta(seconds=1.5))
    uri = server.put(f"{folder}/a.jsonl", BIG)

    def silent(asked: Asked) -> None:
        if asked.number == 0:
            time.sleep(4)

    with Faults(server, silent, seconds_between_pieces=0.2) as faults:
        dataset.reach(faults.url)
        started = time.monotonic()
        assert dataset.refresh(uri).result.counts["kept"] == 20_000
    assert time.monotonic() - started > 4, "longer in all than a server may be silent"


def test_killed_at_any_moment_there_is_one_revision_or_none(
    dataset: Dataset, server: Server, folder: str
) -> None:
    uri = f"s3://{BUCKET}/{folder}/*.jsonl"
    for number in range(6):
        server.put(f"{folder}/{number}.jsonl", lines(pairs(2000, 2000 * number)))
    expected = dataset.refresh(uri).result.manifest.digest
    dataset.last = None
    dataset.number += 1
    reached = threading.Event()
    with Faults(server, seconds_between_pieces=0.02) as faults:
        dataset.reach(faults.url)
        made = dataset.config(uri)
        job = dataset.folder / "killed"
        for moment in range(1, 5):
            reached.clear()
            faults.asked.clear()

            def act(asked: Asked, moment: int = moment) -> None:
                if f"{moment}.jsonl" in asked.path:
                    reached.set()

            faults.act = act
            with subprocess.Popen(
                [sys.executable, "-m", "alignment_worker", *stages.argv(job, made)], env=os.environ
            ) as process:
                assert reached.wait(120)
                process.send_signal(signal.SIGKILL)
            assert not list((dataset.folder / "revisions" / str(dataset.number)).glob("manifest.json"))
        faults.act = lambda _: None
        done = dataset.run(made)
    assert done.result.manifest.digest == expected
    assert len(list(done.folder.iterdir())) == 2, "the manifest, and the one run that it names"
    assert done.result.counts["sequence"] == 12_000
