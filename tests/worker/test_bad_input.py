"""Bad input: one exit code and one message that says where, what and what to do."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignment_api import digests
from alignment_api.cycle import Lora
from alignment_api.judges import ComparisonJudge, Verifier
from alignment_api.stage import ExitCode, Expected, Input, InputKind, StageConfig
from alignment_worker import rows
from alignment_worker.failures import failure_of
from alignment_worker.main import main
from alignment_worker.store import StageFolder
from tests.worker import stages, tiny
from tests.worker.loop import Loop
from tests.worker.stages import Finished


@pytest.fixture
def loop(tmp_path: Path, llama: Path, other_llama: Path, reward: Path) -> Loop:
    copies = {}
    for name, folder in (("policy", llama), ("candidate", other_llama), ("reward", reward)):
        copies[name] = Path(shutil.copytree(folder, tmp_path / name))
    return Loop(tmp_path, **copies)


def refused(done: Finished, code: ExitCode, *said: str) -> None:
    assert (done.code, done.failure.reason) == (code, code.reason)
    for words in said:
        assert words in done.failure.message
    assert done.report_bytes <= 2048
    assert not (done.folder / "manifest.json").exists()
    assert not list(done.folder.glob("run-*"))


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def change_json(name: str, **columns: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_bytes()) | columns))

    return change


def drop_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def only_an_adapter(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def only_tokens(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def shorten(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def lack_a_part(folder: Path) -> None:
    parts = {"model.norm.weight": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))


def unlink(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (unlink("model.safetensors"), "holds no weights; *.safetensors are expected"),
        (pickle_weights, "only as pytorch_model.bin, which can run code when loaded. Save the model with"),
        (only_an_adapter, "holds an adapter and no model; merge it"),
        (unlink("config.json"), "has no config.json"),
        (only_tokens, "has no tokenizer; add tokenizer.json"),
        (drop_a_weight, "lacks 1 of the model's weights (model.layers.1.mlp.up_proj.weight)"),
        (shorten, "is not whole"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be used"),
        (
            change_json("config.json", model_type="mine", auto_map={"AutoConfig": "mine.Config"}),
            "Code in the folder is never run",
        ),
    ],
)
def test_a_model_that_cannot_be_used(loop: Loop, damage: Callable[[Path], object], said: str) -> None:
    damage(loop.policy)
    refused(loop.run(loop.sample()), ExitCode.INVALID_MODEL, "policy: ", str(loop.policy), said)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            change_json("config.json", architectures=["LlamaForCausalLM"]),
            "is LlamaForCausalLM, not a sequence",
        ),
        (
            change_json("config.json", id2label={"0": "a", "1": "b"}),
            "has 2 labels; a reward model needs exactly",
        ),
        (pickle_weights, "pytorch_model.bin"),
        (shorten, "is not whole"),
        (lack_a_part, "lacks model-00002-of-00002.safetensors"),
    ],
)
def test_a_reward_model_that_cannot_judge(loop: Loop, damage: Callable[[Path], object], said: str) -> None:
    sampled = loop.run(loop.sample())
    damage(loop.reward)
    refused(loop.run(loop.judge(sampled)), ExitCode.INVALID_MODEL, "judge: ", said)


def test_code_in_a_models_folder_is_never_run(loop: Loop, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (loop.policy / "mine.py").write_text(f"open({str(ran)!r}, 'w')\n")
    change_json(
        "config.json", auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}, model_type="mine"
    )(loop.policy)
    change_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["mine.T", None]})(loop.policy)
    refused(loop.run(loop.sample()), ExitCode.INVALID_MODEL)
    assert not ran.exists()


def test_chats_need_a_template(tmp_path: Path, other_llama: Path, reward: Path) -> None:
    loop = Loop(tmp_path, tiny.qwen(tmp_path / "policy"), other_llama, reward)
    done = loop.run(loop.sample([{"prompt": [{"role": "user", "content": "hi"}]}]))
    refused(done, ExitCode.INVALID_MODEL, str(loop.policy), "no chat template. Give the prompts as strings")


@pytest.mark.parametrize("name", ["gold", "heldout"])
def test_chats_that_a_later_stage_cannot_ask_stop_the_first(
    tmp_path: Path, other_llama: Path, reward: Path, name: str
) -> None:
    loop = Loop(tmp_path, tiny.qwen(tmp_path / "policy"), other_llama, reward)
    config = loop.sample()
    file = tmp_path / "data" / f"{name}.jsonl"
    chat = tiny.gold_rows(1)[0] | {"prompt": [{"role": "user", "content": "hi"}]}
    loop.data(name, [*rows.load(file), chat])
    refused(loop.run(config), ExitCode.INVALID_MODEL, "no chat template")


def test_chats_that_a_judge_cannot_read_stop_the_first_stage(loop: Loop) -> None:
    (loop.reward / "chat_template.jinja").unlink()
    config = loop.sample([{"prompt": "fine"}, {"prompt": [{"role": "user", "content": "hi"}]}])
    config.inputs["judge"] = stages.an_input(loop.reward, InputKind.REWARD_MODEL)
    refused(loop.run(config), ExitCode.INVALID_MODEL, f"judge: {loop.reward}: the prompts are chat messages")


@pytest.mark.parametrize("role", ["policy", "prompts", "goldSet"])
def test_an_input_that_is_not_there(loop: Loop, role: str) -> None:
    config = loop.sample()
    config.inputs[role] = config.inputs[role].model_copy(update={"uri": f"file://{loop.folder}/nowhere"})
    done = loop.run(config)
    refused(done, ExitCode.INPUT_MISSING, f"inputs.{role}: file://{loop.folder}/nowhere is not there")


def test_a_claims_path_is_named_as_uri_and_as_folder(loop: Loop) -> None:
    config = loop.sample()
    config.inputs["prompts"] = Input(uri="pvc://models/a/prompts.jsonl", kind=InputKind.PROMPTS)
    words = stages.argv(loop.folder / "job", config)
    code = main([*words, "--claim", f"models={loop.folder}/claim"])
    done = stages.finished(loop.folder / "job", config, code)
    refused(
        done,
        ExitCode.INPUT_MISSING,
        "inputs.prompts: pvc://models/a/prompts.jsonl is not there",
        f"{loop.folder}/claim/a/prompts.jsonl",
    )


def test_a_stage_that_is_not_finished_is_not_there_yet(loop: Loop) -> None:
    sampled = loop.run(loop.sample())
    (loop.folder / "sample" / "manifest.json").unlink()
    refused(loop.run(loop.judge(sampled)), ExitCode.INPUT_MISSING, "inputs.samples", "manifest.json")


@pytest.mark.parametrize("role", ["candidate", "answers"])
def test_what_was_changed_since_it_was_frozen(loop: Loop, role: str) -> None:
    if role == "candidate":
        config = loop.evaluate()
        change_json("generation_config.json", eos_token_id=7)(loop.candidate)
    else:
        evaluated = loop.run(loop.evaluate())
        config = loop.compare(evaluated)
        manifest = loop.folder / "evaluate" / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_bytes())))
    done = loop.run(config)
    refused(
        done, ExitCode.DIGEST_MISMATCH, role, "it was changed meanwhile. Restore it, or start a new iteration"
    )


def test_a_stages_file_that_was_changed(loop: Loop) -> None:
    sampled = loop.run(loop.sample())
    (file,) = (loop.folder / "sample").glob("run-*/samples.jsonl")
    file.write_text(file.read_text().replace("say", "SAY"))
    refused(loop.run(loop.judge(sampled)), ExitCode.DIGEST_MISMATCH, "samples.jsonl")


def test_a_broken_row_stops_the_first_stage_though_a_later_one_needs_it(loop: Loop) -> None:
    config = loop.sample()
    file = loop.folder / "data" / "gold.jsonl"
    file.write_text(file.read_text() + '{"prompt": "x", "grader": "Exact", "category": "a"}\n')
    refused(loop.run(config), ExitCode.INVALID_ROW, f"{file}: line 13: `answer` is missing; give a string")


def test_a_prompt_without_an_answer_is_told_who_needs_it(loop: Loop) -> None:
    config = loop.sample()
    file = loop.folder / "data" / "heldout.jsonl"
    file.write_text('{"question": "x", "prompt": "y"}\n')
    refused(
        loop.run(config),
        ExitCode.INVALID_ROW,
        f"{file}: line 1: `answer` is missing; give a string (here is: question, prompt)",
        "verifier (evaluation.comparison.judge, or judge) needs `answer` and `grader` in each row of heldOutPrompts",
    )


def test_too_many_categories_of_gold_and_held_out_together(loop: Loop) -> None:
    config = loop.sample()
    for name, first in (("gold", 0), ("heldout", 9)):
        many = [row | {"category": f"c{first + number}"} for number, row in enumerate(tiny.gold_rows(9))]
        loop.data(name, many)
    refused(loop.run(config), ExitCode.TOO_MANY_CATEGORIES, "18 categories", "at most 16")


def test_category_names_that_no_report_could_hold(loop: Loop) -> None:
    config = loop.sample()
    long = [f"{number}{'x' * 59}" for number in range(6)]
    loop.data("gold", [row | {"category": long[n]} for n, row in enumerate(tiny.gold_rows(6))])
    refused(
        loop.run(config), ExitCode.TOO_MANY_CATEGORIES, "take 3", "at most 320 fit a report. Shorten them"
    )


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (Expected(held_out_prompts=13), "minComparisons: 13: DATA/heldout.jsonl has 12 prompts"),
        (
            Expected(gold_categories=["law"]),
            "categories: 'law': DATA/gold.jsonl has no item of this category",
        ),
        (
            Expected(lora=Lora(target_modules="q_proj,nonsense")),
            "targetModules: nonsense: the model has no such linear",
        ),
        (
            Expected(max_length=2),
            "spec.training.maxLength: 2: the shortest prompt of DATA/prompts.jsonl has ",
        ),
    ],
)
def test_what_a_gate_would_miss_stops_the_first_stage(loop: Loop, expected: Expected, said: str) -> None:
    config = loop.sample().model_copy(update={"expected": expected})
    refused(loop.run(config), ExitCode.INVALID_CONFIG, said.replace("DATA", str(loop.folder / "data")))


@pytest.mark.parametrize("name", ["gold", "heldout"])
def test_rows_that_run_code_need_a_container_for_it(loop: Loop, name: str) -> None:
    config = loop.sample()
    there = rows.load(loop.folder / "data" / f"{name}.jsonl")
    there[4] |= {"grader": "Python", "answer": "assert f() == 1"}
    file = loop.data(name, there)
    said = f"{file}: line 5: `grader` is Python, which runs what the model wrote; set spec.evaluation.pythonGrader"
    for allowed in (False, True):
        asked = config.model_copy(update={"expected": Expected(python_grader=allowed)})
        if allowed:
            assert loop.run(asked).code == 0
        else:
            refused(loop.run(asked), ExitCode.INVALID_ROW, said)


def test_what_the_gates_need_is_there(loop: Loop) -> None:
    expected = Expected(held_out_prompts=12, gold_categories=["facts", "code"], lora=Lora(), max_length=64)
    assert loop.run(loop.sample().model_copy(update={"expected": expected})).code == 0


def test_sixteen_categories_fit_the_report(loop: Loop) -> None:
    config = loop.evaluate(initial=True)
    names = [f"a category number {number:02d}" for number in range(16)]
    loop.data("gold", [row | {"category": names[n % 16]} for n, row in enumerate(tiny.gold_rows(96))])
    loop.data("heldout", [row | {"category": names[n % 16]} for n, row in enumerate(tiny.held_out_rows(96))])
    done = loop.run(config)
    assert len(done.result.by_category) == 16
    assert done.report_bytes <= 2048


def test_a_prompt_that_leaves_no_room_for_an_answer(loop: Loop) -> None:
    done = loop.run(loop.sample([{"prompt": "fine"}, {"prompt": "a" * 200}]))
    refused(done, ExitCode.INVALID_ROW, "line 2: `prompt` has 201 tokens, and the model reads 128 in all")


@pytest.mark.parametrize("name", ["prompts", "gold", "heldout"])
def test_a_prompt_with_a_token_that_the_policy_has_no_embedding_for(loop: Loop, name: str) -> None:
    tiny.with_tokens(loop.policy, "<image>")
    config = loop.sample()
    file = loop.folder / "data" / f"{name}.jsonl"
    count = len(rows.load(file))
    loop.data(name, [*rows.load(file), tiny.gold_rows(1)[0] | {"prompt": "see <image>"}])
    said = (
        f"{file}: line {count + 1}: `prompt` holds the token '<image>', whose id is 47, but the model has 47"
    )
    refused(loop.run(config), ExitCode.INVALID_MODEL, said, str(loop.policy), "Leave the token out, or give")


def test_a_prompt_with_a_token_that_a_judge_has_no_embedding_for(loop: Loop) -> None:
    tiny.with_tokens(loop.reward, "<image>")
    config = loop.sample([*tiny.prompt_rows(4), {"prompt": "see <image>"}])
    config.inputs["judge"] = stages.an_input(loop.reward, InputKind.REWARD_MODEL)
    file = loop.folder / "data" / "prompts.jsonl"
    said = f"judge: {file}: line 5: `prompt` holds the token '<image>', whose id is 47"
    refused(loop.run(config), ExitCode.INVALID_MODEL, said, str(loop.reward))


def test_tokens_without_embeddings_do_no_harm_where_no_prompt_holds_them(loop: Loop) -> None:
    """Gemma's tokenizer has one; some have their pad token so."""
    for folder in (loop.policy, loop.reward):
        tiny.with_tokens(folder, "<image>", pad_token="<padding>")
    config = loop.sample()
    config.inputs["judge"] = stages.an_input(loop.reward, InputKind.REWARD_MODEL)
    sampled = loop.run(config)
    assert sampled.code == 0
    assert loop.run(loop.judge(sampled)).code == 0


@pytest.mark.parametrize("name", ["gold", "heldout"])
@pytest.mark.parametrize("prompt", ["gold 3", [{"role": "user", "content": "hi"}]])
def test_a_prompt_that_stands_twice_is_no_evidence_twice(loop: Loop, name: str, prompt: object) -> None:
    config = loop.sample()
    there = tiny.gold_rows(9)
    twice = [there[0] | {"prompt": prompt}, *there[4:6], there[1] | {"prompt": prompt, "answer": "other"}]
    file = loop.data(name, twice)
    said = (
        f"{file}: line 4: `prompt` is that of line 1, but every row counts as evidence of its own. Leave one"
    )
    refused(loop.run(config), ExitCode.INVALID_ROW, said)


def test_a_training_prompt_may_stand_twice(loop: Loop) -> None:
    done = loop.run(loop.sample([{"prompt": "say a"}, {"prompt": "say a"}]))
    assert done.result.counts["prompts"] == 2


@pytest.mark.parametrize("role", ["policy", "prompts", "goldSet"])
def test_a_pipe_is_refused_before_anybody_waits_for_it(loop: Loop, role: str) -> None:
    config = loop.sample()
    os.mkfifo(loop.folder / "pipe")
    config.inputs[role] = config.inputs[role].model_copy(update={"uri": f"file://{loop.folder}/pipe"})
    said = (
        f"inputs.{role}: file://{loop.folder}/pipe ({loop.folder}/pipe) is a pipe, a socket or a device; name"
    )
    refused(loop.run(config), ExitCode.INVALID_CONFIG, said)


def test_a_verifier_needs_answers(loop: Loop) -> None:
    sampled = loop.run(loop.sample())
    config = loop.judge(sampled)
    judge = config.parameters.judge.model_copy(update={"reward_model": None, "verifier": Verifier()})  # type: ignore[union-attr]
    config = config.model_copy(update={"parameters": config.parameters.model_copy(update={"judge": judge})})
    refused(loop.run(config), ExitCode.INVALID_ROW, "line 1: `answer` and `grader` are missing")
    assert ComparisonJudge(verifier=Verifier())


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("{", "is not JSON"),
        ('{"stage": "sample"}', "ownerUid: "),
        (None, "seed: abc: Input should be a valid integer"),
    ],
)
def test_a_config_that_cannot_be_read(loop: Loop, broken: str | None, said: str) -> None:
    config = loop.sample()
    words = stages.argv(loop.folder / "job", config)
    file = loop.folder / "job" / "stage.json"
    file.write_text(broken or json.dumps(config.to_wire() | {"seed": "abc"}))
    refused(stages.finished(loop.folder / "job", config, main(words)), ExitCode.INVALID_CONFIG, said)


def test_a_config_for_another_stage_or_contract(loop: Loop) -> None:
    config = loop.sample()
    words = ["judge", *stages.argv(loop.folder / "job", config)[1:]]
    done = stages.finished(loop.folder / "job", config, main(words))
    refused(done, ExitCode.INVALID_CONFIG, "the command says judge, the config sample")
    newer = loop.run(config.model_copy(update={"contract_version": 2}))
    refused(newer, ExitCode.INVALID_CONFIG, "contractVersion: 2: this worker speaks version 1")


def test_a_folder_of_another_run(loop: Loop) -> None:
    loop.run(loop.sample())
    manifest = (loop.folder / "sample" / "manifest.json").read_bytes()
    done = loop.run(loop.sample().model_copy(update={"seed": 2}))
    assert (done.code, done.failure.reason) == (73, "StoreConflict")
    assert "Two cycles must not share a folder" in done.failure.message
    assert (loop.folder / "sample" / "manifest.json").read_bytes() == manifest


def test_a_full_store_says_so_and_is_retried(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    new_run = StageFolder.new_run

    def full(folder: StageFolder) -> Path:
        run = new_run(folder)
        (run / "samples.jsonl").symlink_to("/dev/full")
        return run

    with monkeypatch.context() as patched:
        patched.setattr(StageFolder, "new_run", full)
        done = loop.run(loop.sample())
    assert (done.code, done.failure.reason) == (1, "StoreFull")
    assert re.match(r"The store is full: .*No space left on device.*\. Free space", done.failure.message)
    assert loop.run(loop.sample()).code == 0


@pytest.mark.parametrize(
    "words",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        'Error while serializing: IoError(Os { code: 122, message: "Disk quota exceeded" })',
        "[enforce fail at inline_container.cc:626] . unexpected pos 64 vs 0: No space left on device",
    ],
)
def test_a_full_store_is_known_in_the_words_of_the_libraries(words: str) -> None:
    """As safetensors and torch spell it. Never tried on /dev/full: safetensors renames a file over its target."""
    assert failure_of(RuntimeError(words)).reason == "StoreFull"


def test_a_failure_holds_nothing_that_a_terminal_obeys() -> None:
    said = failure_of(RuntimeError("\x1b[2J\x07\u202e\ud83d é\n\tNBSP:\u00a0 日本"))
    assert said.message.startswith("RuntimeError: \ufffd[2J\ufffd\ufffd\ufffd é\n\tNBSP:\u00a0 日本")


def test_an_unexpected_error_is_a_crash_with_its_name(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("x" * 5000)

    monkeypatch.setattr("alignment_worker.sample.generate", fail)
    done = loop.run(loop.sample())
    assert (done.code, done.failure.reason) == (1, "Crashed")
    assert done.failure.message.startswith("KeyError: ")
    assert done.report_bytes <= 2048


def test_no_digest_depends_on_hidden_files(loop: Loop) -> None:
    before = digests.of_folder(loop.candidate)
    (loop.candidate / ".cache").mkdir()
    (loop.candidate / ".cache" / "x").write_text("x")
    assert digests.of_folder(loop.candidate) == before
    assert isinstance(loop.sample(), StageConfig)
