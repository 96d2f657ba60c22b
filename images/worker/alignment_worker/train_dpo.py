"""Direct Preference Optimization (Rafailov et al. 2023, arXiv:2305.18290) and IPO (Azar et al. 2023, arXiv:2310.12036).

TRL's DPOTrainer on pairs that are tokens already. TRL 1.16 caches the reference's log-probabilities on disk
(`_precompute_ref_logps`), which is overridden here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from alignment_api.cycle import Training
from alignment_worker import models, train_config
from alignment_worker.train_columns import Row, Rows, with_reference
from alignment_worker.train_pairs import Gathered
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
    return Rows(columns, [2 * pair.length for pair in pairs], gathered.counts())


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

    The reference's log-probabilities are computed once, before the first step, and the reference is let go.
    """

    def __init__(
        self,
        model: Any,
        reference: Any | None,
        of: Rows,
        *,
        tokenizer: Any,
        adapters: Any | None,
        **others: Any,
    ) -> None:
        collator = DataCollatorForPreference(
            pad_token_id=models.pad_id(tokenizer, model.config.get_text_config().vocab_size)
        )
        super().__init__(
            model=model,
            ref_model=reference,
            train_dataset=Dataset.from_dict(of.columns),
            processing_class=tokenizer,
            data_collator=collator,
            peft_config=adapters,
            **others,
        )
        self.ref_model = None  # its log-probabilities are there

    def _precompute_ref_logps(self, dataset: Dataset, _name: str, batch_size: int) -> Dataset:
        def scored(batch: list[Row]) -> Sequence[list[float]]:
            inputs = self._prepare_inputs(self.data_collator(batch))
            both = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
            return [values.tolist() for values in both]

        names = ("ref_chosen_logps", "ref_rejected_logps")
        return with_reference(
            dataset, names, _length, scored, batch_size, self.args.world_size, self._progress
        )


def _length(row: Row) -> int:
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
