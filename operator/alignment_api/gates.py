"""Gates as status, evidence and report show them. How each is judged is in `alignment_operator.gates`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from alignment_api.measurements import Measurement
from alignment_api.model import Model


class Gate(StrEnum):
    """One check of the candidate on measurements."""

    CONTAMINATION = "contamination"
    GOLD_SET = "goldSet"
    LENGTH_DRIFT = "lengthDrift"
    COLLAPSE = "collapse"
    DIVERGENCE = "divergence"
    WIN_RATE = "winRate"
    REWARD_HACKING = "rewardHacking"


class Verdict(StrEnum):
    """Failed, Inconclusive and Error are three things."""

    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"


class GateReason(StrEnum):
    """Why a gate did not pass; the reason of an iteration that it refused."""

    CONTAMINATED = "Contaminated"
    GOLD_REGRESSION = "GoldRegression"
    GOLD_SET_TOO_SMALL = "GoldSetTooSmall"
    GOLD_UNDECIDED = "GoldUndecided"
    GOLD_NOT_SHOWN_NON_INFERIOR = "GoldNotShownNonInferior"
    LENGTH_DRIFT = "LengthDrift"
    LENGTH_UNDECIDED = "LengthUndecided"
    LENGTH_TRUNCATED = "LengthTruncated"
    COLLAPSE = "Collapse"
    COLLAPSE_UNDECIDED = "CollapseUndecided"
    DIVERGED = "Diverged"
    DIVERGENCE_UNDECIDED = "DivergenceUndecided"
    NO_CHANGE = "NoChange"
    NOT_PREFERRED = "NotPreferred"
    WIN_RATE_UNDECIDED = "WinRateUndecided"
    JUDGE_NOT_INDEPENDENT = "JudgeNotIndependent"
    JUDGE_MAY_BE_SWAYED = "JudgeMayBeSwayed"
    REWARD_HACKING = "RewardHacking"
    REWARD_HACKING_UNDECIDED = "RewardHackingUndecided"
    MEASUREMENT_MISSING = "MeasurementMissing"
    WRONG_CANDIDATE = "WrongCandidate"
    TOO_LITTLE_WORK = "TooLittleWork"


class GateResult(Model):
    """What one gate says of the candidate."""

    name: Gate = Field(description="The gate.")
    verdict: Verdict = Field(description="Passed, Failed, Inconclusive or Error.")
    reason: GateReason | None = Field(None, description="Why it did not pass.")
    measurements: dict[Annotated[str, StringConstraints(max_length=256)], Measurement] = Field(
        {}, max_length=128, description="What it looked at."
    )
    limit: float | None = Field(None, description="What it compared with, in the measurement's unit.")
    message: str = Field(max_length=1024, description="The verdict in a sentence, with its numbers.")
    warnings: list[Annotated[str, StringConstraints(max_length=1024)]] = Field(
        [], max_length=8, description="What deserves a look though it decides nothing."
    )
