"""TRL's RewardTrainer on pairs that are tokens already: −log σ(r(chosen) − r(rejected)), the negative log-likelihood of
Bradley and Terry (1952), as in Ouyang et al. 2022 ([arXiv:2203.02155](https://arxiv.org/abs/2203.02155), equation 1).
"""

from __future__ import annotations

from typing import Any

from trl import RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from alignment_worker import models
from alignment_worker.train_columns import Rows
from alignment_worker.train_trainer import REMEDY, ResumableTrainer


class RewardModelTrainer(ResumableTrainer, RewardTrainer):  # type: ignore[misc]
    """Trains `model`, a sequence classifier with one label, on pairs."""

    remedy = REMEDY.replace("training", "reward")

    def __init__(self, model: Any, of: Rows, *, tokenizer: Any, **others: Any) -> None:
        pad = models.pad_id(tokenizer, model.config.get_text_config().vocab_size)
        # TRL asks for one, and gives the model its id.
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
        super().__init__(model, of, DataCollatorForPreference, tokenizer=tokenizer, **others)
