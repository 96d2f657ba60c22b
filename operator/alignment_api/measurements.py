"""Measurements: what the worker reports and the gates judge, and the names that both use."""

from __future__ import annotations

from pydantic import Field

from alignment_api.model import Model


class Measurement(Model):
    """A number with its interval and sample size.

    `estimate` is null when it could not be computed (NaN, or nothing to measure): gates call that Error.
    `low` and `high` bound a two-sided interval at the iteration's confidence, except where the measurement's
    name says otherwise below.
    """

    estimate: float | None = Field(None, description="The estimate; null if it could not be computed.")
    low: float | None = Field(None, description="Lower end of the interval.")
    high: float | None = Field(None, description="Upper end of the interval.")
    n: int = Field(ge=0, le=2**53, description="Sample size.")
    p: float | None = Field(None, ge=0, le=1, description="One-sided p-value of harm, where it is tested.")
    discordant: float | None = Field(None, ge=0, le=1, description="Share of items whose outcome changed.")
    lower_bound: float | None = Field(
        None, description="One-sided lower bound, where non-inferiority is tested."
    )


def accuracy_before(after: float, change: Measurement) -> float:
    """In percent, of the items of which `change` is. Both figures come rounded; of n items it is a whole number."""
    assert change.estimate is not None
    before = after - change.estimate
    whole = 100 * round(before * change.n / 100) / change.n
    return whole if abs(whole - before) < 0.1 else before


# Of the gate contamination: how many are left out of training, of `n` that would be in it.
LEAKED_PROMPTS = "leakedPrompts"
LEAKED_ROWS = "leakedRows"  # of datasets
NEAR_PROMPTS = "nearPrompts"  # of those that are not: how many resemble one, by embeddings
NEAR_ROWS = "nearRows"

# Keys of StageResult.measurements. Changes are candidate minus incumbent; `…FromInitial` is against M_0.
MEAN_TOKENS = "meanTokens"  # tokens a completion, EOS counted
SCORE_SPREAD = "scoreSpread"  # within-prompt standard deviation of the judge's scores
SCORE_LENGTH_SLOPE = "scoreLengthSlope"  # the judge's score a token, within prompts, before any penalty
TRAIN_LOSS = "trainLoss"  # of the method, mean over the last tenth of the steps
REWARD_MARGIN = "rewardMargin"  # implicit reward, chosen minus rejected, mean over the last tenth
# The reference's log-probabilities as recorded while sampling against computed ones, on a draw of pairs:
REFERENCE_DIFFERENCE = "referenceDifference"  # nats a token, mean of the absolute differences
REFERENCE_REWARD_DIFFERENCE = "referenceRewardDifference"  # β times a completion's, 99th percentile
START_REWARD = (
    "startReward"  # PPO: the judge's score of a completion, mean over the first tenth of the batches
)
TRAIN_REWARD = "trainReward"  # the same over the last tenth
TRAIN_KL = "trainKL"  # PPO: nats a token from the reference, on own samples, mean over the last tenth

# Of a reward model, on one pair of each prompt that it was not trained on. Equal scores count as wrong.
HELD_OUT_ACCURACY = (
    "heldOutAccuracy"  # percent, of the pairs that the stage reward held out; the interval is exact
)
HELD_OUT_MARGIN = "heldOutMargin"  # mean score of the chosen minus that of the rejected answer
BRIER_SCORE = "brierScore"  # mean (1 − σ(margin))²; 0.25 is a coin's
OVERCONFIDENCE = (
    "overconfidence"  # percentage points: mean of max(σ(margin), 1 − σ(margin)) minus the accuracy
)
LENGTH_CORRELATION = "lengthCorrelation"  # Spearman's, of score and tokens over the held-out answers
# Percent of the newest pairs that it has not seen, of which a judge prefers the chosen answer. Of an LLM that answer's
# share of the win in both orders, a tie being half, with Student's t interval; of a reward model the interval is exact.
JUDGE_ACCURACY = "judgeAccuracy"
COMPARISON_JUDGE_ACCURACY = "comparisonJudgeAccuracy"
# Both, and ORDER_AGREEMENT, also stand in by_category, where rows name their category.

# Of an LLM judge, from its own judgements: pairs of different answers, in both orders.
ORDER_AGREEMENT = "orderAgreement"  # percent of pairs with the same preference in both orders; exact interval
FIRST_PREFERRED = "firstPreferred"  # percent of preferences for what was shown first; 50 has no position bias
LONGER_PREFERRED = "longerPreferred"  # percent of decided pairs that the longer answer won; exact interval

GOLD_POOLED = "goldPooled"  # change of accuracy over all items, percentage points
LENGTH_RATIO = "lengthRatio"  # sum of the candidate's tokens over sum of the incumbent's, EOS counted
LENGTH_RATIO_FROM_INITIAL = "lengthRatioFromInitial"
TRUNCATED_SHARE = "truncatedShare"  # percent of the candidate's held-out answers that hit maxNewTokens
TRUNCATED_CHANGE = "truncatedChange"  # percentage points
CANDIDATE_TOKENS = "candidateTokens"  # mean tokens of a held-out answer
INCUMBENT_TOKENS = "incumbentTokens"
CANDIDATE_ENTROPY = "candidateEntropy"  # nats a token, on own answers
INCUMBENT_ENTROPY = "incumbentEntropy"
DISTINCT2_DROP = "distinct2Drop"  # relative drop of distinct-2 across prompts, percent; positive is worse
DISTINCT2_DROP_FROM_INITIAL = "distinct2DropFromInitial"
IDENTICAL_CHANGE = "identicalChange"  # share of answers that equal another prompt's, change in points
PROMPT_DEPENDENCE_CHANGE = "promptDependenceChange"  # nats an answer, candidate minus incumbent
PROMPT_DEPENDENCE_CHANGE_FROM_INITIAL = "promptDependenceChangeFromInitial"

# Full-vocabulary KL(candidate ‖ …) on the candidate's own answers at temperature 1, nats a token:
DIVERGENCE = "divergence"  # from the incumbent
DIVERGENCE_FROM_INITIAL = "divergenceFromInitial"

WIN_RATE = (
    "winRate"  # percent, by the comparison judge; low and high are an anytime-valid confidence sequence
)
WIN_RATE_NOT_LONGER = "winRateNotLonger"  # the same, where the candidate's answer is at most a fifth longer
WIN_RATE_LENGTH_CONTROLLED = (
    "winRateLengthControlled"  # what winRate would be at equal length; decides nothing
)
WIN_RATE_EVIDENCE = (
    "winRateEvidence"  # natural logarithm of the smaller e-value of both win rates, against minPercent
)
WIN_RATE_EVIDENCE_NEEDED = "winRateEvidenceNeeded"  # the same of what it takes
NEW_PHRASE = (
    "newPhrase"  # points by which the share of answers with some phrase rose, of all phrases the most
)
REWARD_WIN_RATE = "rewardWinRate"  # percent, by the training judge

# Keys of StageResult.by_category[CATEGORY].
GOLD = "gold"  # change of accuracy, percentage points; p, discordant and lower_bound are set
GOLD_FROM_INITIAL = "goldFromInitial"
GOLD_ACCURACY = "goldAccuracy"  # the candidate's accuracy, percent
# LENGTH_RATIO and LENGTH_RATIO_FROM_INITIAL also stand here, by category of the held-out prompts.
