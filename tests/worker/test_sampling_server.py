"""The stage sample with a server beside the worker: what is recorded is what was sampled, or the stage fails."""

from __future__ import annotations

import copy
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alignment_api.stage import StageConfig
from alignment_worker import models, sampling_server
from alignment_worker.logprobs import log_probs
from tests.worker import stages, tiny
from tests.worker.completions_server import CompletionsServer, Json, RefusedError, serving
from tests.worker.loop import Loop
from tests.worker.stages import Finished

VARIABLE = "ALIGNMENT_SERVER_ADDRESS"
SERVER: Json = {"image": "vllm/vllm-openai:v0.33.0"}


@pytest.fixture
def loop(tmp_path: Path, llama: Path, other_llama: Path, reward: Path) -> Loop:
    return Loop(tmp_path, llama, other_llama, reward)


@pytest.fixture
def server(llama: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CompletionsServer]:
    with serving(llama) as made:
        monkeypatch.setenv(VARIABLE, f"127.0.0.1:{made.server_port}")
        monkeypatch.setattr(sampling_server, "RETRIES", 1)
        yield made


def served(loop: Loop, **settings: Any) -> StageConfig:
    return loop.sample(server=SERVER, **settings)


def test_recorded_ids_have_the_log_probabilities_of_a_fresh_forward_pass(
    loop: Loop, server: CompletionsServer
) -> None:
    done = loop.run(served(loop, temperature=0.7, top_p=0.9))
    rows, policy = done.rows("samples.jsonl"), models.load_policy("policy", loop.policy)
    assert [len(row["completions"]) for row in rows] == [4] * 9
    pairs = [(row["prompt_ids"], answer) for row in rows for answer in row["completions"]]
    fresh = log_probs(policy, [prompt for prompt, _ in pairs], [answer["ids"] for _, answer in pairs])
    for (_, answer), expected in zip(pairs, fresh, strict=True):
        assert answer["log_probs"] == pytest.approx(expected, abs=1e-4)
        assert answer["truncated"] == (answer["ids"][-1] != tiny.EOS)
        assert tiny.EOS not in answer["ids"][:-1]
    ended = [answer["truncated"] for _, answer in pairs]
    assert {True, False} == set(ended), "both ways to end are there"
    assert done.result.counts["truncated"] == sum(ended)
    assert done.result.counts["tokens"] == sum(len(answer["ids"]) for _, answer in pairs)


def test_the_judge_reads_what_a_server_sampled(loop: Loop, server: CompletionsServer) -> None:
    judged = loop.run(loop.judge(loop.run(served(loop))))
    assert judged.result.counts["prompts"] == 9


def test_a_prompt_goes_as_ids_with_nothing_left_to_the_servers_defaults(
    loop: Loop, server: CompletionsServer
) -> None:
    chat = [{"prompt": [{"role": "user", "content": "hello"}]}]
    loop.run(served(loop, prompts=chat, temperature=0.5, top_p=0.8, max_new_tokens=5))
    (asked,) = server.asked
    assert asked["prompt"][:2] == [1, 3], "BOS once, then the template's token"
    assert asked.pop("prompt")[-1] == 4
    assert asked.pop("seed") in range(2**31)
    assert asked == {
        "model": "policy",
        "n": 4,
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.8,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "logprobs": 1,
        "stop_token_ids": [tiny.EOS],
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def test_seeds_are_a_prompts_own_and_the_same_in_shards(
    loop: Loop, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = loop.run(served(loop))
    seeds = {tuple(asked["prompt"]): asked["seed"] for asked in server.asked}
    assert len(set(seeds.values())) == 9
    config = served(loop, shards=2).model_copy(update={"output": f"file://{tmp_path}/sharded"})
    for index in range(2):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        done = stages.run(tmp_path / f"job-{index}", config)
    assert done.rows("samples.jsonl") == whole.rows("samples.jsonl")


def test_ids_may_be_spelt_as_tokens(loop: Loop, server: CompletionsServer) -> None:
    server.answered = changed(lambda choice: choice.pop("token_ids"))
    assert loop.run(served(loop)).result.counts["completions"] == 36


def test_an_answer_ends_with_the_models_positions(loop: Loop, server: CompletionsServer) -> None:
    done = loop.run(served(loop, max_new_tokens=500))
    rows = done.rows("samples.jsonl")
    lengths = {
        len(row["prompt_ids"]) + len(each["ids"])
        for row in rows
        for each in row["completions"]
        if each["truncated"]
    }
    assert lengths <= {128}


def changed(change: Callable[[Json], object]) -> Callable[[Json], Json]:
    """Every choice of an answer, changed in place."""

    def answered(answer: Json) -> Json:
        made = copy.deepcopy(answer)
        for choice in made["choices"]:
            change(choice)
        return made

    return answered


def set_to(name: str, value: object) -> Callable[[Json], Json]:
    return changed(lambda choice: choice.update({name: value}))


def ids(*found: int) -> Callable[[Json], Json]:
    values = {"token_logprobs": [-1.0] * len(found)}
    return changed(lambda choice: choice.update({"token_ids": list(found), "logprobs": values}))


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        (lambda _: "<html>", "Invalid JSON"),
        (lambda _: {"error": "x"}, "model: Field required"),
        (lambda answer: answer | {"model": "another"}, "of the model 'another'"),
        (set_to("index", 0), "the choices [0, 0, 0, 0]"),
        (set_to("token_ids", [5, True, 2.0]), "should be a valid integer"),
        (lambda answer: answer | {"choices": answer["choices"][:1]}, "1 choices, asked for n=4"),
        (set_to("logprobs", None), "no log-probabilities"),
        (changed(lambda choice: (choice.pop("token_ids"), choice.pop("logprobs"))), "no token ids"),
        (set_to("prompt_token_ids", [1, 1, 5]), "prompt_token_ids that are not"),
        (ids(5, 4711, tiny.EOS), "the token id 4711"),
        (set_to("token_ids", [5, tiny.EOS, 6]), "log-probabilities that are any"),
        (changed(lambda choice: choice["logprobs"].update(token_logprobs=[None])), "log-probabilities that"),
        (ids(5, tiny.EOS, 6), "an answer of 3 tokens"),
        (ids(5, 6), "an answer of 2 tokens that neither ends"),
        (ids(), "an answer of 0 tokens"),
    ],
    ids=[
        *(
            "no JSON",
            "no model",
            "another model",
            "one index",
            "no integers",
            "too few",
            "no log-probabilities",
            "no ids",
            "another prompt",
        ),
        *(
            "another vocabulary",
            "another number",
            "nothing for a token",
            "on after EOS",
            "cut short",
            "empty",
        ),
    ],
)
def test_what_cannot_be_recorded_truthfully_fails_the_stage_for_good(
    loop: Loop, server: CompletionsServer, answered: Callable[[Json], Json | str], said: str
) -> None:
    server.answered = answered
    failed = loop.run(served(loop))
    assert (failed.code, failed.failure.reason) == (64, "InvalidConfig")
    assert failed.failure.message.startswith("spec.sampling.server: the server's answer cannot be used: ")
    assert said in failed.failure.message


def test_a_refusal_is_the_users_and_told_in_the_servers_words(loop: Loop, server: CompletionsServer) -> None:
    server.longest = 10
    failed = loop.run(served(loop))
    assert (failed.code, failed.failure.reason) == (64, "InvalidConfig")
    assert "maximum context length is 10 tokens" in failed.failure.message
    assert "spec.sampling.server.args" in failed.failure.message


def refuse(status: int, words: str) -> Callable[[Json], Json]:
    def answered(_: Json) -> Json:
        raise RefusedError(status, words)

    return answered


def test_a_redirection_is_not_followed(loop: Loop, server: CompletionsServer) -> None:
    server.answered = refuse(307, "elsewhere")
    failed = loop.run(served(loop))
    assert (failed.code, failed.failure.reason) == (64, "InvalidConfig")
    assert "HTTP 307" in failed.failure.message


def test_a_server_that_goes_on_failing_is_retried_by_the_job(loop: Loop, server: CompletionsServer) -> None:
    server.answered = refuse(500, "EngineDeadError")
    failed = loop.run(served(loop))
    assert (failed.code, failed.failure.reason) == (1, "Crashed")
    assert "asked 2 times" in failed.failure.message
    assert "EngineDeadError" in failed.failure.message


def test_one_failure_is_made_up_for(loop: Loop, server: CompletionsServer) -> None:
    def once(answer: Json) -> Json:
        if len(server.asked) == 1:
            raise RefusedError(503, "busy")
        return answer

    server.answered = once
    assert loop.run(served(loop)).result.counts["prompts"] == 9


def test_a_server_that_is_gone_is_retried_by_the_job(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv(VARIABLE, f"127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setattr(sampling_server, "RETRIES", 1)
        failed = loop.run(served(loop))
    assert (failed.code, failed.failure.reason) == (1, "Crashed")
    assert "does not answer" in failed.failure.message


def test_a_server_that_never_answers_is_not_waited_for_for_ever(
    loop: Loop, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def late(answer: Json) -> Json:
        over.wait(60)
        return answer

    monkeypatch.setattr(sampling_server, "LEAST_SECONDS", 1.0)
    server.answered = late
    try:
        failed = loop.run(served(loop, max_new_tokens=1))
    finally:
        over.set()
    assert (failed.code, failed.failure.reason) == (1, "Crashed")
    assert "no answer to the prompt of line" in failed.failure.message


def test_a_worker_that_is_told_to_stop_does_not_wait_for_the_server(
    loop: Loop, server: CompletionsServer
) -> None:
    over = threading.Event()

    def late(answer: Json) -> Json:
        os.kill(os.getpid(), signal.SIGTERM)
        over.wait(60)
        return answer

    server.answered = late
    try:
        stopped = loop.run(served(loop, prompts=tiny.prompt_rows(1), max_new_tokens=1))
    finally:
        over.set()
    assert (stopped.code, stopped.failure.reason) == (143, "Interrupted")


def test_without_a_server_beside_it_the_worker_says_so(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    failed: Finished = loop.run(served(loop))
    assert (failed.code, failed.failure.reason) == (64, "InvalidConfig")
    assert "no server runs beside this worker" in failed.failure.message
