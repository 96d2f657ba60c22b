"""Texts as vectors: the mean over the tokens of a model's last layer, of length 1.

Reimers and Gurevych 2019, arXiv:1908.10084, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from alignment_worker import models
from alignment_worker.failures import InvalidModelError
from alignment_worker.progress import Progress

ROLE = "embedding"
_BATCH = 64


class Embedder:
    """A model and its tokenizer, from a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises InvalidModelError."""
        loaded = models.load_embedding_model(ROLE, folder)
        self._tokenizer, self._model = loaded.tokenizer, loaded.model
        if self._tokenizer.pad_token_id is None:
            raise InvalidModelError(f"{ROLE}: the tokenizer has no padding token; name another model")
        longest = self._tokenizer.model_max_length
        self._longest = min(loaded.max_positions or longest, longest)
        self.dimensions: int = self._model.config.get_text_config().hidden_size

    def of(self, texts: Sequence[str], progress: Progress | None = None) -> torch.Tensor:
        """Texts × dimensions, float32 on the CPU; of a text what the model reads of it. Raises InvalidModelError."""
        return self.measured(texts, progress)[0]

    def measured(
        self, texts: Sequence[str], progress: Progress | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, and of each text whether it is shorter than what the model reads; zeros of an empty one."""
        found, whole = torch.zeros(len(texts), self.dimensions), torch.ones(len(texts), dtype=torch.bool)
        order = sorted(
            (index for index, text in enumerate(texts) if text), key=lambda index: len(texts[index])
        )
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            read = self._tokenizer(
                [texts[place] for place in places],
                padding=True,
                truncation=True,
                max_length=self._longest,
                return_tensors="pt",
            ).to(self._model.device)
            with torch.inference_mode():
                states = self._model(**read).last_hidden_state.float()
            mask = read["attention_mask"].unsqueeze(-1)
            whole[places] = (read["attention_mask"].sum(dim=1) < self._longest).cpu()
            mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            if not bool(mean.isfinite().all()):
                raise InvalidModelError(
                    f"{ROLE}: the model gives vectors that are not finite; name another model"
                )
            found[places] = torch.nn.functional.normalize(mean, dim=1).cpu()
            if progress is not None:
                progress.advance(len(places))
        return found, whole
