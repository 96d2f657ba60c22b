"""The stage sample on the prompts of datasets' revisions: which are drawn, and what is said of the others."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignment_api.stage import (
    ExitCode,
    Expected,
    IngestedLog,
    IngestedSource,
    IngestParameters,
    InputKind,
    StageConfig,
)
from alignment_worker.ingestion import clusters
from tests.worker import stages, tiny
from tests.worker.loop import Loop
from tests.worker.stages import Finished, an_input
from tests.worker.test_ingest_log import chat, said, segment


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture
def loop(tmp_path: Path, llama: Path, other_llama: Path, reward: Path) -> Loop:
    return Loop(tmp_path, llama, other_llama, reward)


def logged(folder: Path, asked: list[Any], *more: dict[str, Any], embedding: Path | None = None) -> Finished:
    """A revision of a log of these prompts, which nobody judged but as `more` says."""
    segment(folder, "a.jsonl", *(chat(f"a{number}", "yes", asked=each) for number, each in enumerate(asked)))
    if more:
        segment(folder, "b.jsonl", *more)
    inputs = {"source/production": an_input(folder / "log", InputKind.INFERENCE_LOG)}
    if embedding is not None:
        inputs["embedding"] = an_input(embedding, InputKind.EMBEDDING_MODEL)
    source = IngestedSource(name="production", inference_log=IngestedLog(format="OpenAI"))
    config = stages.config(folder / "revision", inputs, IngestParameters(sources=[source]))
    return stages.run(folder / "ingesting", config)


def sampling(loop: Loop, *revisions: Finished, spread: str | None = None, **settings: Any) -> StageConfig:
    """As `Loop.sample`, on the revisions of datasets a, b, ...."""
    config = loop.sample(**settings)
    inputs = {role: entry for role, entry in config.inputs.items() if role != "prompts"}
    for name, revision in zip("abcdefgh", revisions, strict=False):
        digest = revision.result.manifest.digest
        inputs[f"prompts/{name}"] = an_input(revision.folder, InputKind.STAGE, digest)
    parameters = config.parameters.model_copy(update={"spread": spread})
    return config.model_copy(update={"inputs": inputs, "parameters": parameters})


def asked(done: Finished) -> list[Any]:
    return [row["prompt"] for row in done.rows("samples.jsonl")]


def test_what_nobody_judged_is_sampled_on_too(loop: Loop) -> None:
    pairs = loop.run(loop.ingest([{"prompt": "2+2=", "chosen": "4", "rejected": "5"}]))
    log = logged(loop.folder / "log", [user("one"), user("two")], said("a0", rating="down"))
    done = loop.run(sampling(loop, pairs, log))
    assert asked(done)[0] == "2+2="
    assert sorted(asked(done)[1:], key=str) == [user("one"), user("two")]
    assert [row["line"] for row in done.rows("samples.jsonl")] == [1, 2, 3]
    counts = done.result.counts
    assert (counts["prompts"], counts["promptsGiven"], counts["excluded"]) == (3, 3, 0)
    judged = loop.run(loop.judge(done))
    assert judged.result.counts["prompts"] == 3


def test_the_digest_of_what_was_sampled_from_is_reported(loop: Loop) -> None:
    one = logged(loop.folder / "one", [user("one")])
    done = loop.run(sampling(loop, one))
    again = logged(loop.folder / "again", [user("one")])
    other = logged(loop.folder / "other", [user("two")])
    digests = [
        stages.run(
            loop.folder / name,
            sampling(loop, each).model_copy(update={"output": f"file://{loop.folder}/{name}"}),
        ).result.inputs["prompts"]
        for name, each in (("x", again), ("y", other))
    ]
    assert done.result.inputs["prompts"] == digests[0] != digests[1]


def test_a_prompt_counts_once_whoever_has_it(loop: Loop) -> None:
    one = logged(
        loop.folder / "one",
        [user("hello"), user(" hello "), [{"role": "system", "content": "x"}, *user("hello")]],
    )
    two = logged(loop.folder / "two", [user("hello"), user("bye")])
    done = loop.run(sampling(loop, one, two))
    assert Counter(json.dumps(each) for each in asked(done)).most_common(1)[0][1] == 1
    assert len(asked(done)) == 3
    assert done.result.counts["promptsGiven"] == 3


def test_gold_and_held_out_prompts_are_left_out(loop: Loop) -> None:
    gold, held_out = tiny.gold_rows()[0]["prompt"], tiny.held_out_rows()[0]["prompt"]
    log = logged(
        loop.folder / "log",
        [gold, held_out, user("mine")] if not isinstance(gold, str) else [user(gold), user("mine")],
    )
    done = loop.run(sampling(loop, log))
    assert asked(done) == [user("mine")]
    assert done.result.counts["excluded"] == done.result.counts["promptsGiven"] - 1 > 0


def test_what_the_model_cannot_read_is_left_out_and_another_is_drawn(loop: Loop) -> None:
    long = [user("word " * 3000 + str(number)) for number in range(3)]
    log = logged(loop.folder / "log", [*long, user("short"), user("brief")])
    for seed in range(4):
        config = sampling(loop, log, per_iteration=2).model_copy(
            update={"seed": seed, "output": f"file://{loop.folder}/sample-{seed}"}
        )
        done = stages.run(loop.folder / f"job-{seed}", config)
        assert sorted(asked(done), key=str) == [user("brief"), user("short")]
    only = logged(loop.folder / "only", long)
    refused = stages.run(
        loop.folder / "refused",
        sampling(loop, only).model_copy(update={"output": f"file://{loop.folder}/none"}),
    )
    assert refused.code == ExitCode.NO_PROMPTS
    assert "of the 3 prompts of spec.datasets 0 are in the gold set" in refused.failure.message


def test_a_draw_is_by_seed_and_without_replacement(loop: Loop) -> None:
    log = logged(loop.folder / "log", [user(f"question {number}") for number in range(30)])

    def drawn(seed: int, name: str) -> list[Any]:
        config = sampling(loop, log, per_iteration=10).model_copy(
            update={"seed": seed, "output": f"file://{loop.folder}/{name}"}
        )
        return asked(stages.run(loop.folder / f"job-{name}", config))

    first, same, other = drawn(1, "a"), drawn(1, "b"), drawn(2, "c")
    assert first == same != other
    assert len({json.dumps(each) for each in first}) == 10


SKEWED = [user(f"reset my password {number}") for number in range(40)] + [
    user(text) for text in ("a late refund", "an opening hour", "a broken lamp", "a gift card")
]


def test_clusters_take_turns(loop: Loop, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "of", by_password)
    log = logged(loop.folder / "log", SKEWED, embedding=llama)
    found = []
    for spread in ("Clusters", "None"):
        config = sampling(loop, log, per_iteration=10, spread=spread).model_copy(
            update={"output": f"file://{loop.folder}/{spread}"}
        )
        found.append(
            {each[0]["content"] for each in asked(stages.run(loop.folder / f"job-{spread}", config))}
        )
    others = {each[0]["content"] for each in SKEWED[40:]}
    assert others < found[0]
    assert not others <= found[1]


def by_password(vectors: Any) -> Any:
    """Clusters of what is known: the table is in the order of the log, which is that of hashes."""
    centre = np.asarray(vectors, np.float32).mean(axis=0)
    far = np.argsort(np.asarray(vectors, np.float32) @ centre)
    numbers = np.zeros(len(vectors), np.int32)
    numbers[far[:8]] = np.arange(1, 9)
    return numbers


def test_clusters_need_embeddings_and_that_is_said_first(loop: Loop) -> None:
    log = logged(loop.folder / "log", [user("one")])
    config = sampling(loop, log, per_iteration=1, spread="Clusters")
    done = loop.run(config.model_copy(update={"expected": Expected(clusters=True)}))
    assert done.code == ExitCode.INVALID_CONFIG
    assert "spec.prompts.spread: Clusters: the prompts of the dataset a are in none" in done.failure.message
    assert "curation.embedding" in done.failure.message


def test_a_revision_of_an_older_release_says_what_to_do(loop: Loop) -> None:
    sampled = loop.run(loop.sample())
    config = sampling(loop, sampled).model_copy(update={"output": f"file://{loop.folder}/again"})
    done = stages.run(loop.folder / "job", config)
    assert done.code == ExitCode.INVALID_CONFIG
    assert (
        "the revision of the dataset a has no prompts: an older release made it. Refresh it"
        in done.failure.message
    )
