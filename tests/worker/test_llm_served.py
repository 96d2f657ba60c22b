"""An LLM judge that is one: `transformers serve` on a small model that says the same whatever it is asked."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from alignment_api.judges import LLM
from alignment_api.measurements import FIRST_PREFERRED, JUDGE_ACCURACY, ORDER_AGREEMENT
from tests.cluster.processes import Child, free_ports
from tests.cluster.waiting import wait_until
from tests.worker import tiny
from tests.worker.logging_answers import LoggedDataset, answered
from tests.worker.test_llm_judge import judged, samples

SERVE = "from transformers.cli.transformers import main; main()"
BOS, EOS, ASSISTANT = 1, 2, 4


def says(folder: Path, reply: str) -> Path:
    """A model without attention, whose every token follows from the last alone: it answers `reply`, which is a token of
    its own, and ends.
    """
    tokenizer: PreTrainedTokenizerFast = tiny.tokenizer()
    tokenizer.add_tokens([reply])
    said = tokenizer.convert_tokens_to_ids(reply)
    size = len(tokenizer)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1)
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight[said, ASSISTANT] = 10
        model.lm_head.weight[EOS, said] = 10
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    (port,) = free_ports(1)
    words = ["serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    server = Child("transformers serve", [sys.executable, "-c", SERVE, *words], folder / "log", environment)
    server.start()
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        server.check()
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    try:
        wait_until(answers, "transformers serve answers", 180)
        yield f"{url}/v1"
    finally:
        server.stop()


def llm(endpoint: str, model: Path) -> LLM:
    return LLM.from_wire({"baseURL": endpoint, "model": str(model), "maxConcurrency": 2})


def test_a_model_that_always_takes_the_first_is_seen_for_what_it_is(endpoint: str, tmp_path: Path) -> None:
    model = says(tmp_path / "first", '{"preferred": "a"}')
    done = judged(tmp_path, samples("one", "two", "three", prompts=2), llm(endpoint, model))
    assert (done.code, done.result.counts["pairs"], done.result.counts["invalidReplies"]) == (0, 0, 0)
    assert done.result.measurements[ORDER_AGREEMENT].estimate == 0
    assert done.result.measurements[FIRST_PREFERRED].estimate == 100
    assert done.result.counts["judgeTokens"] > 12 * 100


def test_a_model_that_says_something_else_is_no_judge(endpoint: str, tmp_path: Path) -> None:
    model = says(tmp_path / "polite", "Both are lovely.")
    done = judged(tmp_path, samples("one", "two"), llm(endpoint, model))
    assert (done.code, done.failure.reason) == (77, "JudgeUnusable")


def test_a_refresh_of_a_dataset_asks_it_about_its_log(endpoint: str, tmp_path: Path) -> None:
    model = says(tmp_path / "first", '{"preferred": "a"}')
    data = LoggedDataset(tmp_path / "dataset")
    data.log(*answered("one", "yes", "no"))
    data.people(tiny.pair_rows(3))
    done = data.refresh({"llm": llm(endpoint, model).to_wire()})
    measured = done.result.by_category["production"]
    assert (measured[ORDER_AGREEMENT].estimate, measured[JUDGE_ACCURACY].estimate) == (0, 50)
    assert (done.result.counts["judgeTies"], done.result.counts["judged/production"]) == (1, 0)
    assert done.result.counts["judgeTokens"] > 8 * 100
