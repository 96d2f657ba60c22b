"""The stage `reward` from its command line to its report, with tiny random models and the real TRL."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from alignment_api import digests, measurements
from alignment_api.cycle import RewardTraining
from alignment_api.stage import ExitCode, RewardParameters
from alignment_worker import inputs, models, prompts, reward_pairs, train_config
from alignment_worker.progress import Progress
from alignment_worker.reward_pairs import ReadPair, RewardPairs
from alignment_worker.reward_trainer import RewardModelTrainer
from alignment_worker.scoring import Question, RewardModel
from alignment_worker.store import Places
from alignment_worker.train_checkpoints import Checkpoints
from alignment_worker.train_trainer import without_known_warnings
from tests.worker import rewarding, stages, tiny, training
from tests.worker.stages import Finished

QUESTIONS = (Question("", "p", "c"), Question("", "p", "r"))


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> Finished:
    return rewarding.rewarded(tmp_path_factory.mktemp("learned"), llama, rewarding.separable(240))


def folder_of(done: Finished) -> Path:
    assert done.result.model is not None
    return Path(done.result.model.uri.removeprefix("file://"))


def refused(done: Finished, code: ExitCode) -> str:
    assert (done.code, done.failure.reason) == (code, code.reason)
    assert not (done.folder / "manifest.json").exists()
    assert not list(done.folder.glob("run-*"))
    return done.failure.message


def fixed_batch() -> list[ReadPair]:
    """Sequences of different lengths, so that there is padding."""
    return [
        ReadPair([1, *row["chosen_ids"]], [1, *row["rejected_ids"]], QUESTIONS, 1, str(number))
        for number, row in enumerate(training.sampled_pairs(6))
    ]


def test_the_loss_is_the_likelihood_of_bradley_and_terry(tmp_path: Path, llama: Path) -> None:
    batch = fixed_batch()
    settings = train_config.reward_configuration(
        RewardTraining(model="file:///m"),
        training.training(per_device_batch_size=len(batch)),
        tmp_path,
        recompute=False,
    )
    torch.manual_seed(0)
    with without_known_warnings():
        trainer = RewardModelTrainer(
            models.load_backbone("backbone", llama),
            RewardPairs(batch, [], Counter(), len(batch)).rows(),
            args=settings,
            tokenizer=models.load_tokenizer(llama),
            checkpoints=Checkpoints(tmp_path / "checkpoints", "identity"),
            progress=Progress(),
        )
        rows = [{"chosen_ids": pair.chosen, "rejected_ids": pair.rejected} for pair in batch]
        loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows)).item()

    def score(ids: list[int]) -> float:
        """Of one sequence without padding: the head on the last token's hidden state."""
        with torch.no_grad():
            hidden = trainer.model.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        head = trainer.model.score.weight[0].detach().numpy().astype(np.float64)
        return float(head @ hidden.numpy().astype(np.float64))

    chosen, rejected = (
        np.array([score(ids) for ids in each])
        for each in ([pair.chosen for pair in batch], [pair.rejected for pair in batch])
    )
    # P(chosen beats rejected) = exp(chosen) / (exp(chosen) + exp(rejected))
    reference = -np.mean(chosen - np.logaddexp(chosen, rejected))
    assert abs(chosen - rejected).max() > 0.01
    assert loss == pytest.approx(reference, abs=1e-5)


def test_it_learns_what_people_prefer(learned: Finished) -> None:
    result = learned.result
    assert result.counts["pairs"] == 180
    assert result.counts["heldOutPairs"] == 60
    assert result.counts["steps"] == 4 * 23
    assert (
        result.counts["droppedTooLong"] == result.counts["droppedLeaked"] == result.counts["droppedTies"] == 0
    )
    accuracy = result.measurements[measurements.HELD_OUT_ACCURACY]
    assert accuracy.estimate is not None
    assert accuracy.low is not None
    assert accuracy.estimate > 90
    assert accuracy.low > 80
    assert accuracy.n == 60
    margin, brier = (
        result.measurements[name].estimate
        for name in (measurements.HELD_OUT_MARGIN, measurements.BRIER_SCORE)
    )
    assert margin is not None
    assert brier is not None
    assert margin > 1
    assert brier < 0.1
    loss = result.measurements[measurements.TRAIN_LOSS].estimate
    assert loss is not None
    assert loss < 0.3
    assert set(result.measurements) >= {measurements.OVERCONFIDENCE, measurements.LENGTH_CORRELATION}


def test_what_is_reported_is_what_the_stored_model_says_to_a_judge(learned: Finished) -> None:
    """The accuracy from the folder and the rows alone."""
    folder = folder_of(learned)
    seen = set(json.loads((folder / "trained-on.json").read_bytes())["prompts"])
    rows = [
        row
        for row in rewarding.separable(240)
        if digests.short(digests.of_bytes(row["prompt"].encode()), 16) not in seen
    ]
    assert len(seen) == 180
    assert len(rows) == 60
    judge = RewardModel("judge", folder, 7)
    better, worse = (
        judge.scores([Question("", row["prompt"], row[name]) for row in rows])
        for name in ("chosen", "rejected")
    )
    right = sum(one > other for one, other in zip(better, worse, strict=True))
    assert learned.result.measurements[measurements.HELD_OUT_ACCURACY].estimate == pytest.approx(
        100 * right / 60, rel=1e-3
    )


def test_the_model_is_a_folder_like_any_other_reward_model(learned: Finished, llama: Path) -> None:
    folder = folder_of(learned)
    assert learned.result.model is not None
    assert digests.of_folder(folder) == learned.result.model.digest
    models.check("judge", folder, reward=True)
    config = AutoConfig.from_pretrained(folder)
    assert (config.num_labels, config.architectures) == (1, ["LlamaForSequenceClassification"])
    assert {file.name for file in folder.iterdir()} == {
        *(file.name for file in llama.iterdir() if file.name != "generation_config.json"),
        "trained-on.json",
    }
    before, after = (load_file(each / "model.safetensors") for each in (llama, folder))
    assert after.keys() - before.keys() == {"score.weight"}
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert not (learned.folder / "checkpoints").exists()
    steps = [json.loads(line) for line in (folder.parent / "training-log.jsonl").read_text().splitlines()]
    assert len(steps) == learned.result.counts["steps"]
    assert set(steps[0]) >= {"step", "loss", "margin", "accuracy", "learningRate", "gradientNorm"}


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, llama: Path) -> None:
    one, other = (
        rewarding.rewarded(tmp_path / name, llama, rewarding.separable(40)) for name in ("one", "other")
    )
    assert one.result.model is not None
    assert other.result.model is not None
    assert one.result.model.digest == other.result.model.digest


def test_a_backbone_in_bf16_without_pad_token_keeps_its_precision(tmp_path: Path, qwen: Path) -> None:
    done = rewarding.rewarded(tmp_path, qwen, rewarding.separable(40), reward={"epochs": 1})
    stored = load_file(folder_of(done) / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert models.load_reward_model("judge", folder_of(done)).model.config.pad_token_id is not None


def test_a_trained_reward_model_is_a_backbone_too_and_what_it_has_seen_is_not_held_out(
    tmp_path: Path, learned: Finished
) -> None:
    first = folder_of(learned)
    seen = set(json.loads((first / "trained-on.json").read_bytes())["prompts"])
    again = rewarding.rewarded(tmp_path, first, rewarding.separable(300), reward={"epochs": 1})
    now = set(json.loads((folder_of(again) / "trained-on.json").read_bytes())["prompts"])
    assert seen < now
    assert again.result.counts["heldOutPairs"] == 75
    assert len(now) == 225
    before = AutoModelForSequenceClassification.from_pretrained(first).score.weight
    after = AutoModelForSequenceClassification.from_pretrained(folder_of(again)).score.weight
    assert torch.nn.functional.cosine_similarity(before, after).item() > 0.5


def test_a_backbone_that_has_seen_all_of_it_cannot_be_measured(tmp_path: Path, learned: Finished) -> None:
    file = folder_of(learned) / "trained-on.json"
    seen = set(json.loads(file.read_bytes())["prompts"])
    old = [
        row
        for row in rewarding.separable(240)
        if digests.short(digests.of_bytes(row["prompt"].encode()), 16) in seen
    ]
    done = rewarding.rewarded(tmp_path, folder_of(learned), old)
    assert "spec.reward.model: it was trained on all 180 prompts" in refused(done, ExitCode.TOO_FEW_PAIRS)


def test_pairs_that_teach_nothing_or_too_much_are_dropped_and_counted(tmp_path: Path, llama: Path) -> None:
    rows = [
        *rewarding.separable(40),
        {"prompt": "GOLD 3!", "chosen": "yes", "rejected": "no"},
        {"prompt": "held 2", "chosen": "yes", "rejected": "no"},
        {"prompt": "long", "chosen": "yes " * 30, "rejected": "no"},
        {"prompt": "same to this tokenizer", "chosen": "yes ä", "rejected": "yes ö"},
        {"prompt": "unpaired", "completion": "yes", "label": True},
    ]
    done = rewarding.rewarded(tmp_path, llama, rows, reward={"epochs": 1}, max_length=60)
    counts = done.result.counts
    assert (counts["droppedLeaked"], counts["droppedTooLong"], counts["droppedTies"]) == (2, 1, 1)
    assert counts["droppedUnpaired"] == 1
    assert counts["pairs"] + counts["heldOutPairs"] == 40
    made = rewarding.config(tmp_path / "strict", llama, {"people": rows}, max_length=60)
    parameters = made.parameters.model_copy(update={"refuse_leaked": True})
    strict = stages.run(tmp_path / "strict" / "job", made.model_copy(update={"parameters": parameters}))
    assert "2 of 45 rows of datasets hold gold or held-out prompts" in refused(strict, ExitCode.CONTAMINATED)


def test_all_pairs_of_a_held_out_prompt_are_held_out_and_its_newest_is_measured(
    tmp_path: Path, llama: Path
) -> None:
    rows = rewarding.separable(8)
    twice = [*rows, *({**row, "chosen": row["chosen"] + "!"} for row in rows)]
    done = rewarding.rewarded(tmp_path, llama, twice, reward={"epochs": 1})
    assert done.result.counts["pairs"] == 12
    assert done.result.counts["heldOutPairs"] == 2
    assert done.result.measurements[measurements.HELD_OUT_ACCURACY].n == 2


def test_a_dataset_gives_no_more_pairs_than_it_may(tmp_path: Path, llama: Path) -> None:
    made = rewarding.config(
        tmp_path,
        llama,
        {"a": rewarding.separable(30), "b": rewarding.separable(60)[30:]},
        max_pairs=10,
        reward={"epochs": 1},
    )
    counts = stages.run(tmp_path / "job", made).result.counts
    assert counts["pairs"] + counts["heldOutPairs"] == 20


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ("c", "c"),
        ([{"role": "assistant", "content": "c"}], "c"),
    ],
)
def test_a_pair_is_read_as_the_judge_reads_an_answer(
    tmp_path: Path, llama: Path, chosen: Any, text: str
) -> None:
    chat = [{"role": "user", "content": "p"}]
    other = "r" if isinstance(chosen, str) else [{"role": "assistant", "content": "r"}]
    rows = [
        {"prompt": [{"role": "user", "content": f"q{number}"}], "chosen": chosen, "rejected": other}
        for number in range(4)
    ] + [{"prompt": chat, "chosen": chosen, "rejected": other}]
    made = rewarding.config(tmp_path, llama, {"people": rows})
    tokenizer = models.load_tokenizer(llama)
    opened = inputs.opened(made, Places({}), Progress())
    assert isinstance(made.parameters, RewardParameters)
    gathered = reward_pairs.gather(opened, made.parameters, tokenizer, 128, 47, ())
    pair = next(pair for pair in [*gathered.trained, *gathered.held_out] if pair.questions[0].prompt == chat)
    assert pair.chosen == prompts.encode_answered(tokenizer, chat, text)
    assert pair.answer_tokens == (2, 2)  # a letter and EOS


@pytest.mark.parametrize(
    ("rows", "reward", "said"),
    [
        (
            rewarding.separable(10),
            {"min_pairs": 11},
            ("spec.reward.minPairs: 11: only 10 pairs", "lower minPairs"),
        ),
        (rewarding.separable(1), {}, ("only 1 pairs", "Of 1 that were read")),
        (
            [{"prompt": f"p{n}", "chosen": f"{n} ä", "rejected": f"{n} ö"} for n in range(9)],
            {},
            ("only 0 pairs", "9 have two answers of the same tokens"),
        ),
        (
            [{"prompt": "one", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(9)],
            {},
            ("All 9 pairs ask the same prompt", "several prompts"),
        ),
        (
            [{"prompt": f"p{n}", "chosen": "c" * 200, "rejected": "r"} for n in range(9)],
            {},
            ("9 are longer than 128 tokens (spec.training.maxLength, or the model's own limit)",),
        ),
        (
            [{"prompt": f"p{n}", "completion": "c", "label": True} for n in range(9)],
            {},
            ("only 0 pairs can be trained on", "9 are unpaired rows, which no reward model is trained on"),
        ),
    ],
    ids=["too few", "one row", "only ties", "one prompt", "all too long", "unpaired"],
)
def test_too_few_pairs_are_refused_before_weights_are_loaded(
    tmp_path: Path,
    llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[dict[str, Any]],
    reward: dict[str, Any],
    said: tuple[str, ...],
) -> None:
    monkeypatch.delattr(models, "load_backbone")
    message = refused(rewarding.rewarded(tmp_path, llama, rows, reward=reward), ExitCode.TOO_FEW_PAIRS)
    assert all(part in message for part in said), message


def test_a_tokenizer_that_does_not_fit_is_refused_with_the_token(tmp_path: Path) -> None:
    backbone = tiny.with_tokens(tiny.llama(tmp_path / "backbone"), "yes")
    message = refused(rewarding.rewarded(tmp_path, backbone, rewarding.separable(8)), ExitCode.INVALID_MODEL)
    assert "'yes'" in message
    assert "47 embeddings" in message


def test_a_classifier_of_several_labels_is_refused(tmp_path: Path) -> None:
    backbone = tiny.reward_model(tmp_path / "backbone", labels=3)
    message = refused(rewarding.rewarded(tmp_path, backbone, rewarding.separable(8)), ExitCode.INVALID_MODEL)
    assert "has 3 labels; a reward model needs exactly one" in message


def test_weights_that_the_body_lacks_are_not_made_up(tmp_path: Path) -> None:
    backbone = tiny.llama(tmp_path / "backbone")
    weights = load_file(backbone / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, backbone / "model.safetensors", metadata={"format": "pt"})
    message = refused(rewarding.rewarded(tmp_path, backbone, rewarding.separable(8)), ExitCode.INVALID_MODEL)
    assert "lacks 1 of the model's weights (model.layers.1.mlp.up_proj.weight)" in message


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    backbone = tiny.llama(tmp_path / "backbone")
    weights = load_file(backbone / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, backbone / "model.safetensors", metadata={"format": "pt"})
    message = refused(
        rewarding.rewarded(tmp_path, backbone, rewarding.separable(8)), ExitCode.TRAINING_DIVERGED
    )
    assert "diverged at step 1: the loss is nan, with learningRate 0.003" in message
    assert "see whether the weights that it starts from are numbers" in message


def test_a_model_that_learned_nothing_is_no_judge(tmp_path: Path, llama: Path) -> None:
    """Refused here, so that nothing is sampled for it."""
    message = refused(
        rewarding.rewarded(tmp_path, llama, rewarding.contradictory(), reward={"epochs": 1}),
        ExitCode.JUDGE_STALE,
    )
    assert "The reward model that this stage trained prefers the chosen answer in" in message
    assert "of 60 pairs that it has not seen. The lower end must be above 55 %" in message
