"""The evidence document of an iteration, from its status alone."""

from __future__ import annotations

from alignment_api.cycle_status import Iteration
from alignment_api.evidence import Evidence, EvidenceStage
from alignment_api.stage import Stage
from alignment_operator.observed import Frozen, Owner


def of(owner: Owner, frozen: Frozen, iteration: Iteration) -> Evidence:
    """The same before and after the stage `promote`, which seals it."""
    assert iteration.candidate is not None
    assert iteration.incumbent is not None
    return Evidence(
        namespace=owner.namespace,
        cycle=owner.name,
        cycle_uid=owner.uid,
        iteration=iteration.number,
        spec=frozen.spec.to_wire(),
        incumbent_digest=iteration.incumbent.digest,
        candidate_uri=iteration.candidate.uri,
        candidate_digest=iteration.candidate.digest,
        inputs=iteration.inputs,
        stages=[
            EvidenceStage(
                name=entry.name.value,
                manifest_digest=entry.result.manifest.digest,
                counts=entry.result.counts,
                measurements=entry.result.measurements,
                by_category=entry.result.by_category,
            )
            for entry in iteration.stages
            if entry.result and entry.name != Stage.PROMOTE
        ],
        gates=iteration.gates,
    )
