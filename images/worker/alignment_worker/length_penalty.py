"""What length costs a score: `spec.judge.lengthPenalty`.

A score is never divided by tokens: where scores can be negative, that rewards the length of bad answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alignment_api.cycle import LengthPenalty
from alignment_api.measurements import Measurement
from alignment_worker.statistics.confidence import check_confidence
from alignment_worker.statistics.resampling import bootstrap_interval

Scores = Sequence[Sequence[float]]


def applied(
    samples: Sequence[dict[str, Any]], scores: Scores, penalty: LengthPenalty | None
) -> list[list[float]]:
    """By prompt and completion: the score less what its tokens (EOS counted) cost.

    Linear: coefficient × tokens. Residual: what `slope` estimates × the tokens above the prompt's mean, where that is
    above 0: a penalty never pays for length.
    """
    if penalty is None or penalty.type == "None":
        return [list(values) for values in scores]
    if penalty.type == "Linear":
        assert penalty.coefficient is not None
        return _less(samples, scores, penalty.coefficient, centred=False)
    moments = _moments(samples, scores)
    return _less(samples, scores, max(0.0, _ratio(*moments.T)), centred=True)


def slope(samples: Sequence[dict[str, Any]], scores: Scores, confidence: float, seed: int) -> Measurement:
    """Score a token, within prompts: least squares with a level for each prompt (so that long questions, whose
    answers are long, do not count), and the bootstrap's interval by prompt. Null where all lengths are the same.
    """
    check_confidence(confidence)
    moments = _moments(samples, scores)
    moments = moments[moments[:, 1] > 0]
    if not len(moments):
        return Measurement(estimate=None, n=0)
    together, squares = moments.T
    estimate = _ratio(together, squares)
    low, high = bootstrap_interval(
        [together, squares], _ratio_along, together - estimate * squares, confidence, seed
    )
    return Measurement(estimate=estimate, low=low, high=high, n=len(moments))


def _moments(samples: Sequence[dict[str, Any]], scores: Scores) -> NDArray[np.float64]:
    """Of each prompt Σ (score − mean)(tokens − mean) and Σ (tokens − mean)²."""
    found = []
    for row, values in zip(samples, scores, strict=True):
        tokens, score = _tokens(row), np.asarray(values, dtype=np.float64)
        longer = tokens - tokens.mean()
        found.append((float(longer @ (score - score.mean())), float(longer @ longer)))
    return np.asarray(found, dtype=np.float64)


def _ratio(together: NDArray[np.float64], squares: NDArray[np.float64]) -> float:
    below = float(squares.sum())
    return float(together.sum()) / below if below else 0.0


def _ratio_along(together: NDArray[np.float64], squares: NDArray[np.float64], axis: int = -1) -> Any:
    return together.sum(axis=axis) / squares.sum(axis=axis)


def _less(
    samples: Sequence[dict[str, Any]], scores: Scores, coefficient: float, *, centred: bool
) -> list[list[float]]:
    found = []
    for row, values in zip(samples, scores, strict=True):
        tokens = _tokens(row)
        cost = coefficient * (tokens - tokens.mean() if centred else tokens)
        found.append((np.asarray(values, dtype=np.float64) - cost).tolist())
    return found


def _tokens(row: dict[str, Any]) -> NDArray[np.float64]:
    return np.asarray([len(answer["ids"]) for answer in row["completions"]], dtype=np.float64)
