"""TRL's trainers as the stage uses them: the sampled tokens, the loss on completions, the reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trl.trainer import utils

from alignment_api.cycle import Lora
from alignment_worker import lora, train, train_config, train_weights
from alignment_worker.progress import Progress
from alignment_worker.train_checkpoints import Checkpoints
from alignment_worker.train_kto_batches import KtoRow
from alignment_worker.train_pairs import Gathered, TokenPair
from alignment_worker.train_trainer import ResumableTrainer, scoring_completions_only, without_known_warnings
from tests.worker import training

BETA = 0.3


@pytest.fixture(autouse=True)
def as_in_the_stage() -> Iterator[None]:
    torch.set_num_threads(1)
    with without_known_warnings(), scoring_completions_only():
        yield


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.llama(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.llama(tmp_path_factory.mktemp("other"), seed=3)


def pairs(count: int = 6) -> list[TokenPair]:
    return [
        TokenPair(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"])
        for row in training.sampled_pairs(count)
    ]


def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def trainer(
    tmp_path: Path,
    start: Path,
    of: list[TokenPair],
    reference: Path | None = None,
    adapters: Any = None,
    **given: Any,
) -> ResumableTrainer:
    """Of one batch, unless told otherwise."""
    has_beta = {} if given.get("method") == "BestOfN" else {"beta": BETA}
    settings = training.training(**{"epochs": 1, "per_device_batch_size": len(of)} | has_beta | given)
    method = train.METHODS[settings.method]
    rows = method.rows(Gathered(of, [], len(of)), settings, 100)
    common = train_config.settings(settings, tmp_path / "scratch", recompute=False) | rows.settings
    return method.trainer(
        loaded(start),
        loaded(reference) if reference else None,
        rows,
        args=train_config.made(settings, method.config, common),
        adapters=adapters,
        tokenizer=training.tokenizer(),
        checkpoints=Checkpoints(tmp_path / "checkpoints", "identity"),
        progress=Progress(),
    )


def log_probs(model: Any, prompt: list[int], completion: list[int]) -> npt.NDArray[np.float64]:
    """Of the completion's tokens after the prompt, in nats, from the logits of one sequence: no batch, no padding."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + completion])).logits[0].double().numpy()
    logits = logits - logits.max(-1, keepdims=True)
    scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return np.array([scores[len(prompt) + k - 1, token] for k, token in enumerate(completion)])


def log_probability(model: Any, prompt: list[int], completion: list[int]) -> float:
    return float(log_probs(model, prompt, completion).sum())


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


@dataclasses.dataclass(frozen=True)
class Expected:
    """The losses from their definitions, in numpy."""

    policy: Any
    reference: Any

    def ratio(self, prompt: list[int], completion: list[int]) -> float:
        return log_probability(self.policy, prompt, completion) - log_probability(
            self.reference, prompt, completion
        )

    def dpo(self, of: list[TokenPair]) -> float:
        """Rafailov et al. 2023, equation 7."""
        margins = [
            self.ratio(pair.prompt, pair.chosen) - self.ratio(pair.prompt, pair.rejected) for pair in of
        ]
        return float(np.mean([-np.log(sigmoid(BETA * margin)) for margin in margins]))

    def ipo(self, of: list[TokenPair]) -> float:
        """Azar et al. 2023, equation 17, with the mean over tokens for the log-probability of an answer."""
        gaps = [
            self.ratio(pair.prompt, pair.chosen) / len(pair.chosen)
            - self.ratio(pair.prompt, pair.rejected) / len(pair.rejected)
            for pair in of
        ]
        return float(np.mean([(gap - 1 / (2 * BETA)) ** 2 for gap in gaps]))

    def kto(self, batch: list[KtoRow], desirable: float, undesirable: float) -> float:
        """Ethayarajh et al. 2024, equation 7: the KL from each prompt with the answer of the row before it."""
        around = [self.ratio(row.prompt, batch[place - 1].completion) for place, row in enumerate(batch)]
        kl = max(0.0, float(np.mean(around)))
        losses = []
        for row in batch:
            gain = BETA * (self.ratio(row.prompt, row.completion) - kl)
            losses.append(
                desirable * (1 - sigmoid(gain)) if row.desirable else undesirable * (1 - sigmoid(-gain))
            )
        return float(np.mean(losses))

    def supervised(self, of: list[TokenPair]) -> float:
        """The mean negative log-probability of the chosen answers' tokens."""
        return float(
            -np.concatenate([log_probs(self.policy, pair.prompt, pair.chosen) for pair in of]).mean()
        )


def batch_of(made: ResumableTrainer) -> dict[str, torch.Tensor]:
    batch: dict[str, torch.Tensor] = next(iter(made.get_train_dataloader()))
    return batch


def loss_of(made: ResumableTrainer, batch: dict[str, torch.Tensor]) -> float:
    return float(made.compute_loss(made.model, dict(batch)).item())


@pytest.mark.parametrize("method", ["DPO", "IPO", "BestOfN"])
def test_the_loss_is_the_methods_own_on_completions_alone(
    method: str, tmp_path: Path, start: Path, other: Path
) -> None:
    made = trainer(tmp_path, start, pairs(), None if method == "BestOfN" else other, method=method)
    expected = Expected(loaded(start), loaded(other))
    wanted = {"DPO": expected.dpo, "IPO": expected.ipo, "BestOfN": expected.supervised}[method]
    assert loss_of(made, batch_of(made)) == pytest.approx(wanted(pairs()), abs=1e-5)


@pytest.mark.parametrize("swapped", [False, True])
def test_ktos_loss_counts_its_kl_and_its_weights(
    swapped: bool, tmp_path: Path, start: Path, other: Path
) -> None:
    """Swapped, the KL's estimate is below 0, and counts as 0."""
    policy, reference = (start, other) if swapped else (other, start)
    one, two = (dataclasses.replace(pair, rejected=[11, 12, 2]) for pair in pairs()[:2])
    of = [*pairs(), one, two]
    made = trainer(tmp_path, policy, of, reference, method="KTO", per_device_batch_size=4)
    assert (made.args.desirable_weight, made.args.undesirable_weight) == (pytest.approx(8 / 6), 1)
    rows = [
        KtoRow(row["prompt_ids"], row["completion_ids"], row["label"])
        for row in made.train_dataset.select(range(4))
    ]
    wanted = Expected(loaded(policy), loaded(reference)).kto(rows, 8 / 6, 1)
    assert loss_of(made, batch_of(made)) == pytest.approx(wanted, abs=1e-5)
    made.model.train()
    loss_of(made, batch_of(made))
    assert (made._metrics["train"]["kl"][-1] > 0.01) is not swapped


def completions_of(method: str, made: ResumableTrainer) -> int:
    """Tokens of one batch of all pairs that are trained on or measured."""
    if method == "KTO":
        rows = made.train_dataset.select(range(made.args.per_device_train_batch_size))
        return sum(len(row["completion_ids"]) + len(row["KL_completion_ids"]) for row in rows)
    return sum(len(pair.chosen) + (method != "BestOfN") * len(pair.rejected) for pair in pairs())


@pytest.mark.parametrize("method", ["DPO", "IPO", "KTO", "BestOfN"])
def test_prompt_tokens_are_no_labels_and_their_logits_do_not_matter(
    method: str, tmp_path: Path, start: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer(tmp_path, start, pairs(), None if method == "BestOfN" else other, method=method)
    batch = batch_of(made)
    kernel = utils._ChunkedLogProbFunction.apply
    scored: list[int] = []

    class Only:
        @staticmethod
        def apply(hidden: torch.Tensor, *rest: Any) -> Any:
            scored.append(len(hidden))
            return kernel(hidden, *rest)

    class Changed:
        @staticmethod
        def apply(hidden: torch.Tensor, weight: Any, bias: Any, labels: torch.Tensor, *rest: Any) -> Any:
            of_no_label = labels == 0  # the padding's id, and no completion has it
            hidden = torch.where(of_no_label[:, None], hidden.flip(0) * 3 + 1, hidden)
            return kernel(hidden, weight, bias, torch.where(of_no_label, labels + 7, labels), *rest)

    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Only)
    plain = loss_of(made, batch)
    assert sum(scored) == completions_of(method, made)
    monkeypatch.setattr(utils, "_use_triton", lambda _device: False)
    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Changed)
    assert loss_of(made, batch) == pytest.approx(plain, abs=1e-6)


def test_scoring_completions_only_changes_no_loss(tmp_path: Path, start: Path, other: Path) -> None:
    made = trainer(tmp_path, start, pairs(), other)
    batch = batch_of(made)
    only = made.compute_loss(made.model, batch)
    only.backward()
    gradients = [parameter.grad.clone() for parameter in made.model.parameters()]
    made.model.zero_grad()
    utils._use_triton, ours = (lambda _device: False), utils._use_triton
    try:
        everything = made.compute_loss(made.model, batch)
        everything.backward()
    finally:
        utils._use_triton = ours
    assert only.item() == pytest.approx(everything.item(), abs=1e-6)
    for gradient, parameter in zip(gradients, made.model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-5, rtol=1e-4)


def test_the_sampled_tokens_reach_the_model_as_they_are(tmp_path: Path, start: Path) -> None:
    cut_off = dataclasses.replace(pairs()[0], chosen=[9, 9, 9], rejected=[2])
    of = [cut_off, *pairs()[1:]]
    batch = batch_of(trainer(tmp_path, start, of))
    rows = {
        tuple(ids[mask == 1].tolist())
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    }
    assert rows == {tuple(pair.prompt + ids) for pair in of for ids in (pair.chosen, pair.rejected)}
    completions = {
        tuple(ids[mask == 1].tolist())
        for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    }
    assert completions == {tuple(ids) for pair in of for ids in (pair.chosen, pair.rejected)}
    assert (9, 9, 9) in completions


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("anchored_elsewhere", [False, True])
def test_the_references_log_probabilities_are_its_own(
    adapted: bool, anchored_elsewhere: bool, tmp_path: Path, start: Path, other: Path
) -> None:
    adapters = lora.configuration(Lora(rank=2, alpha=4), loaded(start)) if adapted else None
    made = trainer(tmp_path, start, pairs(), other if anchored_elsewhere else None, adapters)
    reference = loaded(other if anchored_elsewhere else start)
    for row, pair in zip(made.train_dataset, pairs(), strict=True):
        assert row["prompt_ids"] == pair.prompt
        assert row["ref_chosen_logps"] == pytest.approx(
            log_probability(reference, pair.prompt, pair.chosen), abs=1e-4
        )
        assert row["ref_rejected_logps"] == pytest.approx(
            log_probability(reference, pair.prompt, pair.rejected), abs=1e-4
        )
    assert made.ref_model is None


@pytest.mark.parametrize("adapted", [False, True])
def test_ktos_reference_measures_mismatched_answers_too(
    adapted: bool, tmp_path: Path, start: Path, other: Path
) -> None:
    adapters = lora.configuration(Lora(rank=2, alpha=4), loaded(start)) if adapted else None
    made = trainer(tmp_path, start, pairs(), None if adapted else other, adapters, method="KTO")
    reference = loaded(start if adapted else other)
    for row in made.train_dataset:
        for name, completion in (("ref_logps", "completion_ids"), ("ref_KL_logps", "KL_completion_ids")):
            expected = log_probability(reference, row["prompt_ids"], row[completion])
            assert row[name] == pytest.approx(expected, abs=1e-4)
    assert made.ref_model is None


@pytest.mark.parametrize("method", ["KTO", "BestOfN"])
def test_answers_reach_the_model_as_they_are(method: str, tmp_path: Path, start: Path) -> None:
    cut_off = dataclasses.replace(pairs()[0], chosen=[9, 9, 9], rejected=[2])
    of = [cut_off, *pairs()[1:]]
    made = trainer(tmp_path, start, of, method=method, per_device_batch_size=6)
    found = set()
    for batch in made.get_train_dataloader():
        labelled = batch["labels"] != -100 if method == "BestOfN" else batch["completion_mask"] == 1
        for ids, mask, seen in zip(batch["input_ids"], labelled, batch["attention_mask"] == 1, strict=True):
            found.add((tuple(ids[seen & ~mask].tolist()), tuple(ids[mask].tolist())))
    answers = [(pair.prompt, pair.chosen) for pair in of]
    if method == "KTO":
        answers += [(pair.prompt, pair.rejected) for pair in of]
    assert found == {(tuple(prompt), tuple(answer)) for prompt, answer in answers}


def test_merged_adapters_answer_as_adapters_do(tmp_path: Path, start: Path) -> None:
    adapters = lora.configuration(Lora(rank=4, alpha=8), loaded(start))
    made = trainer(tmp_path, start, pairs(), adapters=adapters, epochs=5, learning_rate=1e-2)
    made.train_or_resume()
    ids = torch.tensor([pairs()[0].prompt])
    with torch.no_grad():
        adapted = made.model.eval()(input_ids=ids).logits
        plain = loaded(start)(input_ids=ids).logits
        merged = made.trained_model()(input_ids=ids).logits
    assert (adapted - plain).abs().max() > 1e-3
    torch.testing.assert_close(merged, adapted, atol=1e-5, rtol=1e-4)


def test_adapters_are_merged_in_fp32_and_rounded_once(tmp_path: Path) -> None:
    start = training.qwen(tmp_path / "start")
    adapters = lora.configuration(Lora(rank=4, alpha=8), loaded(start))
    made = trainer(tmp_path, start, pairs(), adapters=adapters, epochs=3, learning_rate=1e-2)
    made.train_or_resume()
    layer = made.model.base_model.model.model.layers[0].self_attn.q_proj
    update = layer.lora_B["default"].weight.double() @ layer.lora_A["default"].weight.double()
    expected = (layer.base_layer.weight.double() + 8 / 4 * update).detach()
    model = made.trained_model()
    merged = model.model.layers[0].self_attn.q_proj.weight.detach().clone()
    assert merged.dtype is torch.float32
    torch.testing.assert_close(merged.double(), expected, atol=1e-6, rtol=0)
    train_weights.store(model, start, tmp_path / "stored")
    stored = load_file(tmp_path / "stored" / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]
    assert torch.equal(stored, merged.to(torch.bfloat16))


def test_stored_weights_are_the_trained_ones_in_the_starts_precision(tmp_path: Path) -> None:
    start = training.qwen(tmp_path / "start")
    made = trainer(tmp_path, start, pairs(), epochs=3)
    made.train_or_resume()
    model = made.trained_model()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    expected = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
    train_weights.store(model, start, tmp_path / "stored")
    stored = load_file(tmp_path / "stored" / "model.safetensors")
    assert all(torch.equal(stored[name], expected[name]) for name in expected)


def test_the_change_is_counted_in_stored_numbers(tmp_path: Path, start: Path) -> None:
    model = loaded(start)
    model.model.norm.weight.data[:3] += 0.5
    model.model.embed_tokens.weight.data[0, 0] += 0.5  # tied to the head: one number, not two
    train_weights.store(model, start, tmp_path / "stored")
    change = train_weights.change(start, tmp_path / "stored")
    assert (change.changed, change.finite) == (4, True)
    assert change.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_weights_that_are_not_finite_are_noticed(tmp_path: Path, start: Path) -> None:
    model = loaded(start)
    model.model.norm.weight.data[0] = float("inf")
    train_weights.store(model, start, tmp_path / "stored")
    assert not train_weights.change(start, tmp_path / "stored").finite


def test_activations_are_kept_where_they_fit(start: Path) -> None:
    config = loaded(start).config
    assert not train_config.must_recompute(config, 200)
    config.hidden_size, config.num_hidden_layers = 8192, 80
    assert train_config.must_recompute(config, 2 * 64 * 4096)


def test_recomputed_activations_give_the_same_training(tmp_path: Path, start: Path) -> None:
    found = []
    for recompute in (False, True):
        made = trainer(tmp_path / str(recompute), start, pairs(), epochs=3)
        made.args.activation_checkpointing = recompute
        made.train_or_resume()
        found.append([entry["loss"] for entry in made.state.log_history if "loss" in entry])
    assert found[0] == pytest.approx(found[1], abs=1e-6)
