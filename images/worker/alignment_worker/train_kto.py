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
from alignment_worker import train_config
from alignment_worker.failures import TooFewPairsError
from alignment_worker.train_columns import Row, Rows, with_reference
from alignment_worker.train_kto_batches import KtoRow, arranged, mismatched
from alignment_worker.train_pairs import Gathered, TokenPair
from alignment_worker.train_trainer import ResumableTrainer


def rows(gathered: Gathered, training: Training, limit: int) -> Rows:
    """Each answer once, as desirable or undesirable, in the order of training. Raises TooFewPairsError."""
    found = unpaired(gathered.pairs)
    batches = arranged(found, training.per_device_batch_size, training.seed)
    kept = list(chain.from_iterable(batches))
    good = sum(row.desirable for row in kept)
    bad = len(kept) - good
    pairs = [pair for pair in gathered.pairs if pair.is_pair]
    if not good or not bad:
        raise TooFewPairsError(
            f"KTO needs desirable and undesirable answers to at least two prompts: of {len(pairs)} pairs and "
            f"{len(gathered.pairs) - len(pairs)} unpaired rows came {good} and {bad} that it can use. Give more "
            "prompts or rows, or train on pairs by DPO."
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
        "droppedContradictory": _contradictory(gathered.pairs),
        "droppedSamePrompt": len(found) - len(kept),
    }
    # Equation 8 of the paper: the sums of both weights stand 1 : 1.
    settings = {
        "per_device_train_batch_size": len(batches[0]),
        "desirable_weight": max(1.0, bad / good),
        "undesirable_weight": max(1.0, good / bad),
    }
    return Rows(columns, lengths, counts, settings)


def unpaired(pairs: Iterable[TokenPair]) -> list[KtoRow]:
    """Each answer once; without those that one row calls good and another bad, whose pulls cancel."""
    good, bad = _answers(pairs)
    return [
        KtoRow(list(prompt), list(completion), desirable)
        for answers, desirable in ((good - bad, True), (bad - good, False))
        for prompt, completion in sorted(answers)
    ]


def _contradictory(pairs: Iterable[TokenPair]) -> int:
    good, bad = _answers(pairs)
    return len(good & bad)


_Answers = set[tuple[tuple[int, ...], tuple[int, ...]]]


def _answers(pairs: Iterable[TokenPair]) -> tuple[_Answers, _Answers]:
    pairs = list(pairs)
    return (
        {(tuple(pair.prompt), tuple(pair.chosen)) for pair in pairs if pair.chosen},
        {(tuple(pair.prompt), tuple(pair.rejected)) for pair in pairs if pair.rejected},
    )


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
        super().__init__(
            model, of, DataCollatorForUnpairedPreference, ref_model=reference, peft_config=adapters, **others
        )
        self.ref_model = None  # its log-probabilities are there

    def chosen_mask(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return inputs["completion_mask"][inputs["label"]]

    def _precompute_ref_logps(self, dataset: Dataset, _name: str, batch_size: int) -> Dataset:
        names = ("ref_logps", "ref_KL_logps")
        with self.referring() as model:

            def scored(batch: list[Row]) -> Sequence[list[float]]:
                inputs = self._prepare_inputs(self.data_collator(batch))
                return [values.tolist() for values in self.compute_ref_log_probs(model, inputs)]

            return with_reference(
                dataset, names, _length, scored, batch_size, self.args.world_size, self._progress
            )


def _length(row: Row) -> int:
    return len(row["prompt_ids"]) + max(len(row["completion_ids"]), len(row["KL_completion_ids"]))
