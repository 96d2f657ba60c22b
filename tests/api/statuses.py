"""Statuses in which every field is set."""

from __future__ import annotations

from alignment_api.cycle_status import AlignmentCycleStatus
from alignment_api.dataset import PreferenceDatasetStatus

_DIGEST = "sha256:" + "0123456789abcdef" * 4
_PREFIX = "pvc://models/cycles/alignment/support-assistant/0f8fad5b-d9cb-469f-a165-70867728950e/iterations/7"
_STARTED, _ENDED = "2026-11-23T03:00:00Z", "2026-11-23T05:12:09Z"

_MEASUREMENT = {
    "estimate": 2.5,
    "low": -1.125,
    "high": 6.0,
    "n": 200,
    "p": 1e-7,
    "discordant": 0.25,
    "lowerBound": -0.5,
}
_UNKNOWN = {"n": 0}  # its estimate could not be computed

_RESULT = {
    "manifest": {"uri": f"{_PREFIX}/evaluate", "digest": _DIGEST},
    "inputs": {"goldSet": _DIGEST, "dataset/human-feedback": _DIGEST},
    "model": {"uri": f"{_PREFIX}/train/run-0123abcd/model", "digest": _DIGEST},
    "counts": {"goldItems": 900, "heldOutPrompts": 300},
    "measurements": {"goldPooled": _MEASUREMENT, "promptDependenceChange": _UNKNOWN},
    "byCategory": {"reasoning": {"gold": _MEASUREMENT}, "short code": {"gold": _UNKNOWN}},
}

_STAGE = {
    "name": "evaluate",
    "state": "Succeeded",
    "job": "support-assistant-7-evaluate-1-c41f0e",
    "jobUID": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "attempt": 1,
    "disruptions": 1,
    "retries": 1,
    "failures": 1,
    "startedAt": _STARTED,
    "finishedAt": _ENDED,
    "retryAt": _STARTED,
    "pendingSince": _STARTED,
    "reason": "JobFailed",
    "message": "the first attempt: exit code 137",
    "progress": {"done": 512, "total": 900, "unit": "prompts", "secondsLeft": 61, "node": "gpu-1"},
    "result": _RESULT,
}

_PROMOTE = {
    "name": "promote",
    "state": "Running",
    "attempt": 0,
    "disruptions": 0,
    "retries": 0,
    "failures": 0,
}

_CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "Idle",
    "message": "iteration 7 was promoted",
    "observedGeneration": 3,
    "lastTransitionTime": _ENDED,
}

_PROMOTED = {
    "iteration": 7,
    "uri": f"{_PREFIX}/train/run-0123abcd/model",
    "digest": _DIGEST,
    "at": _ENDED,
    "evidenceDigest": _DIGEST,
    "rolledBack": True,
    "datasets": [{"name": "human-feedback", "pairs": 9362, "uri": "pvc://models/revisions/12"}],
}

_GATES = [
    {
        "name": "goldSet",
        "verdict": "Passed",
        "measurements": {"reasoning": _MEASUREMENT},
        "limit": -1.0,
        "message": "reasoning 62.0 → 64.5 %: no harm found",
        "warnings": ["short code has 20 items"],
    },
    {
        "name": "lengthDrift",
        "verdict": "Failed",
        "reason": "LengthDrift",
        "measurements": {},
        "message": "answers grew by 45 %",
        "warnings": [],
    },
]

CYCLE_STATUS = AlignmentCycleStatus.from_wire(
    {
        "observedGeneration": 3,
        "conditions": [_CONDITION, _CONDITION | {"type": "Promoted", "status": "Unknown"}],
        "initial": {"uri": "pvc://models/m0", "digest": _DIGEST},
        "handled": {"run": "2026-11-23T09:00Z"},
        "iteration": {
            "number": 7,
            "trigger": "NewPairs",
            "stage": "promote",
            "outcome": "Promoted",
            "reason": "AllGatesPassed",
            "message": "all gates passed",
            "generation": 3,
            "revision": "support-assistant-7",
            "startedAt": _STARTED,
            "finishedAt": _ENDED,
            "inputs": {"policy": _DIGEST},
            "datasets": [
                {
                    "name": "human-feedback",
                    "revision": 12,
                    "uri": "pvc://models/revisions/12",
                    "digest": _DIGEST,
                    "pairs": 9362,
                }
            ],
            "incumbent": {"uri": "pvc://models/m0", "digest": _DIGEST},
            "candidate": _RESULT["model"],
            "stages": [_STAGE, _PROMOTE],
            "gates": _GATES,
            "evidenceDigest": _DIGEST,
            "levelPercent": 0.4,
        },
        "iterations": 7,
        "targets": [
            {
                "name": "support-assistant-model",
                "key": "uri",
                "digest": _DIGEST,
                "takenBack": 2,
                "manager": "kubectl-edit",
            }
        ],
        "datasets": [{"name": "human-feedback", "newPairs": 112}],
        "tested": {"candidates": 7, "passed": 3, "alphaSpentPercent": 17.5},
        "nextRunAt": "2026-11-30T03:00:00Z",
        "promoted": _PROMOTED,
        "promotions": [_PROMOTED | {"iteration": 6}],
        "history": [
            {
                "number": 6,
                "outcome": "Rejected",
                "reason": "LengthDrift",
                "finishedAt": _ENDED,
                "candidateDigest": _DIGEST,
            }
        ],
        "collection": {"iteration": 7, "kept": [5, 6, 7], "stage": _STAGE | {"name": "collect"}},
    }
)

_REVISION = {
    "number": 12,
    "pairsEver": 9500,
    "unpairedEver": 120,
    "uri": "pvc://models/revisions/12",
    "digest": _DIGEST,
    "sequence": 9462,
    "at": _ENDED,
}

_AGREEMENT = {
    "estimate": 84.5,
    "low": 79,
    "high": 90,
    "n": 200,
    "p": 0.01,
    "discordant": 0.1,
    "lowerBound": 80,
}
DATASET_STATUS = PreferenceDatasetStatus.from_wire(
    {
        "observedGeneration": 1,
        "conditions": [_CONDITION],
        "handled": {"run": "2026-11-23T09:00Z"},
        "ingest": _STAGE | {"name": "ingest"},
        "ingestNumber": 12,
        "ingestGeneration": 1,
        "revision": _REVISION,
        "revisions": [_REVISION | {"number": 11, "sequence": 9300}],
        "nextRefreshAt": "2026-11-23T04:00:00Z",
        "rows": {
            "read": 10412,
            "invalid": 31,
            "duplicate": 204,
            "nearDuplicate": 40,
            "contaminated": 3,
            "conflicting": 12,
            "filtered": 40,
            "capped": 700,
            "pii": 6,
            "kept": 9462,
        },
        "statistics": {
            "longerChosenPercent": 58.5,
            "medianPromptCharacters": 160,
            "medianCompletionCharacters": 480,
            "bySource": {"annotations": 8000},
            "answers": 52000,
            "openPairs": 310,
            "pushed": 200,
            "byModel": {_DIGEST: 800},
            "longerChosenPercentBySource": {"annotations": 58.5},
            "longerChosenPercentByModel": {_DIGEST: 61.0},
            "nearGold": 7,
            "flagged": 12,
            "judges": [
                {
                    "source": "production",
                    "pairs": 120,
                    "agreement": _AGREEMENT,
                    "orderAgreement": _AGREEMENT,
                    "contested": 31,
                }
            ],
            "pii": {"Email": 5, "Phone": 2},
        },
        "pairs": 9362,
        "unpaired": 100,
        "collection": {
            "refresh": 12,
            "startedAt": _ENDED,
            "kept": ["11-20261123T033000Z", "12-20261124T033000Z"],
            "inUse": ["7-20261119T033000Z"],
            "stage": _STAGE | {"name": "collect"},
        },
        "prompts": 8400,
    }
)
