"""The Job of an A/A run on a cluster: what its pod gets, and that the operator leaves it alone."""

from __future__ import annotations

from typing import Any

from alignment_api import names
from alignment_api.noise import NoiseConfig
from alignment_api.stage import Located, Stage
from alignment_operator.observed import Owner
from alignment_operator.plan.noise import Noise
from alignment_operator.render.noise import OUTPUT, render_noise
from tests.operator.plan_world import cycle_spec

OWNER = Owner("team", "support", "uid-1", 1, "1", {})
INCUMBENT = Located(uri="pvc://models/m7", digest="sha256:" + "7" * 64)
EVALUATION = cycle_spec().evaluation.to_wire()
LLM = {"baseURL": "https://judge.example.com/v1", "model": "large", "rubric": "Be kind."}


def rendered(**changes: Any) -> dict[str, Any]:
    noise = Noise(OWNER, cycle_spec(**changes), INCUMBENT, None, OUTPUT, 7)
    pods = noise.pods.model_copy(update={"image": noise.pods.image or "worker:1"})
    return render_noise(OWNER, "support-noise-abc", noise.configs, pods)


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    return spec


def worker_of(job: dict[str, Any]) -> dict[str, Any]:
    (worker,) = pod_of(job)["containers"]
    return dict(worker)


def configs_of(job: dict[str, Any]) -> NoiseConfig:
    text = job["spec"]["template"]["metadata"]["annotations"][names.ANNOTATION_STAGE_CONFIG]
    return NoiseConfig.model_validate_json(text)


def test_both_stages_are_asked_of_one_pod_and_the_second_finds_what_the_first_makes() -> None:
    job = rendered()
    evaluate, compare = configs_of(job).stages
    assert (evaluate.stage, compare.stage) == (Stage.EVALUATE, Stage.COMPARE)
    assert evaluate.inputs["candidate"] == evaluate.inputs["policy"]
    assert compare.inputs["answers"].uri == evaluate.output
    assert compare.inputs["answers"].digest is None
    assert evaluate.seed == compare.seed == 7
    assert worker_of(job)["command"] == ["python", "-m", "alignment_worker.noise"]
    (alone,) = configs_of(rendered(evaluation={**EVALUATION, "comparison": None}, gates={})).stages
    assert alone.stage is Stage.EVALUATE


def test_it_reads_the_claims_of_both_stages_and_writes_to_its_own_pod_alone() -> None:
    job = rendered(judge={"rewardModel": {"uri": "pvc://judges/reward"}})
    worker = worker_of(job)
    mounts = {mount["mountPath"]: mount for mount in worker["volumeMounts"]}
    assert [path for path, mount in mounts.items() if not mount.get("readOnly")] == ["/tmp"]
    assert {"/alignment/claims/judges", "/alignment/claims/models"} < mounts.keys()
    assert worker["args"][2:] == [
        *("--claim", "judges=/alignment/claims/judges"),
        *("--claim", "models=/alignment/claims/models"),
    ]
    assert all(config.output.startswith("file:///tmp/") for config in configs_of(job).stages)


def test_the_operator_and_its_metrics_do_not_take_it_for_a_stage() -> None:
    job = rendered()
    ours = {names.LABEL_OWNER_UID, names.LABEL_STAGE, names.LABEL_CYCLE, names.LABEL_ITERATION}
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        assert not ours & set(metadata["labels"])
    assert "ports" not in worker_of(job)
    assert job["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


def test_it_is_made_once_and_goes_by_itself() -> None:
    job = rendered(
        stages={"evaluate": {"activeDeadlineSeconds": 600}}, defaults={"activeDeadlineSeconds": 60}
    )
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == 660
    assert job["spec"]["ttlSecondsAfterFinished"] == 600


def test_the_pod_is_as_those_of_the_stages_with_the_most_that_either_asks_for() -> None:
    job = rendered(
        defaults={"serviceAccountName": "trainer", "nodeSelector": {"disk": "near"}, "queueName": "team-a"},
        stages={
            "evaluate": {"resources": {"requests": {"cpu": "500m", "memory": "8Gi"}}},
            "compare": {
                "resources": {"requests": {"cpu": "2", "memory": "900Mi"}, "limits": {"nvidia.com/gpu": "1"}},
                "env": [{"name": "HTTPS_PROXY", "value": "http://proxy"}],
                "nodeSelector": {"gpu": "yes"},
            },
        },
    )
    pod, worker = pod_of(job), worker_of(job)
    requests = {"cpu": "2", "memory": "8Gi"}
    assert worker["resources"] == {"requests": requests, "limits": {"nvidia.com/gpu": "1"}}
    assert {"name": "HTTPS_PROXY", "value": "http://proxy"} in worker["env"]
    assert (pod["serviceAccountName"], pod["nodeSelector"]) == ("trainer", {"disk": "near", "gpu": "yes"})
    assert pod["automountServiceAccountToken"] is False
    assert job["metadata"]["labels"][names.LABEL_QUEUE] == "team-a"
    assert job["spec"]["suspend"] is True
    assert "resources" not in worker_of(rendered())


def test_a_judge_has_its_key_by_reference_and_code_its_grader() -> None:
    key = {"name": "judge-key", "key": "token"}
    judge = {"llm": {**LLM, "apiKeySecretRef": key}}
    job = rendered(evaluation={**EVALUATION, "comparison": {"judge": judge}, "pythonGrader": {}})
    assert key in [
        variable["valueFrom"]["secretKeyRef"]
        for variable in worker_of(job)["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    ]
    (grader,) = pod_of(job)["initContainers"]
    assert (grader["name"], grader["image"]) == ("grader", "worker:1")
    assert configs_of(job).stages[1].python_grader is None, "an LLM runs no code"
