"""What the stages of a cycle are given that samples on its datasets' prompts."""

from __future__ import annotations

from typing import Any

from alignment_api.stage import InputKind, SampleParameters, Stage, TrainParameters
from alignment_operator.cli.simulation import simulate_cycle
from alignment_operator.render.mounts import mounts_of

DATASET: dict[str, Any] = {
    "apiVersion": "alignment.dev/v1alpha1",
    "kind": "PreferenceDataset",
    "metadata": {"name": "production"},
    "spec": {
        "store": {"uri": "pvc://revisions/here"},
        "sources": [{"name": "log", "inferenceLog": {"uri": "pvc://log", "format": "OpenAI"}}],
    },
}


def cycle(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "alignment.dev/v1alpha1",
        "kind": "AlignmentCycle",
        "metadata": {"name": "support"},
        "spec": {
            "policy": {"model": "pvc://models/m0"},
            "store": {"uri": "pvc://models/cycles"},
            "prompts": {"fromDatasets": True, "perIteration": 8, "spread": "Clusters"},
            "datasets": [{"name": "production"}],
            "judge": {"rewardModel": {"uri": "pvc://models/reward"}},
            "evaluation": {
                "goldSet": {"uri": "pvc://models/gold.jsonl"},
                "heldOutPrompts": {"uri": "pvc://models/heldout.jsonl"},
            },
        }
        | spec,
    }


def test_the_first_stage_gets_the_frozen_revision_to_sample_on() -> None:
    simulated = simulate_cycle(cycle(), [DATASET])
    sample = simulated.jobs[0].config
    assert sample.stage is Stage.SAMPLE
    assert isinstance(sample.parameters, SampleParameters)
    assert (sample.parameters.per_iteration, sample.parameters.spread) == (8, "Clusters")
    assert "prompts" not in sample.inputs
    given = sample.inputs["prompts/production"]
    assert (given.kind, given.digest) == (InputKind.STAGE, simulated.frozen.datasets[0].digest)
    assert sample.expected is not None
    assert sample.expected.clusters is True
    mounts = [
        each for each in mounts_of(sample, None).mounts if each["mountPath"] == "/alignment/claims/revisions"
    ]
    assert [each["readOnly"] for each in mounts] == [True]


def test_only_stages_that_sample_get_the_prompts() -> None:
    for job in simulate_cycle(cycle(), [DATASET]).jobs[1:]:
        assert "prompts/production" not in job.config.inputs


def test_ppo_samples_on_them_too() -> None:
    ppo = {"method": "PPO", "maxLength": 64, "perDeviceBatchSize": 4, "gradientAccumulationSteps": 1}
    spec = cycle(training=ppo, sampling={"maxNewTokens": 8})
    train = simulate_cycle(spec, [DATASET]).jobs[0].config
    assert isinstance(train.parameters, TrainParameters)
    assert train.parameters.online is not None
    assert train.parameters.online.spread == "Clusters"
    assert "prompts/production" in train.inputs
