"""Best of N, or rejection sampling: supervised fine-tuning on the best answers, by TRL's SFTTrainer.

As in RAFT (Dong et al. 2023, arXiv:2304.06767). The loss is the mean negative log-probability of a step's answer
tokens; prompt tokens are no labels.
"""

from __future__ import annotations

from typing import Any

from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from alignment_api.cycle import Training
from alignment_worker.failures import TooFewPairsError
from alignment_worker.train_columns import Rows
from alignment_worker.train_pairs import LEAST, Gathered
from alignment_worker.train_trainer import ResumableTrainer

_NO_LABEL = -100


def rows(gathered: Gathered, _training: Training, _limit: int) -> Rows:
    """Each answer to a prompt once. Raises TooFewPairsError."""
    answers = list({(tuple(pair.prompt), tuple(pair.chosen)): pair for pair in gathered.pairs}.values())
    if len(answers) < LEAST:
        raise TooFewPairsError(
            f"BestOfN: of {len(gathered.pairs)} best answers {len(answers)} is left, for they are the same. Give "
            "more prompts or pairs."
        )
    columns = {
        "input_ids": [answer.prompt + answer.chosen for answer in answers],
        "labels": [[_NO_LABEL] * len(answer.prompt) + answer.chosen for answer in answers],
    }
    counts = gathered.counts("answers") | {"droppedTwice": len(gathered.pairs) - len(answers)}
    return Rows(columns, [answer.length for answer in answers], counts, origins=gathered.origins)


def config(_training: Training, **settings: Any) -> SFTConfig:
    return SFTConfig(max_length=None, **settings)  # what is longer was dropped; an answer is never cut


class AnswerTrainer(ResumableTrainer, SFTTrainer):  # type: ignore[misc]
    """Trains `model` on answers; there is no reference."""

    def __init__(
        self, model: Any, _reference: None, of: Rows, *, adapters: Any | None, **others: Any
    ) -> None:
        super().__init__(model, of, DataCollatorForLanguageModeling, peft_config=adapters, **others)
