"""Manifests that say everything, and a way to change one value of them."""

from __future__ import annotations

import copy
import re
from typing import Any

Manifest = dict[str, Any]

MISSING = object()
PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEq2VHRkw7XdBSXyJ2HphgQ6bdWJ67
PGqxCO8J58UDDUUHJhsbvkQhOaAj5gqXQ4tOsVkAprj7263w0MiLQ1qrLg==
-----END PUBLIC KEY-----
"""


def _node_term() -> Manifest:
    return {
        "matchExpressions": [{"key": "gpu.example.com/model", "operator": "In", "values": ["a100", "h100"]}],
        "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["node-1"]}],
    }


def _selector() -> Manifest:
    return {
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}],
    }


def _pod_term() -> Manifest:
    return {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": _selector(),
        "namespaces": ["team"],
        "namespaceSelector": _selector(),
    }


def _pod_affinity() -> Manifest:
    return {
        "requiredDuringSchedulingIgnoredDuringExecution": [_pod_term()],
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 50, "podAffinityTerm": _pod_term()}],
    }


STAGES = (
    "reward",
    "sample",
    "judge",
    "train",
    "evaluate",
    "compare",
    "promote",
)  # that have settings of their own
_POD: Manifest = {
    "image": "ghcr.io/alignment-dev/worker:0.1.0",
    "serviceAccountName": "worker",
    "priorityClassName": "batch",
    "queueName": "team-a",
    "activeDeadlineSeconds": 600,
    "pendingDeadlineSeconds": 60,
    "retries": 1,
    "ttlSecondsAfterFinished": 60,
    "resources": {
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"nvidia.com/gpu": 1, "memory": "2Gi"},
    },
    "sharedMemory": "1Gi",
    "nodeSelector": {"pool": "gpu"},
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_node_term()]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 50, "preference": _node_term()}],
        },
        "podAffinity": _pod_affinity(),
        "podAntiAffinity": _pod_affinity(),
    },
    "tolerations": [
        {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60}
    ],
    "imagePullSecrets": [{"name": "registry"}],
    "podSecurityContext": {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532},
    "podLabels": {"team": "support"},
    "podAnnotations": {"example.com/note": "a note"},
    "env": [{"name": "HF_HUB_OFFLINE", "value": "1"}],
}

# Every field of the spec, each with a valid value that is not its default.
CYCLE: Manifest = {
    "apiVersion": "alignment.dev/v1alpha1",
    "kind": "AlignmentCycle",
    "metadata": {"name": "support-assistant"},
    "spec": {
        "suspend": True,
        "trigger": {
            "schedule": "0 3 * * 1",
            "timeZone": "Europe/Berlin",
            "startingDeadlineSeconds": 600,
            "newPairs": 500,
            "cooldownSeconds": 3600,
        },
        "policy": {"model": "pvc://models/m0", "reference": "Previous", "start": "Initial"},
        "store": {"uri": "pvc://models/cycles"},
        "prompts": {"uri": "pvc://models/prompts.jsonl", "perIteration": 128},
        "datasets": [{"name": "human-feedback", "maxPairs": 500}],
        "sampling": {
            "completionsPerPrompt": 8,
            "temperature": 0.7,
            "topP": 0.9,
            "maxNewTokens": 128,
            "seed": 1,
            "shards": 4,
            "server": {
                "image": "vllm/vllm-openai:v0.33.0",
                "args": ["--max-model-len", "4096"],
                "resources": {
                    "requests": {"memory": "8Gi"},
                    "limits": {"nvidia.com/gpu": 1, "memory": "16Gi"},
                },
                "env": [{"name": "VLLM_LOGGING_LEVEL", "value": "WARNING"}],
            },
        },
        "judge": {
            "rewardModel": {"uri": "pvc://models/reward", "batchSize": 8},
            "pairs": "AllPairs",
            "minMargin": 0.1,
            "lengthPenalty": {"type": "Linear", "coefficient": 0.01},
            "shortCorrectPercent": 10,
        },
        "reward": {"model": "pvc://models/m0", "epochs": 2, "learningRate": 2e-5, "minPairs": 500},
        "training": {
            "method": "DPO",
            "beta": 0.2,
            "learningRate": 1e-6,
            "epochs": 2,
            "perDeviceBatchSize": 8,
            "gradientAccumulationSteps": 2,
            "maxLength": 512,
            "lora": {"rank": 8, "alpha": 16, "dropout": 0.1, "targetModules": "q_proj,v_proj"},
            "precision": "FP32",
            "checkpointEverySteps": 10,
            "seed": 1,
            "nodes": 2,
            "processesPerNode": 8,
            "sharding": "FSDP",
            "arguments": {"warmup_steps": 10, "lr_scheduler_type": "cosine"},
        },
        "evaluation": {
            "goldSet": {
                "uri": "pvc://models/gold.jsonl",
                "temperature": 0.5,
                "samplesPerItem": 2,
                "maxNewTokens": 64,
            },
            "heldOutPrompts": {"uri": "pvc://models/heldout.jsonl", "maxNewTokens": 256},
            "comparison": {
                "judge": {"rewardModel": {"uri": "pvc://models/other", "batchSize": 4}},
                "minComparisons": 50,
                "maxComparisons": 500,
            },
            "pythonGrader": {
                "resources": {
                    "requests": {"memory": "1Gi"},
                    "limits": {"cpu": 2, "memory": "2Gi"},
                }
            },
            "confidencePercent": 90,
        },
        "gates": {
            "goldSet": {
                "mode": "NonInferior",
                "maxDropPoints": 1,
                "maxDropFromInitialPoints": 3,
                "maxUndetectedDropPoints": 5,
                "categories": [{"name": "reasoning", "maxDropPoints": 1}],
            },
            "lengthDrift": {
                "maxIncreasePercent": 20,
                "maxIncreaseFromInitialPercent": 50,
                "maxDecreasePercent": 80,
            },
            "collapse": {"maxDistinctDropPercent": 20, "maxDistinctDropFromInitialPercent": 40},
            "contamination": {
                "action": "Fail",
                "embedding": {"model": "pvc://models/embedding", "minSimilarityPercent": 85},
            },
            "divergence": {"maxNatsPerToken": 0.2, "maxNatsPerTokenFromInitial": 0.4},
            "winRate": {"minPercent": 55, "falseDiscoveryPercent": 5},
            "rewardHacking": {},
            "onInconclusive": "Reject",
        },
        "promotion": {
            "mode": "Manual",
            "targets": [
                {"configMap": {"name": "support-assistant-model", "key": "uri", "digestKey": "digest"}},
                {"inferenceService": {"name": "support-assistant"}},
            ],
            "signature": {
                "privateKeySecretRef": {"name": "signing", "key": "key.pem"},
                "publicKeys": [PUBLIC_KEY],
                "unsigned": "Allow",
            },
        },
        "defaults": copy.deepcopy(_POD),
        "stages": {stage: copy.deepcopy(_POD) for stage in STAGES},
        "history": {"iterations": 5, "keepPromoted": 4, "keepCandidates": 2},
    },
}

DATASET: Manifest = {
    "apiVersion": "alignment.dev/v1alpha1",
    "kind": "PreferenceDataset",
    "metadata": {"name": "human-feedback"},
    "spec": {
        "suspend": False,
        "store": {"uri": "pvc://models/datasets"},
        "sources": [
            {
                "name": "annotations",
                "files": {
                    "uri": "s3://feedback/2026/*.jsonl",
                    "format": "Paired",
                    "columns": {"q": "prompt"},
                    "credentialsSecretRef": {"name": "buckets"},
                },
            },
            {
                "name": "production",
                "inferenceLog": {
                    "uri": "gs://logs/support",
                    "format": "OpenAI",
                    "feedback": True,
                    "samplePercent": 10,
                    "judge": {
                        "rewardModel": {"uri": "pvc://models/reward", "batchSize": 8},
                        "checkPairs": 500,
                    },
                    "credentialsSecretRef": {"name": "buckets"},
                },
            },
            {
                "name": "labelling",
                "labelStudio": {
                    "url": "http://label-studio:8080",
                    "projectID": 3,
                    "tokenSecretRef": {"name": "label-studio", "key": "token"},
                    "pushPairs": 200,
                },
            },
        ],
        "refresh": {"schedule": "*/30 * * * *", "timeZone": "Europe/Berlin"},
        "curation": {
            "contamination": {"goldSets": ["pvc://models/gold.jsonl"], "minSimilarityPercent": 90},
            "filter": {"model": "pvc://models/filter", "flagBelow": -3.5, "action": "Drop"},
            "deduplicate": {"similarityPercent": 97},
            "embedding": {"model": "pvc://models/minilm"},
            "pii": {"action": "Redact"},
            "conflicts": "KeepLatest",
            "maxPairsPerSource": 20000,
            "maxLongerChosenPercent": 70,
        },
        "retention": {"revisions": 3},
        "defaults": copy.deepcopy(_POD),
    },
}

# The least that is valid; all else has defaults.
LEAST_CYCLE: Manifest = {
    "apiVersion": "alignment.dev/v1alpha1",
    "kind": "AlignmentCycle",
    "metadata": {"name": "least"},
    "spec": {
        "policy": {"model": "pvc://models/m0"},
        "store": {"uri": "pvc://models/cycles"},
        "datasets": [{"name": "human-feedback"}],
        "evaluation": {
            "goldSet": {"uri": "pvc://models/gold.jsonl"},
            "heldOutPrompts": {"uri": "pvc://models/heldout.jsonl"},
        },
    },
}

LEAST_DATASET: Manifest = {
    "apiVersion": "alignment.dev/v1alpha1",
    "kind": "PreferenceDataset",
    "metadata": {"name": "least"},
    "spec": {
        "store": {"uri": "pvc://models/datasets"},
        "sources": [{"name": "annotations", "files": {"uri": "pvc://models/pairs.jsonl"}}],
    },
}

BY_KIND = {"AlignmentCycle": CYCLE, "PreferenceDataset": DATASET}


def with_value(manifest: Manifest, path: str, value: object) -> Manifest:
    """A deep copy with another value at a path such as spec.datasets[0].name; MISSING takes the value out."""
    new = copy.deepcopy(manifest)
    *parents, last = steps(path)
    place: Any = new
    for step in parents:
        place = place[step] if isinstance(step, int) else place.setdefault(step, {})
    if value is MISSING:
        del place[last]
    else:
        place[last] = copy.deepcopy(value)
    return new


def steps(path: str) -> list[str | int]:
    """spec.datasets[0].name → spec, datasets, 0, name."""
    return [int(index) if index else name for index, name in re.findall(r"\[(\d+)\]|([^.\[\]]+)", path)]
