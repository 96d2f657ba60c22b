"""The stage `train` from its command line to its report, with tiny random models and the real TRL."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Trainer, get_scheduler

from alignment_api import trainer_arguments, trainer_fields
from alignment_api.cycle import DatasetReference, Lora, Training
from alignment_api.measurements import REWARD_MARGIN, TRAIN_LOSS
from alignment_api.stage import ExitCode, InputKind, StageReport, TrainParameters
from alignment_worker import main, train, train_config
from alignment_worker.logprobs import log_probs
from alignment_worker.models import load_policy
from tests.worker import tiny, training
from tests.worker.training import Finished

LORA = Lora(rank=4, alpha=8)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.qwen(tmp_path_factory.mktemp("qwen"))


def finished(
    folder: Path,
    start: Path,
    pairs: list[dict[str, Any]] | None = None,
    *,
    reference: Path | None = None,
    datasets: Mapping[str, list[dict[str, Any]]] | None = None,
    files: Mapping[str, tuple[Path, InputKind]] | None = None,
    max_pairs: int | None = None,
    **settings: Any,
) -> Finished:
    """The stage, run on `pairs` of a judge stage and on datasets."""
    inputs: dict[str, tuple[Path, InputKind]] = {
        "start": (start, InputKind.MODEL),
        "reference": (reference or start, InputKind.MODEL),
        **(files or {}),
    }
    if pairs is not None:
        file = training.file_for(settings.get("method", "DPO"))
        inputs["pairs"] = (training.sealed(folder / "judge", file, pairs), InputKind.STAGE)
    for name, found in (datasets or {}).items():
        path = training.sealed(folder / "datasets" / name, "pairs.jsonl", found)
        inputs[f"dataset/{name}"] = (path, InputKind.STAGE)
    parameters = TrainParameters(
        training=training.training(**settings),
        datasets=[DatasetReference(name=name, max_pairs=max_pairs) for name in datasets or {}],
    )
    return training.finish(training.config(folder / "out", inputs, parameters), folder / "job")


def counts(done: Finished) -> dict[str, int]:
    assert done.report.result is not None, done.report.failure
    return done.report.result.counts


def message(done: Finished, code: ExitCode) -> str:
    assert done.report.failure is not None
    assert (done.code, done.report.failure.reason) == (code, code.reason)
    assert not list(done.folder.glob("run-*"))
    return done.report.failure.message


@pytest.mark.parametrize("model", ["llama", "qwen", "gemma"])
@pytest.mark.parametrize("lora", [None, LORA])
def test_training_moves_the_stored_weights(
    model: str, lora: Lora | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    start: Path = request.getfixturevalue(model)
    done = finished(tmp_path, start, training.sampled_pairs(), lora=lora)
    assert done.code == 0
    found = counts(done)
    assert (found["pairs"], found["pairsOnPolicy"], found["steps"], found["epochs"]) == (24, 24, 12, 2)
    assert found["parametersChanged"] > 0.5 * found["parameters"]
    before, after = (load_file(folder / "model.safetensors") for folder in (start, done.model))
    assert {name: value.dtype for name, value in before.items()} == {
        name: value.dtype for name, value in after.items()
    }
    assert any(not torch.equal(before[name], after[name]) for name in before)
    for file in start.iterdir():
        if file.suffix != ".safetensors":
            assert (done.model / file.name).read_bytes() == file.read_bytes()
    assert {file.name for file in done.model.iterdir()} == {
        "README.md",
        *(file.name for file in start.iterdir()),
    }


UNDIVIDED = """
import sys
from alignment_worker.main import main

code = main(sys.argv[1:])
sys.exit("it loaded DeepSpeed" if "deepspeed" in sys.modules else code)
"""


def test_an_undivided_training_does_not_load_deepspeed(tmp_path: Path, llama: Path) -> None:
    """It takes seconds, and warns of CPUs. In a process of its own: what made the models here has loaded it."""
    judged = training.sealed(tmp_path / "judge", "pairs.jsonl", training.sampled_pairs(4))
    inputs = {
        "start": (llama, InputKind.MODEL),
        "reference": (llama, InputKind.MODEL),
        "pairs": (judged, InputKind.STAGE),
    }
    config = training.config(tmp_path / "out", inputs, TrainParameters(training=training.training()))
    words = training.arguments(config, tmp_path / "job")
    done = subprocess.run(
        [sys.executable, "-c", UNDIVIDED, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_report_measures_loss_and_margin_of_the_last_steps(tmp_path: Path, llama: Path) -> None:
    done = finished(tmp_path, llama, training.sampled_pairs(), epochs=4)
    assert done.report.result is not None
    last = done.steps[-2:]
    found = done.report.result.measurements
    assert [found[TRAIN_LOSS].n, found[REWARD_MARGIN].n] == [2, 2]
    assert found[TRAIN_LOSS].estimate == pytest.approx(sum(step["loss"] for step in last) / 2, rel=1e-3)
    assert found[REWARD_MARGIN].estimate == pytest.approx(
        sum(step["rewardMargin"] for step in last) / 2, rel=1e-3
    )
    assert [step["step"] for step in done.steps] == list(range(1, 25))
    assert done.steps[-1]["loss"] < done.steps[0]["loss"] == pytest.approx(0.6931, abs=1e-4)


def test_the_same_training_twice_gives_the_same_bytes(tmp_path: Path, llama: Path) -> None:
    one, two = (
        finished(tmp_path / name, llama, training.sampled_pairs(), lora=LORA) for name in ("one", "two")
    )
    assert one.report.result is not None
    assert two.report.result is not None
    assert one.report.result.model is not None
    assert two.report.result.model is not None
    assert one.report.result.model.digest == two.report.result.model.digest
    assert one.steps == two.steps


def test_the_seed_draws_another_order(tmp_path: Path, llama: Path) -> None:
    one, two = (finished(tmp_path / str(seed), llama, training.sampled_pairs(), seed=seed) for seed in (0, 1))
    assert one.steps[0]["logProbabilityChosen"] != two.steps[0]["logProbabilityChosen"]


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_reference_anchors_the_training(lora: Lora | None, tmp_path: Path, llama: Path) -> None:
    other = training.llama(tmp_path / "other", seed=5)
    previous = finished(tmp_path / "previous", llama, training.sampled_pairs(), lora=lora)
    initial = finished(tmp_path / "initial", llama, training.sampled_pairs(), reference=other, lora=lora)
    assert previous.steps[0]["rewardMargin"] == pytest.approx(0, abs=1e-5)
    assert abs(initial.steps[0]["rewardMargin"]) > 1e-3
    assert initial.steps[0]["logProbabilityChosen"] == pytest.approx(
        previous.steps[0]["logProbabilityChosen"], abs=1e-4
    )
    one, two = (load_file(done.model / "model.safetensors") for done in (previous, initial))
    assert any(not torch.equal(one[name], two[name]) for name in one)


def test_a_reference_of_equal_content_is_the_start_itself(tmp_path: Path, llama: Path) -> None:
    copy = training.llama(tmp_path / "copy")
    done = finished(tmp_path, llama, training.sampled_pairs(), reference=copy)
    assert done.steps[0]["rewardMargin"] == pytest.approx(0, abs=1e-5)


def test_a_pair_that_is_too_long_is_dropped_and_counted(tmp_path: Path, llama: Path) -> None:
    pairs = training.sampled_pairs(8)
    pairs[3]["rejected_ids"] = [8] * 40
    done = finished(tmp_path, llama, pairs, max_length=30)
    assert (counts(done)["pairs"], counts(done)["droppedTooLong"]) == (7, 1)


def test_the_models_own_limit_counts_as_well(tmp_path: Path, llama: Path) -> None:
    pairs = training.sampled_pairs(8)
    pairs[0]["chosen_ids"] = [8] * 150
    done = finished(tmp_path, llama, pairs)
    assert counts(done)["droppedTooLong"] == 1


def test_without_pairs_nothing_is_trained(tmp_path: Path, llama: Path) -> None:
    text = message(
        finished(tmp_path / "all", llama, training.sampled_pairs(8), max_length=4), ExitCode.TOO_FEW_PAIRS
    )
    assert "8 pairs were read, 8 are longer than 4 tokens" in text
    assert "maxLength" in text
    text = message(finished(tmp_path / "none", llama, []), ExitCode.TOO_FEW_PAIRS)
    assert "0 pairs were read" in text


def test_datasets_alone_are_trained_on_without_gold_and_held_out_prompts(tmp_path: Path, llama: Path) -> None:
    gold, held_out = tmp_path / "gold.jsonl", tmp_path / "heldout.jsonl"
    gold.write_text(
        json.dumps({"prompt": "2+2", "answer": "4", "grader": "Exact", "category": "sums"}) + "\n"
    )
    held_out.write_text(json.dumps({"prompt": [{"role": "user", "content": "hello there"}]}) + "\n")
    rows: list[dict[str, Any]] = [
        {"prompt": "what is 2", "chosen": " two", "rejected": " three"},
        {"prompt": " 2+2 ", "chosen": "4", "rejected": "5"},
        {
            "prompt": [{"role": "user", "content": "Hello  there"}],
            "chosen": [{"role": "assistant", "content": "hi"}],
            "rejected": [{"role": "assistant", "content": "no"}],
        },
        {
            "prompt": [{"role": "user", "content": "how are you"}],
            "chosen": [{"role": "assistant", "content": "well"}],
            "rejected": [{"role": "assistant", "content": "go away"}],
        },
    ]
    files = {"goldSet": (gold, InputKind.GOLD_SET), "heldOutPrompts": (held_out, InputKind.PROMPTS)}
    done = finished(tmp_path, llama, datasets={"people": rows}, files=files)
    found = counts(done)
    assert (found["pairs"], found["pairsOnPolicy"], found["pairsFromDatasets"]) == (2, 0, 2)
    assert found["droppedLeaked"] == 2
    assert done.report.result is not None
    assert set(done.report.result.inputs) == {
        "start",
        "reference",
        "dataset/people",
        "goldSet",
        "heldOutPrompts",
    }


def test_no_more_pairs_of_a_dataset_are_used_than_asked_for(tmp_path: Path, llama: Path) -> None:
    rows = [{"prompt": f"say {n}", "chosen": f"{n}", "rejected": f"{n + 1}"} for n in range(9)]
    done = finished(tmp_path, llama, training.sampled_pairs(4), datasets={"people": rows}, max_pairs=3)
    assert (counts(done)["pairs"], counts(done)["pairsFromDatasets"]) == (7, 3)


def test_a_tokenizer_without_padding_does(tmp_path: Path) -> None:
    start = training.qwen(tmp_path / "start", pad=False, template=False)
    assert finished(tmp_path, start, training.sampled_pairs()).code == 0


def test_a_pad_token_without_an_embedding_does(tmp_path: Path) -> None:
    start = tiny.with_tokens(training.llama(tmp_path / "start"), pad_token="<padding>")
    assert finished(tmp_path, start, training.sampled_pairs()).code == 0


def test_a_pair_with_a_token_that_the_model_has_no_embedding_for(tmp_path: Path) -> None:
    start = tiny.with_tokens(training.llama(tmp_path / "start"), "<image>")
    rows = [{"prompt": f"say {n}", "chosen": "yes", "rejected": "no"} for n in range(3)]
    rows[1]["rejected"] = "<image>"
    text = message(finished(tmp_path, start, datasets={"people": rows}), ExitCode.INVALID_MODEL)
    assert (
        "pairs.jsonl: line 2: the pair holds the token '<image>', whose id is 48, but the model has 48"
        in text
    )


@pytest.mark.parametrize(
    ("targets", "missing"), [("query,v_proj", "query"), ("lm_head", "lm_head"), (" , ", "' , '")]
)
def test_unknown_target_modules_are_refused_before_weights_are_loaded(
    targets: str, missing: str, tmp_path: Path
) -> None:
    start = training.qwen(tmp_path / "start")
    save_file(
        {"none": torch.zeros(1)}, start / "model.safetensors", metadata={"format": "pt"}
    )  # would not load
    lora = Lora(rank=4, alpha=8, target_modules=targets)
    text = message(finished(tmp_path, start, training.sampled_pairs(), lora=lora), ExitCode.INVALID_CONFIG)
    assert f"spec.training.lora.targetModules: {missing}" in text
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in text


def test_dropout_reaches_the_adapters(tmp_path: Path, llama: Path) -> None:
    plain, dropped = (
        finished(
            tmp_path / str(dropout),
            llama,
            training.sampled_pairs(),
            lora=Lora(rank=4, alpha=8, dropout=dropout),
        )
        for dropout in (0.0, 0.5)
    )
    assert plain.steps[0]["loss"] == pytest.approx(dropped.steps[0]["loss"], abs=1e-5)
    assert plain.steps[-1]["loss"] != dropped.steps[-1]["loss"]


def test_only_the_target_modules_are_trained(tmp_path: Path, llama: Path) -> None:
    lora = Lora(rank=4, alpha=8, target_modules="q_proj, layers.1.mlp.up_proj")
    done = finished(tmp_path, llama, training.sampled_pairs(), lora=lora)
    before, after = (load_file(folder / "model.safetensors") for folder in (llama, done.model))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.self_attn.q_proj.weight",
        "model.layers.1.mlp.up_proj.weight",
    }


@pytest.mark.parametrize(("lora", "learning_rate"), [(None, 5e-7), (Lora(rank=16, alpha=32), 1e-5)])
def test_512_pairs_at_the_defaults_move_what_is_stored_in_bf16(
    lora: Lora | None, learning_rate: float, tmp_path: Path, qwen: Path
) -> None:
    """Steps so small are rounded away on most weights; those that are left prefer the chosen answers."""
    pairs = training.sampled_pairs(512)
    inputs = {
        "start": (qwen, InputKind.MODEL),
        "reference": (qwen, InputKind.MODEL),
        "pairs": (training.sealed(tmp_path / "judge", "pairs.jsonl", pairs), InputKind.STAGE),
    }
    parameters = TrainParameters(training=Training(beta=0.1, learning_rate=learning_rate, lora=lora))
    done = training.finish(training.config(tmp_path / "out", inputs, parameters), tmp_path / "job")
    assert counts(done)["steps"] == 16
    assert counts(done)["parametersChanged"] > 0.01 * counts(done)["parameters"]
    moved = [new - old for new, old in zip(margins(done.model, pairs), margins(qwen, pairs), strict=True)]
    assert sum(margin > 0 for margin in moved) > 0.55 * len(pairs)  # by chance: once in a hundred


def margins(model: Path, pairs: list[dict[str, Any]]) -> list[float]:
    """By how much each chosen answer is likelier than the rejected one, in nats, by the weights as they are stored."""
    policy = load_policy("model", model)
    prompts = [pair["prompt_ids"] for pair in pairs]
    chosen, rejected = (
        log_probs(policy, prompts, [pair[name] for pair in pairs]) for name in ("chosen_ids", "rejected_ids")
    )
    return [sum(better) - sum(worse) for better, worse in zip(chosen, rejected, strict=True)]


def test_with_lora_the_next_reference_is_the_incumbent_with_its_adapters_merged(
    tmp_path: Path, qwen: Path
) -> None:
    pairs = training.sampled_pairs(8)
    first = finished(tmp_path / "1", qwen, pairs, lora=LORA, per_device_batch_size=8, epochs=4)
    previous = finished(tmp_path / "2", first.model, pairs, lora=LORA, per_device_batch_size=8)
    initial = finished(tmp_path / "3", first.model, pairs, reference=qwen, lora=LORA, per_device_batch_size=8)
    now, before = (sum(margins(model, pairs)) / len(pairs) for model in (first.model, qwen))
    assert now - before > 1e-3
    for done, expected in ((previous, 0.0), (initial, 0.1 * (now - before))):
        step = done.steps[0]
        assert step["rewardMargin"] == pytest.approx(expected, abs=1e-4)
        likelier = step["logProbabilityChosen"] - step["logProbabilityRejected"]
        assert likelier == pytest.approx(now, abs=1e-3)


def test_an_update_that_rounding_undoes_is_no_work(tmp_path: Path, qwen: Path) -> None:
    text = message(
        finished(tmp_path, qwen, training.sampled_pairs(4), learning_rate=1e-12), ExitCode.NO_WORK_DONE
    )
    assert "After 2 steps the stored weights equal those of the start" in text
    assert "1e-12" in text


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    start = training.llama(tmp_path / "start")
    weights = load_file(start / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, start / "model.safetensors", metadata={"format": "pt"})
    text = message(finished(tmp_path, start, training.sampled_pairs(8)), ExitCode.TRAINING_DIVERGED)
    assert "diverged at step 1: the loss is nan, with learningRate 0.001" in text
    assert "see whether the weights that it starts from are numbers" in text


def test_bf16_computes_and_fp16_asks_for_a_gpu(tmp_path: Path, llama: Path) -> None:
    assert finished(tmp_path / "bf16", llama, training.sampled_pairs(4), precision="BF16").code == 0
    if not torch.cuda.is_available():
        done = finished(tmp_path / "fp16", llama, training.sampled_pairs(4), precision="FP16")
        assert "FP16 needs a GPU" in message(done, ExitCode.INVALID_CONFIG)


def test_progress_counts_steps_and_says_the_loss(tmp_path: Path, llama: Path) -> None:
    done = finished(tmp_path, llama, training.sampled_pairs())
    shown = json.loads((tmp_path / "job" / "progress").read_bytes())
    assert (shown["done"], shown["total"], shown["unit"]) == (12, 12, "steps")
    assert shown["detail"] == f"loss {done.steps[-1]['loss']:.4f}"


def test_nothing_but_the_model_its_log_and_its_rows_is_stored(tmp_path: Path, llama: Path) -> None:
    done = finished(tmp_path, llama, training.sampled_pairs(), checkpoint_every_steps=4)
    assert {path.name for path in done.folder.iterdir()} == {"manifest.json", done.run_folder.name}
    assert {path.name for path in done.run_folder.iterdir()} == {
        "model",
        "training-log.jsonl",
        "rows.jsonl",
        "learned-pairs.txt",
    }


@pytest.mark.parametrize("method", ["IPO", "KTO", "BestOfN"])
@pytest.mark.parametrize("lora", [None, LORA])
def test_every_method_moves_the_stored_weights_towards_the_chosen(
    method: str, lora: Lora | None, tmp_path: Path, llama: Path
) -> None:
    settings: dict[str, Any] = {"lora": lora, "epochs": 6, "learning_rate": 3e-3}
    done = finished(tmp_path, llama, training.sampled_pairs(), method=method, **settings)
    found = counts(done)
    steps = {"IPO": 36, "KTO": 72, "BestOfN": 36}[method]
    assert (found["steps"], len(done.steps)) == (steps, steps)
    assert found["parametersChanged"] > 0.5 * found["parameters"]
    before, after = (AutoModelForCausalLM.from_pretrained(folder) for folder in (llama, done.model))
    gains = {"chosen_ids": 0.0, "rejected_ids": 0.0}
    for row in training.sampled_pairs():
        for name in gains:
            gains[name] += answer_loss(before, row, name) - answer_loss(after, row, name)
    assert gains["chosen_ids"] > max(0, gains["rejected_ids"])


def answer_loss(model: Any, row: dict[str, Any], name: str) -> float:
    """The negative log-probability of a token, on average."""
    ids = torch.tensor([row["prompt_ids"] + row[name]])
    labels = ids.clone()
    labels[:, : len(row["prompt_ids"])] = -100
    with torch.no_grad():
        return float(model(input_ids=ids, labels=labels).loss)


def test_what_each_method_reports(tmp_path: Path, llama: Path) -> None:
    pairs = training.sampled_pairs(8)
    ipo, kto, best = (
        finished(tmp_path / method, llama, pairs, method=method) for method in ("IPO", "KTO", "BestOfN")
    )
    assert {"pairs", "pairsOnPolicy"} <= counts(ipo).keys()
    assert [counts(kto)[name] for name in ("pairs", "desirable", "undesirable", "droppedSamePrompt")] == [
        8,
        8,
        8,
        0,
    ]
    assert [counts(best)[name] for name in ("answers", "answersOnPolicy", "droppedTwice")] == [8, 8, 0]
    measured = [set(done.report.result.measurements) for done in (ipo, kto, best) if done.report.result]
    assert measured == [{TRAIN_LOSS, REWARD_MARGIN}, {TRAIN_LOSS, REWARD_MARGIN}, {TRAIN_LOSS}]
    assert all("kl" in step for step in kto.steps)
    assert all("tokenAccuracy" in step for step in best.steps)
    assert ipo.steps[0]["loss"] == pytest.approx(1 / (2 * 0.1) ** 2, rel=1e-4)  # no gap yet
    assert kto.steps[0]["loss"] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("method", ["IPO", "KTO"])
def test_every_reference_anchors(method: str, tmp_path: Path, llama: Path) -> None:
    other = training.llama(tmp_path / "other", seed=5)
    pairs = training.sampled_pairs(8)
    own = finished(tmp_path / "own", llama, pairs, method=method)
    theirs = finished(tmp_path / "theirs", llama, pairs, reference=other, method=method)
    rewards = [
        max(abs(done.steps[0][name]) for name in ("rewardChosen", "rewardRejected")) for done in (own, theirs)
    ]
    assert rewards[0] < 1e-5
    assert rewards[1] > 1e-3


@pytest.mark.parametrize("method", ["IPO", "KTO", "BestOfN"])
def test_a_loss_that_is_not_finite_stops_every_method(method: str, tmp_path: Path) -> None:
    start = training.llama(tmp_path / "start")
    weights = load_file(start / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, start / "model.safetensors", metadata={"format": "pt"})
    done = finished(tmp_path, start, training.sampled_pairs(8), method=method)
    assert "diverged at step 1: the loss is nan" in message(done, ExitCode.TRAINING_DIVERGED)


@pytest.mark.parametrize("method", ["DPO", "KTO", "BestOfN"])
def test_arguments_reach_the_trainer(method: str, tmp_path: Path, llama: Path) -> None:
    given: dict[str, Any] = {
        "warmup_steps": 4,
        "lr_scheduler_type": "constant_with_warmup",
        "optim": "adafactor",
    }
    if method == "DPO":
        given |= {"use_weighting": True, "f_divergence_type": "js_divergence"}
    if method == "KTO":
        given |= {"desirable_weight": 2.0}
    done = finished(tmp_path, llama, training.sampled_pairs(), method=method, arguments=given)
    plain = finished(tmp_path / "plain", llama, training.sampled_pairs(), method=method)
    rates = [step["learningRate"] for step in done.steps]
    assert rates[:5] == pytest.approx([0, 2.5e-4, 5e-4, 7.5e-4, 1e-3])
    assert set(rates[4:]) == {1e-3}
    same = done.steps[0]["loss"] == pytest.approx(plain.steps[0]["loss"], rel=1e-3)
    assert same is (method == "BestOfN")


def limits(name: str, kind: type | tuple[str, ...]) -> list[Any]:
    """Each of an argument's values, or its least and its largest."""
    if isinstance(kind, tuple) or kind is bool:
        return [*kind] if isinstance(kind, tuple) else [True, False]
    low, high = trainer_arguments.RANGES.get(name, (0, 1000))
    return [kind(low), kind(math.nextafter(min(high, 1e9), low))]


@pytest.mark.parametrize("method", list(trainer_fields.ALLOWED))
def test_what_is_in_range_is_fine_with_the_trainer(method: str, tmp_path: Path) -> None:
    made = training.training(method=method)
    common = train_config.settings(made, tmp_path, recompute=False)
    for name, kind in trainer_fields.ALLOWED[method].items():
        for value in limits(name, kind):
            assert trainer_arguments.problem(method, name, value) == ""
            config = train.METHODS[method].config(made, **(common | {name: value}))
            make, options = Trainer.get_optimizer_cls_and_kwargs(config)
            optimizer = make([torch.nn.Parameter(torch.zeros(1))], **options)
            get_scheduler(config.lr_scheduler_type, optimizer, config.get_warmup_steps(10), 10)


def test_a_warm_up_longer_than_the_training_is_refused(tmp_path: Path, llama: Path) -> None:
    said = finished(tmp_path / "13", llama, training.sampled_pairs(), arguments={"warmup_steps": 13})
    assert message(said, ExitCode.INVALID_CONFIG).startswith(
        "spec.training.arguments.warmup_steps: 13: the training has 12 steps, and would end before it reaches its "
        "learning rate. Lower it"
    )
    for fits in (12, 0.99):
        done = finished(
            tmp_path / str(fits), llama, training.sampled_pairs(), arguments={"warmup_steps": fits}
        )
        assert counts(done)["steps"] == 12


def test_what_arguments_hold_back_is_said(tmp_path: Path, llama: Path) -> None:
    held = {"max_grad_norm": 1e-300, "optim": "sgd"}
    done = finished(tmp_path, llama, training.sampled_pairs(), arguments=held)
    text = message(done, ExitCode.NO_WORK_DONE)
    assert "Raise spec.training.learningRate (it was 0.001)" in text
    assert text.endswith("spec.training.arguments hold it back: max_grad_norm: 1e-300, optim: sgd.")


@pytest.mark.parametrize(
    ("method", "name"), [("DPO", "output_dir"), ("DPO", "learning_rate"), ("KTO", "packing")]
)
def test_a_config_with_an_argument_that_is_not_allowed_is_refused(
    method: str, name: str, tmp_path: Path, llama: Path
) -> None:
    """A StageConfig that an operator of another version made."""
    inputs = {"start": (llama, InputKind.MODEL), "reference": (llama, InputKind.MODEL)}
    parameters = TrainParameters(training=training.training(method=method))
    words = training.arguments(training.config(tmp_path / "out", inputs, parameters), tmp_path / "job")
    file = tmp_path / "job" / "stage.json"
    wire = json.loads(file.read_text())
    wire["parameters"]["training"]["arguments"] = {name: 1}
    file.write_text(json.dumps(wire))
    assert main.main(words) == ExitCode.INVALID_CONFIG
    failure = StageReport.decode((tmp_path / "job" / "report").read_text()).failure
    assert failure is not None
    assert f"parameters.train.training.arguments.{name}: is " in failure.message


@pytest.mark.parametrize("method", ["IPO", "KTO", "BestOfN"])
def test_too_little_for_a_method_is_refused_before_weights_are_loaded(method: str, tmp_path: Path) -> None:
    start = training.llama(tmp_path / "start")
    save_file({"none": torch.zeros(1)}, start / "model.safetensors", metadata={"format": "pt"})
    cases: list[tuple[list[dict[str, Any]], int]] = [
        ([], 100),
        (training.sampled_pairs(1), 100),
        (training.sampled_pairs(8), 4),
    ]
    for number, (pairs, limit) in enumerate(cases):
        done = finished(tmp_path / str(number), start, pairs, method=method, max_length=limit)
        message(done, ExitCode.TOO_FEW_PAIRS)
