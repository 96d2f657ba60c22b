"""Shards of the stage sample: together they are what one pod would have made, in whatever order they end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from alignment_api import digests
from alignment_api.stage import StageConfig
from alignment_worker.shards import Shard
from alignment_worker.store import SealedFolder
from tests.worker import stages, tiny
from tests.worker.loop import Loop
from tests.worker.stages import Finished

SHARDS = 3


@pytest.fixture
def loop(tmp_path: Path, llama: Path, other_llama: Path, reward: Path) -> Loop:
    return Loop(tmp_path, llama, other_llama, reward)


@pytest.fixture
def shard(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Shards:
    return Shards(loop, monkeypatch)


class Shards:
    """Runs one shard of a config, as the Job controller's pod of that index would."""

    def __init__(self, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop = loop
        self._monkeypatch = monkeypatch

    def __call__(self, config: StageConfig, index: int) -> Finished:
        with self._monkeypatch.context() as patched:
            patched.setenv("JOB_COMPLETION_INDEX", str(index))
            return stages.run(self._loop.folder / f"job-{index}", config)


def divided(loop: Loop, **settings: object) -> StageConfig:
    return loop.sample(tiny.prompt_rows(11), shards=SHARDS, per_iteration=8, **settings)


def drawn(done: Finished) -> list[tuple[int, list[list[int]]]]:
    """Line of the prompt and the token ids of its completions."""
    return [
        (row["line"], [answer["ids"] for answer in row["completions"]]) for row in done.rows("samples.jsonl")
    ]


def test_the_last_shard_seals_what_one_pod_would_have_made(loop: Loop, shard: Shards, tmp_path: Path) -> None:
    config = divided(loop)
    first, second = shard(config, 2), shard(config, 0)
    assert [first.report.part, second.report.part] == [2, 0]
    whole = shard(config, 1)
    elsewhere = config.model_copy(update={"output": f"file://{tmp_path}/alone"})
    alone = stages.run(tmp_path / "job-alone", elsewhere)
    assert drawn(whole) == drawn(alone)
    assert whole.result.counts == alone.result.counts
    assert whole.result.counts["prompts"] == 8
    assert whole.result.measurements == alone.result.measurements
    assert whole.result.inputs == alone.result.inputs


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_whoever_is_last_the_manifest_is_the_same(loop: Loop, shard: Shards, order: tuple[int, ...]) -> None:
    config = divided(loop)
    ends = [shard(config, index) for index in order]
    folder = loop.folder / "sample"
    digest = digests.of_file(folder / "manifest.json")
    assert digest == ends[-1].result.manifest.digest
    assert sorted(path.name[:4] for path in folder.iterdir()) == ["mani", "run-"], (
        "the parts are cleared away"
    )
    for index in range(SHARDS):
        assert shard(config, index).result == ends[-1].result
    shutil.rmtree(folder)
    for index in reversed(order):
        shard(config, index)
    assert digests.of_file(folder / "manifest.json") == digest


def test_a_shard_that_runs_again_finds_its_part_and_the_others_stay(loop: Loop, shard: Shards) -> None:
    config = divided(loop)
    shard(config, 0)
    part = loop.folder / "sample" / "shards" / "0" / "manifest.json"
    before = (part.stat().st_ino, part.read_bytes())
    assert shard(config, 0).report.part == 0
    assert (part.stat().st_ino, part.read_bytes()) == before


def test_the_judge_reads_the_merged_stage(loop: Loop, shard: Shards) -> None:
    config = divided(loop)
    ends = [shard(config, index) for index in range(SHARDS)]
    judged = loop.run(loop.judge(ends[-1]))
    assert judged.result.counts["prompts"] == 8


def test_more_shards_than_prompts_leave_some_with_nothing_to_do(loop: Loop, shard: Shards) -> None:
    config = loop.sample(tiny.prompt_rows(2), shards=SHARDS)
    ends = [shard(config, index) for index in range(SHARDS)]
    assert [end.code for end in ends] == [0, 0, 0]
    assert ends[-1].result.counts["prompts"] == 2


def test_a_damaged_part_is_not_merged(loop: Loop, shard: Shards) -> None:
    config = divided(loop)
    shard(config, 0)
    SealedFolder.open(loop.folder / "sample" / "shards" / "0").file("samples.jsonl").write_text("{}\n")
    shard(config, 1)
    ended = shard(config, 2)
    assert ended.failure.reason == "DigestMismatch"
    assert "shards/0" in ended.failure.message


def test_another_divisions_part_is_a_conflict(loop: Loop, shard: Shards) -> None:
    shard(divided(loop), 0)
    other = divided(loop, temperature=0.5)
    assert shard(other, 0).failure.reason == "StoreConflict"


def test_parts_are_alike_and_make_the_whole() -> None:
    items = list(range(11))
    parts = [Shard(index, SHARDS).part(items) for index in range(SHARDS)]
    assert [len(part) for part in parts] == [4, 4, 3]
    assert sorted(item for part in parts for item in part) == items


def test_one_shard_says_nothing_of_shards(loop: Loop, shard: Shards) -> None:
    done = shard(loop.sample(), 0)
    assert json.loads((done.folder / "manifest.json").read_bytes())["result"]["counts"]["prompts"] == 9
