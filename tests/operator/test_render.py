"""Manifests of Jobs, ControllerRevisions and targets."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_api import digests, names
from alignment_api.cycle_status import DatasetRevision
from alignment_api.pods import PodDefaults
from alignment_api.stage import (
    IngestParameters,
    Input,
    InputKind,
    Located,
    PromoteParameters,
    Stage,
    StageConfig,
)
from alignment_operator.api import Manifest
from alignment_operator.observed import Frozen
from alignment_operator.planned import PointTarget, StartJob
from alignment_operator.render import parse_revision, render_job, render_revision, render_target
from tests.operator.edges import EVIDENCE, SETTINGS, owner, stage_config
from tests.operator.plan_world import cycle_spec

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
    mounts = mounts_of(rendered(stage_config(inputs=files)))
    assert sorted(mounts) == ["/alignment/config", "/alignment/output", "/tmp"]


def test_only_promote_writes_beside_its_folder_and_only_the_ledger() -> None:
    writable = {
        path for path, mount in mounts_of(rendered(promote_config())).items() if not mount.get("readOnly")
    }
    ledger = "/alignment/claims/store/cycles/team/support/uid-1/ledger"
    assert writable == {"/tmp", "/alignment/output", ledger}


def promote_config() -> StageConfig:
    return stage_config(
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


def test_the_users_variable_replaces_ours_and_is_not_given_twice() -> None:
    env = worker_of(rendered(env=[{"name": "HOME", "value": "/scratch"}]))["env"]
    assert [entry for entry in env if entry["name"] == "HOME"] == [{"name": "HOME", "value": "/scratch"}]


def test_no_pod_label_of_the_user_hides_one_of_ours() -> None:
    job = rendered(pod_labels={names.LABEL_STAGE: "forged", "team": "a"}, pod_annotations={"note": "b"})
    template = job["spec"]["template"]["metadata"]
    assert template["labels"][names.LABEL_STAGE] == "sample"
    assert template["labels"]["team"] == "a"
    assert template["annotations"]["note"] == "b"


def test_an_ingest_belongs_to_the_dataset() -> None:
    config = stage_config(stage=Stage.INGEST, parameters=IngestParameters())
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
    }
    return Frozen(**fields | changes)


@pytest.mark.parametrize("changes", [{}, {"incumbent": None, "datasets": ()}, {"handled_run": ""}])
def test_what_is_frozen_is_read_back_as_it_was(changes: dict[str, Any]) -> None:
    manifest = json.loads(json.dumps(render_revision(owner(), frozen(**changes))))
    assert parse_revision(manifest) == frozen(**changes)
    assert manifest["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


def test_what_another_version_froze_is_an_error_and_no_guess() -> None:
    manifest = render_revision(owner(), frozen())
    manifest["data"]["spec"]["training"]["method"] = "PPO"
    with pytest.raises(ValueError, match="method"):
        parse_revision(manifest)


def test_a_target_gets_all_keys_of_the_cycle_and_outlives_it() -> None:
    point = PointTarget("served", "uri", "pvc://models/m1", digests.of_bytes(b"m1"))
    target = render_target(owner(), point, ["uri", "model"])
    assert target["data"] == {"uri": "pvc://models/m1", "model": "pvc://models/m1"}
    assert target["metadata"]["annotations"][names.ANNOTATION_OWNER] == "team/support/uid-1"
    assert "ownerReferences" not in target["metadata"]


if __name__ == "__main__":
    GOLDEN.write_text(yaml.safe_dump(rendered(), sort_keys=False))
