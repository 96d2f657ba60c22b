"""Whether the judge of the comparison is another one than the judge that the candidate was trained by."""

from __future__ import annotations

from collections.abc import Mapping

from alignment_api.cycle import AlignmentCycleSpec


def independent(spec: AlignmentCycleSpec, inputs: Mapping[str, str]) -> bool:
    """DESIGN §6, winRate. `inputs`: digests by role; two reward models whose digests are not known count as one."""
    training = spec.judge
    comparing = spec.evaluation.comparison.judge if spec.evaluation.comparison else None
    if training is None:
        return True  # trained on pairs that no judge here made
    if comparing is None:
        return False
    if comparing.llm is not None and training.llm is not None:
        return (comparing.llm.base_url, comparing.llm.model) != (training.llm.base_url, training.llm.model)
    if comparing.verifier is not None and training.verifier is not None:
        return False
    if comparing.reward_model is None or training.reward_model is None:
        return True
    digests = inputs.get("judge"), inputs.get("comparisonJudge")
    return None not in digests and digests[0] != digests[1]
