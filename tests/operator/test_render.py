"""Manifests of Jobs, ControllerRevisions and targets."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_api import cycle_status, digests, names
from alignment_api.cycle import ConfigMapTarget, PythonGrader
from alignment_api.cycle_status import DatasetRevision
from alignment_api.judges import SecretKey
from alignment_api.pods import PodDefaults
from alignment_api.signature import Signature
from alignment_api.stage import (
    CollectParameters,
    IngestParameters,
    Input,
    InputKind,
    KeptRevisions,
    Located,
    PromoteParameters,
    SampleParameters,
    Stage,
    StageConfig,
)
from alignment_operator.api import Manifest
from alignment_operator.observed import Frozen
from alignment_operator.planned import PointTarget, StartJob
from alignment_operator.render import parse_revision, render_job, render_revision, render_target
from tests.api.manifests import PUBLIC_KEY
from tests.operator.edges import EVIDENCE, SETTINGS, owner, stage_config
from tests.operator.plan_world import cycle_spec

SIGNATURE = Signature(private_key_secret_ref=SecretKey(name="signing", key="a.pem"), public_keys=[PUBLIC_KEY])
GOLDEN = Path(__file__).with_name("rendered_job.yaml")


def rendered(config: StageConfig | None = None, attempt: int = 0, **pods: Any) -> Manifest:
    start = StartJob(
        "support-3-sample-0-abcdef", "f" * 64, config or stage_config(), attempt, PodDefaults(**pods)
    )
    return render_job(owner(), start, SETTINGS)


def pod_of(job: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    return spec


def worker_of(job: Manifest) -> dict[str, Any]:
    (worker,) = pod_of(job)["containers"]
    assert worker["name"] == "worker"
    return dict(worker)


def mounts_of(job: Manifest) -> dict[str, dict[str, Any]]:
    return {mount["mountPath"]: mount for mount in worker_of(job)["volumeMounts"]}


def test_the_whole_job_reads_as_documented() -> None:
    """After a wanted change: `python -m tests.operator.test_render`, and read the diff."""
    assert rendered() == yaml.safe_load(GOLDEN.read_text())


def test_the_pod_carries_the_config_that_the_worker_reads() -> None:
    annotations = rendered()["spec"]["template"]["metadata"]["annotations"]
    text = annotations[names.ANNOTATION_STAGE_CONFIG]
    assert StageConfig.from_wire(json.loads(text)) == stage_config()


def test_the_hash_is_on_the_job_where_adoption_looks_for_it() -> None:
    assert rendered()["metadata"]["annotations"] == {names.ANNOTATION_STAGE_HASH: "f" * 64}


def test_a_claim_that_is_read_and_written_is_one_volume_with_two_mounts() -> None:
    job = rendered()
    claims = [volume for volume in pod_of(job)["volumes"] if "persistentVolumeClaim" in volume]
    assert sorted(volume["persistentVolumeClaim"]["claimName"] for volume in claims) == ["data", "store"]
    mounts = mounts_of(job)
    assert mounts["/alignment/claims/store"]["readOnly"]
    assert mounts["/alignment/claims/data"]["readOnly"]
    output = mounts["/alignment/output"]
    assert output["subPath"] == "cycles/team/support/uid-1/iterations/3/sample"
    assert "readOnly" not in output
    assert output["name"] == mounts["/alignment/claims/store"]["name"]


def test_every_mounted_claim_is_named_to_the_worker() -> None:
    args = worker_of(rendered())["args"]
    claims = [value for flag, value in itertools.pairwise(args) if flag == "--claim"]
    assert claims == ["data=/alignment/claims/data", "store=/alignment/claims/store"]
    assert args[args.index("--output") + 1] == "/alignment/output"


def test_files_of_the_image_need_no_mount() -> None:
    files = {"policy": Input(uri="file:///opt/models/m0", kind=InputKind.MODEL)}
    mounts = mounts_of(rendered(stage_config(inputs=files, output="file:///opt/out")))
    assert sorted(mounts) == ["/alignment/config", "/tmp"]


def test_folders_that_collect_will_delete_in_are_made_by_a_mount_of_their_own_from_the_top() -> None:
    """kubelet leaves the folders above a subPath to root, and `collect` is not root."""
    mounts = list(mounts_of(rendered()).values())
    made = [mount["subPath"] for mount in mounts if "subPath" in mount]
    root = "cycles/team/support/uid-1/iterations"
    assert made == [root, f"{root}/3", f"{root}/3/sample"]
    assert [mount.get("readOnly", False) for mount in mounts if "subPath" in mount] == [True, True, False]


def test_only_promote_writes_beside_its_folder_and_only_the_ledger() -> None:
    writable = {
        path for path, mount in mounts_of(rendered(promote_config())).items() if not mount.get("readOnly")
    }
    ledger = "/alignment/claims/store/cycles/team/support/uid-1/ledger"
    assert writable == {"/tmp", "/alignment/output", ledger}


def test_the_signing_key_is_a_file_that_promote_alone_can_read() -> None:
    job = rendered(promote_config(signature=SIGNATURE))
    (volume,) = [each for each in pod_of(job)["volumes"] if "secret" in each]
    assert volume["secret"] == {
        "secretName": "signing",
        "items": [{"key": "a.pem", "path": "key.pem"}],
        "defaultMode": 0o440,
    }
    (folder,) = [path for path, mount in mounts_of(job).items() if mount["name"] == volume["name"]]
    assert mounts_of(job)[folder]["readOnly"]
    words = worker_of(job)["args"]
    assert words[words.index("--signing-key") + 1] == f"{folder}/key.pem"
    for other in (rendered(stage_config(signature=SIGNATURE)), rendered(promote_config())):
        assert all("secret" not in each for each in pod_of(other)["volumes"])
        assert "--signing-key" not in worker_of(other)["args"]


def test_what_signs_may_write_to_what_it_signs() -> None:
    mounts = mounts_of(rendered(promote_config(signature=SIGNATURE)))
    assert not mounts["/alignment/claims/store/candidate"].get("readOnly")
    assert mounts["/alignment/claims/store"]["readOnly"]


def promote_config(**changes: Any) -> StageConfig:
    return stage_config(
        **changes,
        stage=Stage.PROMOTE,
        parameters=PromoteParameters(
            evidence=EVIDENCE,
            evidence_digest=EVIDENCE.candidate_digest,
            cycle_prefix="pvc://store/cycles/team/support/uid-1",
        ),
        inputs={
            "candidate": Input(
                uri="pvc://store/candidate", kind=InputKind.MODEL, digest=EVIDENCE.candidate_digest
            )
        },
    )


def test_disruptions_are_forgiven_before_exit_codes_are_looked_at() -> None:
    rules = rendered()["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob"]
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert rules[1]["onExitCodes"]["containerName"] == "worker"
    assert rules[1]["onExitCodes"]["values"] == list(range(63, 80))


def test_a_job_has_no_ttl_before_its_result_is_in_status() -> None:
    assert "ttlSecondsAfterFinished" not in rendered(ttl_seconds_after_finished=5)["spec"]


def test_deadlines_and_retries_are_the_pod_settings() -> None:
    spec = rendered(retries=0, active_deadline_seconds=60)["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (0, 60)


def test_the_pod_is_restricted_whoever_it_runs_as() -> None:
    job = rendered(pod_security_context={"runAsUser": 1000})
    context = pod_of(job)["securityContext"]
    assert (context["runAsUser"], context["fsGroup"], context["runAsNonRoot"]) == (1000, 65532, True)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert worker_of(job)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod_of(job)["automountServiceAccountToken"] is False


def test_pod_settings_reach_the_pod() -> None:
    job = rendered(
        image="registry/worker@sha256:1",
        service_account_name="trainer",
        priority_class_name="batch",
        node_selector={"gpu": "a100"},
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        image_pull_secrets=[{"name": "registry"}],
        resources={"limits": {"nvidia.com/gpu": "1"}},
        shared_memory="8Gi",
        env=[{"name": "HF_HUB_OFFLINE", "value": "1"}],
    )
    pod = pod_of(job)
    assert (pod["serviceAccountName"], pod["priorityClassName"]) == ("trainer", "batch")
    assert pod["nodeSelector"] == {"gpu": "a100"}
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    worker = worker_of(job)
    assert worker["image"] == "registry/worker@sha256:1"
    assert worker["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in worker["env"]
    memory = next(volume for volume in pod["volumes"] if volume["name"] == mounts_of(job)["/dev/shm"]["name"])
    assert memory["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}


def served(policy: str = "pvc://store/m0", server: dict[str, Any] | None = None, **pods: Any) -> Manifest:
    parameters = {"sampling": {"server": {"image": "vllm/vllm-openai:v0.33.0"} | (server or {})}}
    inputs = stage_config().inputs | {"policy": Input(uri=policy, kind=InputKind.MODEL)}
    return rendered(stage_config(parameters=SampleParameters.from_wire(parameters), inputs=inputs), **pods)


def server_of(job: Manifest) -> dict[str, Any]:
    (server,) = pod_of(job)["initContainers"]
    return dict(server)


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def test_a_server_is_a_sidecar_that_the_worker_waits_for() -> None:
    server = server_of(served())
    assert (server["name"], server["image"]) == ("server", "vllm/vllm-openai:v0.33.0")
    assert server["restartPolicy"] == "Always"
    probe = server["startupProbe"]
    assert probe["httpGet"] == {"path": "/v1/models", "port": 8000}
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 3600
    assert server["securityContext"] == worker_of(served())["securityContext"]


def test_a_server_listens_where_kubelet_probes_and_the_worker_asks() -> None:
    job = served()
    server, worker = environment(server_of(job)), environment(worker_of(job))
    assert (server["HOST"], server["PORT"]) == ("$(ALIGNMENT_POD_IP)", "8000")
    assert worker["ALIGNMENT_SERVER_ADDRESS"] == "$(ALIGNMENT_POD_IP):8000"
    assert server_of(job)["env"][0] == worker_of(job)["env"][0], (
        "a variable must come before those that name it"
    )


@pytest.mark.parametrize(
    ("policy", "folder"),
    [("pvc://store/m0", "/alignment/claims/store/m0"), ("file:///opt/models/m0", "/opt/models/m0")],
)
def test_a_server_reads_the_policy_and_no_other_claim(policy: str, folder: str) -> None:
    server = server_of(served(policy))
    assert environment(server)["MODEL"] == folder
    claims = [mount for mount in server["volumeMounts"] if "/claims/" in mount["mountPath"]]
    assert [mount["mountPath"] for mount in claims] == (
        ["/alignment/claims/store"] if policy[0] == "p" else []
    )
    assert all(mount["readOnly"] for mount in claims)


def test_a_servers_scratch_is_its_own_and_shared_memory_is_the_pods() -> None:
    job = served(shared_memory="8Gi")
    theirs = {mount["mountPath"]: mount["name"] for mount in server_of(job)["volumeMounts"]}
    assert theirs["/dev/shm"] == mounts_of(job)["/dev/shm"]["name"]
    assert theirs["/tmp"] != mounts_of(job)["/tmp"]["name"]
    volumes = [volume["name"] for volume in pod_of(job)["volumes"]]
    assert set(theirs.values()) <= set(volumes)
    assert len(volumes) == len(set(volumes))


def test_a_servers_arguments_come_behind_those_that_vllm_needs() -> None:
    ours = ["$(MODEL)", "--served-model-name", "policy", "--host", "$(HOST)", "--port", "$(PORT)"]
    arguments = server_of(served(server={"args": ["--max-model-len", "4096"]}))["args"]
    assert arguments == [*ours, "--generation-config", "vllm", "--max-model-len", "4096"]


def test_a_server_that_takes_the_model_otherwise_gets_the_users_arguments_alone() -> None:
    arguments = ["serve", "--model-path=$(MODEL)", "--port=$(PORT)"]
    assert server_of(served(server={"args": arguments}))["args"] == arguments


def test_the_accelerator_is_the_servers() -> None:
    gpu = {"limits": {"nvidia.com/gpu": "1", "memory": "8Gi"}}
    job = served(server={"resources": gpu}, resources=gpu)
    assert server_of(job)["resources"] == gpu
    assert worker_of(job)["resources"] == {"limits": {"memory": "8Gi"}}


def test_a_servers_variables_are_the_users_but_for_where_it_is() -> None:
    given = [{"name": "HOME", "value": "/scratch"}, {"name": "PORT", "value": "1"}]
    env = environment(server_of(served(server={"env": given})))
    assert (env["HOME"], env["PORT"]) == ("/scratch", "8000")


def test_no_other_stage_has_a_server() -> None:
    assert "initContainers" not in pod_of(rendered(promote_config()))


def test_the_users_variable_replaces_ours_and_is_not_given_twice() -> None:
    env = worker_of(rendered(env=[{"name": "HOME", "value": "/scratch"}]))["env"]
    assert [entry for entry in env if entry["name"] == "HOME"] == [{"name": "HOME", "value": "/scratch"}]


def test_no_pod_label_of_the_user_hides_one_of_ours() -> None:
    job = rendered(pod_labels={names.LABEL_STAGE: "forged", "team": "a"}, pod_annotations={"note": "b"})
    template = job["spec"]["template"]["metadata"]
    assert template["labels"][names.LABEL_STAGE] == "sample"
    assert template["labels"]["team"] == "a"
    assert template["annotations"]["note"] == "b"


PREFIX = "pvc://store/datasets/team/support/uid-1"
COLLECT_REVISIONS = stage_config(
    stage=Stage.COLLECT,
    inputs={},
    output=f"{PREFIX}/collected/2-20261123T030000Z",
    parameters=CollectParameters(revisions=KeptRevisions(dataset_prefix=PREFIX, kept=[], newest=1)),
)


@pytest.mark.parametrize(
    ("config", "writable", "read_only"),
    [
        (COLLECT_REVISIONS, {"revisions", "collected", "collected/2-20261123T030000Z"}, set()),
        (
            stage_config(
                stage=Stage.INGEST,
                inputs={},
                output=f"{PREFIX}/revisions/2-20261123T030000Z",
                parameters=IngestParameters(sources=[]),
            ),
            {"revisions/2-20261123T030000Z"},
            {"revisions"},
        ),
    ],
)
def test_of_a_dataset_a_refresh_sees_all_revisions_and_collect_alone_can_delete_them(
    config: StageConfig, writable: set[str], read_only: set[str]
) -> None:
    folder = PREFIX.removeprefix("pvc://store/") + "/"
    mounts = [each for each in worker_of(rendered(config))["volumeMounts"] if "subPath" in each]
    found = {each["subPath"].removeprefix(folder): each.get("readOnly", False) for each in mounts}
    assert found == dict.fromkeys(writable, False) | dict.fromkeys(read_only, True)
    inside = {each["mountPath"] for each in mounts if each["mountPath"] != "/alignment/output"}
    assert inside == {
        f"/alignment/claims/store/{folder}{name}" for name in (writable | read_only) if "/" not in name
    }


@pytest.mark.parametrize(
    "config",
    [stage_config(stage=Stage.INGEST, parameters=IngestParameters(sources=[])), COLLECT_REVISIONS],
)
def test_the_jobs_of_a_dataset_belong_to_it(config: StageConfig) -> None:
    metadata = rendered(config)["metadata"]
    assert metadata["ownerReferences"][0]["kind"] == "PreferenceDataset"
    assert metadata["labels"][names.LABEL_DATASET] == "support"
    assert names.LABEL_CYCLE not in metadata["labels"]


def frozen(**changes: Any) -> Frozen:
    digest = digests.of_bytes(b"m1")
    fields: dict[str, Any] = {
        "name": "support-2",
        "number": 2,
        "trigger": "Schedule",
        "slot": "2026-11-23T03:00:00Z",
        "started_at": "2026-11-23T03:00:01Z",
        "handled_run": "2026-11-23",
        "generation": 4,
        "spec": cycle_spec(),
        "incumbent": Located(uri="pvc://models/m1", digest=digest),
        "datasets": (
            DatasetRevision(name="feedback", revision=3, uri="pvc://models/r3", digest=digest, pairs=9),
        ),
        "contract_version": 1,
        "tested": cycle_status.Tested(candidates=1, passed=1, alpha_spent_percent=2.5),
    }
    return Frozen(**fields | changes)


@pytest.mark.parametrize(
    "changes", [{}, {"incumbent": None, "datasets": ()}, {"handled_run": ""}, {"tested": None}]
)
def test_what_is_frozen_is_read_back_as_it_was(changes: dict[str, Any]) -> None:
    manifest = json.loads(json.dumps(render_revision(owner(), frozen(**changes))))
    assert parse_revision(manifest) == frozen(**changes)
    assert manifest["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


def test_what_another_version_froze_is_an_error_and_no_guess() -> None:
    manifest = render_revision(owner(), frozen())
    manifest["data"]["spec"]["training"]["method"] = "GRPO"
    with pytest.raises(ValueError, match="method"):
        parse_revision(manifest)


def test_a_target_gets_all_keys_of_the_cycle_and_outlives_it() -> None:
    point = PointTarget("served", "uri", "pvc://models/m1", digests.of_bytes(b"m1"))
    same = [
        ConfigMapTarget(name="served", key="uri"),
        ConfigMapTarget(name="served", key="model", digest_key="digest"),
    ]
    target = render_target(owner(), point, same)
    assert target["data"] == {"uri": point.uri, "model": point.uri, "digest": point.digest}
    assert target["metadata"]["annotations"][names.ANNOTATION_OWNER] == "team/support/uid-1"
    assert "ownerReferences" not in target["metadata"]


def grading(resources: dict[str, Any] | None = None, **pods: Any) -> Manifest:
    grader = PythonGrader.from_wire({"resources": resources} if resources else {})
    return rendered(stage_config(python_grader=grader), **pods)


def grader_of(job: Manifest) -> dict[str, Any]:
    (grader,) = pod_of(job)["initContainers"]
    return dict(grader)


def test_model_written_code_runs_in_a_sidecar_that_has_nothing() -> None:
    job = grading(env=[{"name": "HF_TOKEN", "value": "s3cret"}], image="mine/worker:1", shared_memory="1Gi")
    grader = grader_of(job)
    assert (grader["name"], grader["restartPolicy"]) == ("grader", "Always")
    assert grader["image"] == worker_of(job)["image"] == "mine/worker:1"
    assert "env" not in grader
    assert "envFrom" not in grader
    assert [mount["mountPath"] for mount in grader["volumeMounts"]] == ["/alignment/grader"]
    (volume,) = [volume for volume in pod_of(job)["volumes"] if volume["name"] == "grader"]
    assert volume == {"name": "grader", "emptyDir": {"sizeLimit": "1Mi"}}
    assert grader["securityContext"] == worker_of(job)["securityContext"] | {"runAsUser": 65533}
    assert pod_of(job)["automountServiceAccountToken"] is False
    assert "shareProcessNamespace" not in pod_of(job)


def test_the_grader_is_never_the_workers_user() -> None:
    job = grading(pod_security_context={"runAsUser": 65533})
    assert grader_of(job)["securityContext"]["runAsUser"] == 65534


def test_a_worker_finds_the_grader_and_no_variable_of_the_user_hides_it() -> None:
    job = grading(env=[{"name": "ALIGNMENT_GRADER_SOCKET", "value": ""}])
    assert environment(worker_of(job))["ALIGNMENT_GRADER_SOCKET"] == "/alignment/grader/socket"
    assert grader_of(job)["args"] == ["--socket", "/alignment/grader/socket"]
    assert mounts_of(job)["/alignment/grader"]["readOnly"]


def test_a_graders_resources_are_the_users_or_enough_for_one_program() -> None:
    assert grader_of(grading())["resources"]["limits"] == {
        "cpu": "1",
        "memory": "1Gi",
        "ephemeral-storage": "16Mi",
    }
    ours = {"limits": {"cpu": "4", "memory": "4Gi"}}
    assert grader_of(grading(ours))["resources"] == ours


def test_a_stage_that_runs_no_code_has_no_grader() -> None:
    assert "initContainers" not in pod_of(rendered())
    assert "/alignment/grader" not in mounts_of(rendered())


if __name__ == "__main__":
    GOLDEN.write_text(yaml.safe_dump(rendered(), sort_keys=False))
