"""All gates of an iteration."""

from __future__ import annotations

from collections.abc import Mapping

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.gates import GateResult
from alignment_api.stage import Located, Stage, StageResult


def judge_all(
    spec: AlignmentCycleSpec,
    results: Mapping[Stage, StageResult],
    inputs: Mapping[str, str],
    candidate: Located,
) -> tuple[GateResult, ...]:
    """What each gate of the spec says of the candidate, in the order of `Gate`.

    `results`: of the iteration's finished stages, evaluate among them, and compare if the spec compares.
    `inputs`: digests by role, as `status.iteration.inputs` has them; judge and comparisonJudge are looked at.
    """
    raise NotImplementedError
