"""TRL's DPOTrainer as the stage uses it: the sampled tokens, the loss on completions, the reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trl.trainer import utils

from alignment_api.cycle import Lora
from alignment_worker import lora, train_config, train_weights
from alignment_worker.progress import Progress
from alignment_worker.train_checkpoints import Checkpoints
from alignment_worker.train_pairs import TokenPair
from alignment_worker.train_trainer import PairTrainer, scoring_completions_only, without_known_warnings
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
    **settings: Any,
) -> PairTrainer:
    wanted = {"beta": BETA, "epochs": 1, "per_device_batch_size": len(of)} | settings
    return PairTrainer(
        loaded(start),
        loaded(reference) if reference else None,
        of,
        config=train_config.configuration(training.training(**wanted), tmp_path / "scratch", recompute=False),
        adapters=adapters,
        tokenizer=training.tokenizer(),
        checkpoints=Checkpoints(tmp_path / "checkpoints", "identity"),
        progress=Progress(),
    )


def log_probability(model: Any, prompt: list[int], completion: list[int]) -> float:
    """Of the completion after the prompt, in nats, from the logits of one sequence: no batch, no padding."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + completion])).logits[0].double()
    scores = torch.log_softmax(logits, -1)
    return float(sum(scores[len(prompt) + k - 1, token] for k, token in enumerate(completion)))


def dpo_loss(policy: Any, reference: Any, of: list[TokenPair]) -> float:
    """Rafailov et al. 2023, equation 7, from its definition."""
    total = 0.0
    for pair in of:
        ratios = [
            log_probability(policy, pair.prompt, ids) - log_probability(reference, pair.prompt, ids)
            for ids in (pair.chosen, pair.rejected)
        ]
        total -= float(
            torch.nn.functional.logsigmoid(torch.tensor(BETA * (ratios[0] - ratios[1]), dtype=torch.float64))
        )
    return total / len(of)


def batch_of(made: PairTrainer) -> dict[str, torch.Tensor]:
    batch: dict[str, torch.Tensor] = next(iter(made.get_train_dataloader()))
    return batch


def test_the_loss_is_dpos_on_completions_alone(tmp_path: Path, start: Path, other: Path) -> None:
    made = trainer(tmp_path, start, pairs(), other)
    loss = made.compute_loss(made.model, batch_of(made))
    assert loss.item() == pytest.approx(dpo_loss(loaded(start), loaded(other), pairs()), abs=1e-5)


def test_prompt_tokens_are_no_labels_and_their_logits_do_not_matter(
    tmp_path: Path, start: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer(tmp_path, start, pairs(), other)
    batch = batch_of(made)
    plain = made.compute_loss(made.model, batch)
    scored: list[torch.Tensor] = []
    kernel = utils._ChunkedLogProbFunction.apply
    forward = made.model.forward

    def with_other_prompt_labels(*args: Any, labels: torch.Tensor, **kwargs: Any) -> Any:
        assert (labels[batch["completion_mask"] == 0] == -100).all()
        return forward(*args, labels=labels, **kwargs)

    class Kernel:
        @staticmethod
        def apply(hidden: torch.Tensor, *rest: Any) -> Any:
            scored.append(hidden)
            return kernel(hidden, *rest)

    monkeypatch.setattr(made.model, "forward", with_other_prompt_labels)
    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Kernel)
    assert made.compute_loss(made.model, batch).item() == plain.item()
    completions = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs())
    assert [len(hidden) for hidden in scored] == [completions]


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
    assert not train_config.must_recompute(config, pairs(), 4)
    config.hidden_size, config.num_hidden_layers = 8192, 80
    assert train_config.must_recompute(config, [TokenPair([1] * 4000, [1] * 96, [1])] * 64, 64)


def test_recomputed_activations_give_the_same_training(tmp_path: Path, start: Path) -> None:
    found = []
    for recompute in (False, True):
        made = trainer(tmp_path / str(recompute), start, pairs(), epochs=3)
        made.args.activation_checkpointing = recompute
        made.train_or_resume()
        found.append([entry["loss"] for entry in made.state.log_history if "loss" in entry])
    assert found[0] == pytest.approx(found[1], abs=1e-6)
