"""How good an answer is, by a small model that reads it with its prompt.

Of a sequence classifier the probability that it is good: with one label σ(logit), with two the softmax of the one that
means good. Of a causal language model the mean log-probability of the answer's tokens given the prompt, in nats: what
the model would not have said is unlikely (Yuan et al. 2021, arXiv:2106.11520, use that as a measure of text).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import torch

from alignment_worker import models, prompts, rows
from alignment_worker.failures import InvalidConfigError, InvalidModelError, InvalidRowError
from alignment_worker.logprobs import log_probs
from alignment_worker.padding import Padding
from alignment_worker.rows import Prompt

ROLE = "filter"
_BATCH = 32
_GOOD = ("good", "correct", "factual", "consistent", "supported", "faithful", "acceptable", "label_1")
_BAD = ("bad", "incorrect", "hallucinated", "hallucination", "inconsistent", "unsupported", "label_0")
Answered = tuple[Prompt, str]
Encoded = dict[str, list[int]]


class Scorer(Protocol):
    """The higher the better."""

    def scores(self, answered: Sequence[Answered]) -> list[float | None]:
        """None of what the model cannot read: too long, or refused by its chat template. Raises InvalidModelError."""
        ...


def scorer(folder: Path, flag_below: float) -> Scorer:
    """Raises InvalidModelError, and InvalidConfigError for a limit that this kind of model has no scores about."""
    made: Scorer = Classifier(folder) if models.classifies(ROLE, folder) else LanguageModel(folder)
    where = f"spec.curation.filter.flagBelow: {flag_below:g}"
    if isinstance(made, Classifier) and not 0 <= flag_below <= 1:
        raise InvalidConfigError(
            f"{where}: {folder} is a classifier, whose scores are probabilities; give 0 to 1"
        )
    if isinstance(made, LanguageModel) and flag_below > 0:
        raise InvalidConfigError(
            f"{where}: {folder} is a language model, whose scores are log-probabilities a token, in nats, and never "
            "above 0; give -3, for example"
        )
    return made


class Classifier:
    """Reads prompt and answer as one text by the chat template, as a reward model does; without one as two texts."""

    def __init__(self, folder: Path) -> None:
        """Raises InvalidModelError."""
        loaded = models.load_classifier(ROLE, folder, labels=(1, 2))
        self._model, self._tokenizer, self._embeddings = loaded.model, loaded.tokenizer, loaded.embeddings
        self._good = _good_label(folder, self._model.config)
        longest = self._tokenizer.model_max_length
        self._longest = min(loaded.max_positions or longest, longest)
        self._padding = Padding(self._model)

    def scores(self, answered: Sequence[Answered]) -> list[float | None]:
        encoded = [self._encode(*each) for each in answered]
        return _spread(encoded, self._scores([each for each in encoded if each is not None]))

    def _scores(self, encoded: Sequence[Encoded]) -> list[float]:
        order = sorted(range(len(encoded)), key=lambda place: len(encoded[place]["input_ids"]))
        found = [0.0] * len(encoded)
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            for place, score in zip(places, self._batch([encoded[each] for each in places]), strict=True):
                found[place] = score
        return found

    def _batch(self, some: Sequence[Encoded]) -> list[float]:
        pad = self._padding.id_for([each["input_ids"] for each in some])
        longest = max(len(each["input_ids"]) for each in some)
        batch = {
            name: torch.tensor(
                [[*each[name], *[fill] * (longest - len(each[name]))] for each in some],
                device=self._model.device,
            )
            for name, fill in (("input_ids", pad), ("attention_mask", 0), ("token_type_ids", 0))
            if name in some[0]
        }
        with torch.inference_mode():
            logits = self._model(**batch).logits.float()
        if not bool(logits.isfinite().all()):
            raise InvalidModelError(f"{ROLE}: the model gives scores that are not finite")
        good = logits.sigmoid() if self._good is None else logits.softmax(dim=1)
        scores: list[float] = good[:, self._good or 0].tolist()
        return scores

    def _encode(self, prompt: Prompt, answer: str) -> Encoded | None:
        try:
            if self._tokenizer.chat_template:
                ids = prompts.encode_answered(self._tokenizer, prompt, answer)
                encoded = {"input_ids": ids, "attention_mask": [1] * len(ids)}
            else:
                encoded = dict(self._tokenizer(rows.said(prompt), answer))
        except InvalidRowError:
            return None
        ids = encoded["input_ids"]
        if not ids or len(ids) > self._longest:
            return None
        prompts.check_embeddings(f"{ROLE}: an answer", self._tokenizer, ids, self._embeddings)
        return encoded


class LanguageModel:
    """A causal language model; of a chat through its template."""

    def __init__(self, folder: Path) -> None:
        """Raises InvalidModelError."""
        self._policy = models.load_policy(ROLE, folder)

    def scores(self, answered: Sequence[Answered]) -> list[float | None]:
        encoded = [self._encode(*each) for each in answered]
        read = [each for each in encoded if each is not None]
        values = log_probs(self._policy, [prompt for prompt, _ in read], [answer for _, answer in read])
        means = [fmean(each) for each in values]
        if not all(map(isfinite, means)):
            raise InvalidModelError(f"{ROLE}: the model gives scores that are not finite")
        return _spread(encoded, means)

    def _encode(self, prompt: Prompt, answer: str) -> tuple[list[int], list[int]] | None:
        tokenizer = self._policy.tokenizer
        try:
            asked = prompts.encode(tokenizer, prompt)
        except InvalidRowError:
            return None
        said = prompts.encode_completion(tokenizer, answer, eos=False)
        longest = self._policy.max_positions
        if not asked or not said or (longest is not None and len(asked) + len(said) > longest):
            return None
        prompts.check_embeddings(f"{ROLE}: an answer", tokenizer, [*asked, *said], self._policy.vocabulary)
        return asked, said


def _good_label(folder: Path, config: Any) -> int | None:
    """None for a model with one label."""
    if config.num_labels == 1:
        return None
    names = [str(config.id2label[place]).lower() for place in range(2)]
    good = {place for place in range(2) if names[place] in _GOOD or names[1 - place] in _BAD}
    if len(good) != 1:
        raise InvalidModelError(
            f"{ROLE}: {folder} has the labels {names[0]!r} and {names[1]!r}, and nobody says which of them is a good "
            'answer\'s; name them "bad" and "good" in `id2label` of its config.json'
        )
    return good.pop()


def _spread(encoded: Sequence[object | None], scores: Sequence[float]) -> list[float | None]:
    left: Iterator[float] = iter(scores)
    return [None if each is None else next(left) for each in encoded]
