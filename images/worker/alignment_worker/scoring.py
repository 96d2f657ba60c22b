"""What a judge says of an answer: a reward model's score, or a verifier's 1 for right and 0 for wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from alignment_api.judges import ComparisonJudge
from alignment_worker import graders, models, prompts
from alignment_worker.failures import InvalidModelError, InvalidRowError
from alignment_worker.models import ScoringModel
from alignment_worker.padding import Padding
from alignment_worker.progress import Progress
from alignment_worker.rows import Prompt
from alignment_worker.workspace import Workspace


@dataclass(frozen=True)
class Question:
    """An answer to be scored. `where` names the prompt's file and line for error messages."""

    where: str
    prompt: Prompt
    text: str
    answer: str | None = None
    grader: str | None = None


class Scorer(Protocol):
    """Scores do not depend on the order or the company in which answers are scored, up to rounding."""

    def scores(self, questions: Sequence[Question], progress: Progress | None = None) -> list[float]:
        """The higher is preferred. Raises InvalidRowError, InvalidModelError."""
        ...


def scorer(workspace: Workspace, judge: ComparisonJudge, role: str) -> Scorer:
    """`role` names the input with the reward model, where there is one. Raises InvalidModelError."""
    if judge.reward_model is None:
        return Verifier(python=workspace.config.python_grader is not None)
    return RewardModel(role, workspace.inputs.path(role), judge.reward_model.batch_size)


@dataclass(frozen=True)
class Verifier:
    """Right or wrong, by the prompt's own grader. `python`: whether that may run what the model wrote."""

    python: bool = False

    def scores(self, questions: Sequence[Question], progress: Progress | None = None) -> list[float]:
        asked = []
        for question in questions:
            if question.answer is None or question.grader is None:
                raise InvalidRowError(
                    f"{question.where}: `answer` and `grader` are missing, and the judge is a verifier; add them, or "
                    "name a reward model as judge"
                )
            asked.append((question.grader, question.answer, question.text))
        right = graders.all_right(asked, python=self.python)
        if progress is not None:
            progress.count("judgements", len(right))
            progress.advance(len(right))
        return [float(each) for each in right]


def encode(tokenizer: Any, question: Question) -> list[int]:
    """What a reward model reads of it. Raises InvalidRowError, InvalidModelError."""
    try:
        return prompts.encode_answered(tokenizer, question.prompt, question.text)
    except InvalidRowError as error:
        raise InvalidRowError(f"{question.where}: {error}") from error


class RewardModel:
    """A sequence classifier with one label, reading prompt and answer as one text."""

    def __init__(self, role: str, folder: Path, batch_size: int) -> None:
        self.folder = folder
        self._role = role
        self._batch_size = batch_size
        self._judge: ScoringModel = models.load_reward_model(role, folder)
        self._padding = Padding(self._judge.model)

    def scores(self, questions: Sequence[Question], progress: Progress | None = None) -> list[float]:
        encoded = [self._encode(question) for question in questions]
        # Each distinct one once: by rounding, a batch moves scores, and equal answers would not tie.
        times = Counter(encoded)
        order = sorted(times, key=len, reverse=True)
        found: dict[tuple[int, ...], float] = {}
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            found.update(zip(batch, self._score(batch), strict=True))
            if progress is not None:
                scored = sum(times[ids] for ids in batch)
                progress.count("judgements", scored)
                progress.advance(scored)
        return [found[ids] for ids in encoded]

    def reads(self, question: Question) -> bool:
        """Whether it is short enough for the model, and its template takes it."""
        try:
            self._encode(question)
        except (InvalidRowError, InvalidModelError):
            return False
        return True

    def _encode(self, question: Question) -> tuple[int, ...]:
        ids = encode(self._judge.tokenizer, question)
        limit = self._judge.max_positions
        if limit is not None and len(ids) > limit:
            raise InvalidModelError(
                f"{self._role}: the reward model reads {limit} tokens, but the prompt at {question.where} and an "
                f"answer to it have {len(ids)}; shorten the prompt, lower maxNewTokens, or name a model that reads more"
            )
        where = f"{self._role}: the prompt at {question.where}, or an answer to it,"
        prompts.check_embeddings(where, self._judge.tokenizer, ids, self._judge.embeddings)
        return tuple(ids)

    def _score(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        """Padded on the right, as classifiers are trained."""
        import torch  # noqa: PLC0415 - a verifier needs none

        model: Any = self._judge.model
        pad = self._padding.id_for(sequences)
        longest = max(map(len, sequences))
        ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in sequences], device=model.device)
        mask = torch.tensor(
            [[1] * len(row) + [0] * (longest - len(row)) for row in sequences], device=model.device
        )
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask).logits[:, 0].float()
        if not bool(logits.isfinite().all()):
            raise InvalidModelError(f"{self._role}: the reward model gives scores that are not finite")
        scores: list[float] = logits.tolist()
        return scores
