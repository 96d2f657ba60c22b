"""Direct Preference Optimization (Rafailov et al. 2023, arXiv:2305.18290) and IPO (Azar et al. 2023, arXiv:2310.12036).

TRL's DPOTrainer on pairs that are tokens already. TRL 1.16 computes the reference's log-probabilities of all rows and
caches them on disk (`_precompute_ref_logps`), which is overridden here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from alignment_api.cycle import Training
from alignment_worker import train_config, train_reference
from alignment_worker.train_columns import Row, Rows, scored
from alignment_worker.train_pairs import Gathered
from alignment_worker.train_reference import Tokens
from alignment_worker.train_trainer import ResumableTrainer

_LOSS = {"DPO": "sigmoid", "IPO": "ipo"}


def rows(gathered: Gathered, _training: Training, _limit: int) -> Rows:
    """A row for each pair."""
    pairs = gathered.pairs
    columns = {
        "prompt_ids": [pair.prompt for pair in pairs],
        "chosen_ids": [pair.chosen for pair in pairs],
        "rejected_ids": [pair.rejected for pair in pairs],
    }
    recorded = {index: pair.log_probs for index, pair in enumerate(pairs) if pair.log_probs is not None}
    return Rows(
        columns,
        [2 * pair.length for pair in pairs],
        gathered.counts(),
        recorded=recorded,
        origins=gathered.origins,
    )


def config(training: Training, **settings: Any) -> DPOConfig:
    return DPOConfig(
        beta=train_config.beta(training),
        loss_type=_LOSS[training.method],
        max_length=None,  # what is longer was dropped; a completion is never cut
        disable_dropout=False,  # done already, and the adapters' own stays
        precompute_ref_log_probs=True,
        **settings,
    )


class PairTrainer(ResumableTrainer, DPOTrainer):  # type: ignore[misc]
    """Trains `model` on pairs; `reference` None is the model as it is now (with LoRA: adapters off).

    The reference's log-probabilities are there before the first step, and the reference is let go: those that the
    pairs bring are taken, the others computed once. `log_probabilities` says how it went.
    """

    def __init__(
        self, model: Any, reference: Any | None, of: Rows, *, adapters: Any | None, **others: Any
    ) -> None:
        self._recorded = dict(of.recorded)
        self._lengths = of.lengths
        super().__init__(
            model, of, DataCollatorForPreference, ref_model=reference, peft_config=adapters, **others
        )
        self.let_go_of_reference()
        self._recorded.clear()

    def chosen_mask(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return inputs["completion_mask"].chunk(2)[0]

    def _precompute_ref_logps(self, dataset: Dataset, _name: str, batch_size: int) -> Dataset:
        self.log_probabilities = train_reference.log_probabilities(
            len(dataset),
            self._recorded,
            lambda some: self._reference_log_probs(dataset, some, batch_size),
            beta=self.args.beta,
            seed=self.args.seed,
        )
        chosen, rejected = (list(column) for column in zip(*self.log_probabilities.sums, strict=True))
        return dataset.add_column("ref_chosen_logps", chosen).add_column("ref_rejected_logps", rejected)

    def _reference_log_probs(
        self, dataset: Dataset, some: Sequence[int], batch_size: int
    ) -> Iterator[tuple[int, Tokens]]:
        with self.referring() as model:

            def score(batch: list[Row]) -> Iterable[Tokens]:
                inputs = self._prepare_inputs(self.data_collator(batch))
                chosen_first = self._token_log_probs(model, inputs)
                return zip(chosen_first[: len(batch)], chosen_first[len(batch) :], strict=True)

            processes = self.args.world_size
            yield from scored(dataset, some, self._lengths, score, batch_size, processes, self._progress)

    def _token_log_probs(self, model: Any, inputs: Mapping[str, torch.Tensor]) -> list[list[float]]:
        """By completion and token: TRL computes them, and gives the sums alone."""
        seen: list[torch.Tensor] = []

        def forward(**arguments: Any) -> Any:
            outputs = model(**arguments)
            seen.append(outputs.log_probs)
            return outputs

        self.compute_ref_log_probs(forward, inputs)
        mask = inputs["completion_mask"][:, 1:].bool()
        return [row[own].tolist() for row, own in zip(seen[0].float(), mask, strict=True)]
