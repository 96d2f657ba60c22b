"""The win rate that would be if both answers were equally long, by AlpacaEval 2's model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy import special

from alignment_api.measurements import Measurement
from alignment_worker.statistics.confidence import check_confidence
from alignment_worker.statistics.resampling import MIN_ITEMS, check_paired


def win_rate(won: Sequence[float], longer: Sequence[int], confidence: float) -> Measurement:
    """Percent, at equal length. `won`: the candidate's share of each comparison, from 0 to 1; `longer`: its answer's
    tokens less those of the incumbent's.

    Dubois et al. 2024, arXiv:2404.04475, equation 2, without its term for a prompt's difficulty, which takes many
    models to estimate: logit P(win) = θ + φ·tanh(Δ / sd(Δ)), and at Δ = 0 it is σ(θ). θ's interval is by the sandwich
    estimator. Null where lengths, or one of the two models, decide every comparison. Raises ValueError.
    """
    from statsmodels.genmod.families import Binomial  # noqa: PLC0415 - a second, and only for this
    from statsmodels.genmod.generalized_linear_model import GLM  # noqa: PLC0415
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning  # noqa: PLC0415

    check_confidence(confidence)
    check_paired(won, longer)
    share, delta = np.asarray(won, dtype=np.float64), np.asarray(longer, dtype=np.float64)
    count = len(share)
    if count < MIN_ITEMS or set(share) in ({0.0}, {1.0}):
        return Measurement(estimate=None, n=count)
    spread = delta.std()
    columns = [np.ones(count)] + ([np.tanh(delta / spread)] if spread else [])
    with warnings.catch_warnings():
        warnings.simplefilter("error", PerfectSeparationWarning)
        warnings.simplefilter("error", RuntimeWarning)
        try:
            fitted = GLM(share, np.column_stack(columns), family=Binomial()).fit(cov_type="HC1")
        except (PerfectSeparationWarning, RuntimeWarning, np.linalg.LinAlgError):
            return Measurement(estimate=None, n=count)
    low, high = fitted.conf_int(alpha=1 - confidence)[0]
    estimate, low, high = (100 * float(special.expit(value)) for value in (fitted.params[0], low, high))
    return Measurement(estimate=estimate, low=low, high=high, n=count)
