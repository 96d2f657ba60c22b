"""Kahneman-Tversky Optimization (Ethayarajh et al. 2024, arXiv:2402.01306): TRL's KTOTrainer on rows of our batches.

TRL 1.16 unpairs and tokenises by itself, and caches the reference's log-probabilities on disk; both is overridden.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from datasets import Dataset
from trl import KTOConfig, KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from alignment_api.cycle import Training
from alignment_worker import gang, train_config
from alignment_worker.failures import TooFewPairsError
from alignment_worker.train_columns import Row, Rows, scored
from alignment_worker.train_kto_batches import KtoRow, arranged, mismatched
from alignment_worker.train_pairs import Gathered, TokenPair
from alignment_worker.train_rows import Origin
from alignment_worker.train_trainer import ResumableTrainer


def rows(gathered: Gathered, training: Training, limit: int) -> Rows:
    """Each answer once, as desirable or undesirable, in the order of training. Raises TooFewPairsError."""
    found, contradictory = unpaired(gathered.pairs)
    batches = arranged(found, training.per_device_batch_size, training.seed)
    kept = list(chain.from_iterable(batches))
    good = sum(row.desirable for row in kept)
    bad = len(kept) - good
    pairs = [pair for pair in gathered.pairs if pair.is_pair]
    if not good or not bad:
        raise TooFewPairsError(
            f"KTO needs desirable and undesirable answers to at least two prompts: of {len(pairs)} pairs and "
            f"{len(gathered.pairs) - len(pairs)} unpaired rows came {good} and {bad} that it can use. "
            f"{_remedy(gathered.pairs)}"
        )
    others = list(chain.from_iterable(mismatched(batch, limit) for batch in batches))
    columns: dict[str, list[Any]] = {
        "prompt_ids": [row.prompt for row in kept],
        "completion_ids": [row.completion for row in kept],
        "KL_completion_ids": others,
        "label": [row.desirable for row in kept],
    }
    lengths = [
        len(row.prompt) + max(len(row.completion), len(other))
        for row, other in zip(kept, others, strict=True)
    ]
    counts = gathered.counts() | {
        "pairs": len(pairs),
        "pairsFromDatasets": len(pairs) - len(gathered.on_policy),
        "unpaired": len(gathered.pairs) - len(pairs),
        "desirable": good,
        "undesirable": bad,
        "droppedContradictory": contradictory,
        "droppedSamePrompt": len(found) - len(kept),
    }
    # Equation 8 of the paper: the sums of both weights stand 1 : 1.
    settings = {
        "per_device_train_batch_size": len(batches[0]),
        "desirable_weight": max(1.0, bad / good),
        "undesirable_weight": max(1.0, good / bad),
    }
    return Rows(columns, lengths, counts, settings, origins=_origins(gathered.pairs, kept))


def _remedy(pairs: Sequence[TokenPair]) -> str:
    for label, has_it in (
        ("true", any(pair.chosen for pair in pairs)),
        ("false", any(pair.rejected for pair in pairs)),
    ):
        if not has_it:
            return f"No row has the label {label}: add some to spec.datasets."
    return "Give more prompts or rows in spec.datasets, or train on pairs by DPO."


def unpaired(pairs: Sequence[TokenPair]) -> tuple[list[KtoRow], int]:
    """Each answer once, and how many are not: one row calls them good and another bad, and the pulls cancel."""
    good = {_answer(pair.prompt, pair.chosen) for pair in pairs if pair.chosen}
    bad = {_answer(pair.prompt, pair.rejected) for pair in pairs if pair.rejected}
    rows = [
        KtoRow(list(prompt), list(completion), desirable)
        for answers, desirable in ((good - bad, True), (bad - good, False))
        for prompt, completion in sorted(answers)
    ]
    return rows, len(good & bad)


def _origins(pairs: Sequence[TokenPair], kept: Sequence[KtoRow]) -> list[Origin]:
    """Of those that an answer was kept of: the others are there for a later training."""
    there = {_answer(row.prompt, row.completion) for row in kept}
    return [
        pair.origin
        for pair in pairs
        if pair.origin and there & {_answer(pair.prompt, pair.chosen), _answer(pair.prompt, pair.rejected)}
    ]


def _answer(prompt: Sequence[int], completion: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(prompt), tuple(completion)


def config(training: Training, **settings: Any) -> KTOConfig:
    return KTOConfig(
        beta=train_config.beta(training),
        max_length=None,  # what is longer was dropped; a completion is never cut
        disable_dropout=False,  # done already, and the adapters' own stays
        precompute_ref_log_probs=True,
        **settings,
    )


class UnpairedTrainer(ResumableTrainer, KTOTrainer):  # type: ignore[misc]
    """Trains `model` on rows in their order; `reference` None is the model as it is now (with LoRA: adapters off).

    The reference's log-probabilities, of the mismatched answers too, are computed once, before the first step, and the
    reference is let go.
    """

    def __init__(
        self, model: Any, reference: Any | None, of: Rows, *, adapters: Any | None, **others: Any
    ) -> None:
        self._lengths = of.lengths
        super().__init__(
            model, of, DataCollatorForUnpairedPreference, ref_model=reference, peft_config=adapters, **others
        )
        self.let_go_of_reference()

    def chosen_mask(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return inputs["completion_mask"][inputs["label"]]

    def _precompute_ref_logps(self, dataset: Dataset, _name: str, batch_size: int) -> Dataset:
        everything, processes = range(len(dataset)), self.args.world_size
        with self.referring() as model:

            def score(batch: list[Row]) -> Iterable[tuple[float, float]]:
                own, others = self.compute_ref_log_probs(
                    model, self._prepare_inputs(self.data_collator(batch))
                )
                return zip(own.tolist(), others.tolist(), strict=True)

            part = dict(
                scored(dataset, everything, self._lengths, score, batch_size, processes, self._progress)
            )
        found = {index: both for of_process in gang.gathered(part) for index, both in of_process.items()}
        own, others = (list(column) for column in zip(*(found[index] for index in everything), strict=True))
        return dataset.add_column("ref_logps", own).add_column("ref_KL_logps", others)
