"""The chart as the README installs it, on a real control plane: the quickstart, who may what, the operator's rights."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import yaml

from tests.chart import audit
from tests.chart.charts import NAME, REPOSITORY, SYSTEM, Release
from tests.chart.conftest import restricted_namespace
from tests.chart.gang import CYCLES, Gang
from tests.cluster.api import Json
from tests.cluster.bed import Bed
from tests.cluster.client import Client, Namespace, has_condition
from tests.cluster.crds import serve
from tests.cluster.waiting import wait_until

SERVED = ("serving.kserve.io/v1beta1", "inferenceservices")
INFERENCE_SERVICES = REPOSITORY / "tests" / "operator" / "inference_service_crd.yaml"

EDITOR, APPROVER, VIEWER = "erin", "ada", "victor"
ROLLBACK = "alignment.dev/rollback=0@ticket-123"
APPROVAL = f"alignment.dev/approve=1@sha256:{'a' * 64}"

pytestmark = pytest.mark.timeout(1800)


def readme_lines() -> tuple[list[str], ...]:
    """The three commands of the README: helm installs the operator, kubectl applies the quickstart and waits for it."""
    lines = (REPOSITORY / "README.md").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("    helm install"))
    return tuple(shlex.split(line, comments=True) for line in lines[first : first + 3])


@pytest.fixture(scope="module")
def operator(release: Release) -> Release:
    (_, *install), *_ = readme_lines()
    said = release.put(install)
    assert "every namespace" in said
    assert f"helm test {NAME} --namespace {SYSTEM}" in said
    return release


@pytest.fixture(scope="module")
def team(client: Client, operator: Release) -> Namespace:
    """The quickstart runs here, and an InferenceService follows it too."""
    namespace = restricted_namespace(client, "team")
    _, (_, *apply), _ = readme_lines()
    namespace.kubectl(*(str(REPOSITORY / each) if each.startswith("examples") else each for each in apply))
    serve(client, INFERENCE_SERVICES)
    model = {"modelFormat": {"name": "huggingface"}, "storageUri": "pvc://quickstart-assets/policy"}
    namespace.apply(
        {
            "apiVersion": SERVED[0],
            "kind": "InferenceService",
            "metadata": {"name": "quickstart"},
            "spec": {"predictor": {"model": model}},
        }
    )
    targets = [
        {"configMap": {"name": "quickstart-model", "key": "uri"}},
        {"inferenceService": {"name": "quickstart"}},
    ]
    patch = json.dumps({"spec": {"promotion": {"targets": targets}}})
    namespace.kubectl("patch", "alignmentcycle", "quickstart", "--type=merge", "-p", patch)
    return namespace


@pytest.fixture(scope="module")
def promoted(team: Namespace) -> Json:
    """The quickstart's target, when it names the new model."""

    def is_promoted(seen: Json) -> bool:
        iteration = seen.get("status", {}).get("iteration", {})
        assert iteration.get("outcome") in {None, "Promoted"}, iteration["message"]
        return has_condition("Promoted")(seen)

    team.wait(*CYCLES, "quickstart", is_promoted, "it is promoted", 20 * 60.0)
    _, _, (_, *wait) = readme_lines()
    team.kubectl(*wait)
    return team.wait(
        "v1", "configmaps", "quickstart-model", lambda seen: seen["data"]["uri"], "it names a model"
    )


def cycle(name: str, annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    """The quickstart's, under another name; it starts nothing by itself."""
    manifest: Json = yaml.safe_load((REPOSITORY / "examples/quickstart/cycle.yaml").read_text())
    manifest["metadata"] = {"name": name, "annotations": annotations or {}}
    manifest["spec"] |= {"promotion": {}, **spec}
    return manifest


@pytest.fixture(scope="module")
def people(client: Client, operator: Release) -> Namespace:
    """A namespace with a cycle, and three people who have each one of the chart's roles there."""
    namespace = restricted_namespace(client, "people")
    for user, role in ((EDITOR, f"{NAME}-cycle-editor"), (APPROVER, f"{NAME}-approver"), (VIEWER, "view")):
        namespace.kubectl("create", "rolebinding", user, f"--clusterrole={role}", f"--user={user}")
    namespace.apply(cycle("support"))
    may = ["auth", "can-i", "--as", VIEWER, "list", "alignmentcycles"]
    wait_until(
        lambda: namespace.client.try_kubectl("-n", "people", *may).returncode == 0, "view is aggregated"
    )
    return namespace


def as_user(namespace: Namespace, user: str, *arguments: str, stdin: str | None = None) -> str:
    """What kubectl said to a user; empty if it did as it was told."""
    result = namespace.client.try_kubectl("-n", namespace.name, "--as", user, *arguments, stdin=stdin)
    return result.stderr if result.returncode else ""


def annotate(namespace: Namespace, user: str, annotation: str) -> str:
    return as_user(namespace, user, "annotate", "--overwrite", "alignmentcycle", "support", annotation)


def change_history(namespace: Namespace, user: str, iterations: int) -> str:
    patch = f'{{"spec": {{"history": {{"iterations": {iterations}}}}}}}'
    return as_user(namespace, user, "patch", "alignmentcycle", "support", "--type=merge", "-p", patch)


def test_the_operator_runs_where_only_restricted_pods_are_let_in(
    system: Namespace, operator: Release
) -> None:
    (pod,) = system.list("v1", "pods", "app.kubernetes.io/component=operator")
    assert has_condition("Ready")(pod)
    assert pod["spec"]["serviceAccountName"] == NAME


def test_helm_test_passes_and_leaves_nothing(system: Namespace, operator: Release) -> None:
    assert "Phase:          Succeeded" in operator.helm("test", NAME, "--namespace", SYSTEM)
    assert system.list("v1", "pods", "app.kubernetes.io/component=test") == []


def test_who_edits_cycles_does_not_approve(people: Namespace) -> None:
    refusal = annotate(people, EDITOR, APPROVAL)
    assert "metadata.annotations[alignment.dev/approve]: erin may not approve" in refusal
    assert "the verb approve on alignmentcycles in namespace people" in refusal
    refusal = annotate(people, EDITOR, ROLLBACK)
    assert "metadata.annotations[alignment.dev/rollback]: erin may not roll back" in refusal


def test_an_approval_does_not_slip_in_with_a_new_cycle(people: Namespace) -> None:
    key, _, value = APPROVAL.partition("=")
    manifest = yaml.safe_dump(cycle("new", {key: value}))
    assert "may not approve" in as_user(people, EDITOR, "create", "-f", "-", stdin=manifest)


def test_who_approves_does_not_edit(people: Namespace) -> None:
    assert "spec: ada may not change it" in change_history(people, APPROVER, 11)
    assert "cannot create" in as_user(
        people, APPROVER, "create", "-f", "-", stdin=yaml.safe_dump(cycle("new"))
    )


def test_an_approval_hinders_neither_editors_nor_the_operator(people: Namespace) -> None:
    assert annotate(people, APPROVER, APPROVAL) == ""
    assert annotate(people, APPROVER, ROLLBACK) == ""
    assert annotate(people, EDITOR, "alignment.dev/reject=1") == ""
    assert change_history(people, EDITOR, 12) == ""
    # The operator, which may not approve, wrote the status of a cycle that carries an approval.
    people.wait(*CYCLES, "support", up_to_date, "its change is observed")
    assert annotate(people, EDITOR, "alignment.dev/approve-") == ""


def up_to_date(seen: Json) -> bool:
    return bool(seen.get("status", {}).get("observedGeneration") == seen["metadata"]["generation"])


def test_who_looks_changes_nothing(people: Namespace) -> None:
    assert as_user(people, VIEWER, "get", "alignmentcycles,preferencedatasets") == ""
    assert "cannot patch" in annotate(people, VIEWER, "alignment.dev/run=1")


def test_edit_in_a_namespace_does_not_mean_cycles(people: Namespace) -> None:
    people.kubectl("create", "rolebinding", "eve", "--clusterrole=edit", "--user=eve")
    manifest = yaml.safe_dump(cycle("new"))
    assert "cannot create" in as_user(people, "eve", "create", "-f", "-", stdin=manifest)


@pytest.fixture(scope="module")
def limited(people: Namespace, team: Namespace, operator: Release) -> Callable[[Json], str]:
    """Tries to make an object, with lists of what pods may be; returns the refusal. The team's cycle is older."""
    people.apply(cycle("older", **OLDER))
    operator.upgrade(
        {
            "admission.allowedImages": ["ghcr.io/acme/*", "ghcr.io/other/worker:1"],
            "admission.allowedServiceAccounts": ["trainer"],
        }
    )

    def attempt(manifest: Json) -> str:
        result = people.client.try_kubectl(
            "-n", people.name, "create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(manifest)
        )
        return result.stderr if result.returncode else ""

    wait_until(lambda: attempt(cycle("limited")), "the lists are asked")
    return attempt


TRAINER = {"serviceAccountName": "trainer"}
OLDER: Json = {
    "defaults": {"image": "ghcr.io/old/worker:1"},
    "stages": {
        "train": {"image": "ghcr.io/acme/worker:7", "serviceAccountName": "root"},
        "judge": {"serviceAccountName": "root"},
    },
    "sampling": {"server": {"image": "ghcr.io/old/vllm:1"}},
}


@pytest.mark.parametrize(
    "spec",
    [
        {"defaults": TRAINER},
        {"defaults": {**TRAINER, "image": "ghcr.io/acme/worker:7"}},
        {"defaults": {**TRAINER, "image": "ghcr.io/alignment-dev/worker:0.1.0"}},
        {"defaults": TRAINER, "stages": {"train": {"image": "ghcr.io/other/worker:1"}}},
        {"defaults": TRAINER, "sampling": {"server": {"image": "ghcr.io/acme/vllm:1"}}},
    ],
    ids=["none named", "by prefix", "the release's own", "exactly", "a server's"],
)
def test_what_the_lists_allow_is_let_in(limited: Callable[[Json], str], spec: Json) -> None:
    assert limited(cycle("limited", **spec)) == ""


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"defaults": {**TRAINER, "image": "ghcr.io/acmeevil/worker:7"}},
            "image ghcr.io/acmeevil/worker:7 is not",
        ),
        (
            {"defaults": {**TRAINER, "image": "ghcr.io/other/worker:12"}},
            "image ghcr.io/other/worker:12 is not",
        ),
        ({"defaults": TRAINER, "stages": {"judge": {"image": "evil"}}}, "image evil is not allowed here"),
        ({"defaults": TRAINER, "sampling": {"server": {"image": "evil"}}}, "image evil is not allowed here"),
        ({}, "serviceAccountName default is not allowed here"),
        (
            {"defaults": TRAINER, "stages": {"train": {"serviceAccountName": "root"}}},
            "serviceAccountName root is not",
        ),
    ],
    ids=[
        *("another prefix", "another tag", "a stage's image", "a server's image"),
        *("the default account", "a stage's account"),
    ],
)
def test_what_the_lists_lack_is_refused_by_name(
    limited: Callable[[Json], str], spec: Json, said: str
) -> None:
    assert said in limited(cycle("limited", **spec))


def test_datasets_pods_are_limited_too(limited: Callable[[Json], str]) -> None:
    assert "image evil is not allowed here" in limited(dataset({**TRAINER, "image": "evil"}))
    assert limited(dataset(TRAINER)) == ""


def dataset(defaults: Json) -> Json:
    source = {"name": "recorded", "files": {"uri": "pvc://quickstart-assets/pairs.jsonl"}}
    spec = {"store": {"uri": "pvc://quickstart-store/datasets"}, "sources": [source], "defaults": defaults}
    return {
        "apiVersion": CYCLES[0],
        "kind": "PreferenceDataset",
        "metadata": {"name": "recorded-pairs"},
        "spec": spec,
    }


def test_a_cycle_that_was_there_before_a_list_can_still_be_cancelled(
    people: Namespace, limited: Callable[[Json], str]
) -> None:
    assert annotate(people, EDITOR, "alignment.dev/cancel=1") == ""


def edit_older(people: Namespace, spec: Json) -> str:
    patch = json.dumps({"spec": spec})
    edit = ["patch", "alignmentcycle", "older", "--type=merge", "--dry-run=server", "-p", patch]
    return as_user(people, EDITOR, *edit)


@pytest.mark.parametrize(
    "spec",
    [
        {"suspend": True},
        {"trigger": {"schedule": "0 3 * * *"}, "stages": {"train": {"retries": 1}}},
        {"defaults": {"image": "ghcr.io/acme/worker:8"}, "sampling": {"server": None}},
    ],
    ids=["suspended", "edited", "brought in line"],
)
def test_and_be_edited_as_long_as_its_pods_are_what_they_were(
    people: Namespace, limited: Callable[[Json], str], spec: Json
) -> None:
    assert edit_older(people, spec) == ""


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"defaults": {"image": "ghcr.io/old/worker:2"}},
            "image ghcr.io/old/worker:2, ghcr.io/old/vllm:1 is",
        ),
        ({"stages": {"judge": {"image": "ghcr.io/old/worker:1"}}}, "image ghcr.io/old/worker:1"),
        ({"stages": {"train": {"image": None}}}, "image ghcr.io/old/worker:1"),
        ({"stages": {"train": None}}, "image ghcr.io/old/worker:1"),
        ({"sampling": {"server": {"image": "ghcr.io/old/vllm:2"}}}, "ghcr.io/old/vllm:2 is not allowed"),
        ({"defaults": {"serviceAccountName": "root"}}, "serviceAccountName root"),
        ({"stages": {"evaluate": {"serviceAccountName": "root"}}}, "serviceAccountName default, root"),
        ({"stages": {"train": {"serviceAccountName": None}}}, "serviceAccountName default, root is not"),
        ({"stages": {"judge": None}}, "serviceAccountName default, root is not allowed"),
    ],
    ids=[
        *("another image", "another stage's", "the defaults' instead", "no stage any more", "a server's"),
        *(
            "another account",
            "another stage's account",
            "the default account",
            "no stage with an account any more",
        ),
    ],
)
def test_and_no_pod_becomes_what_the_lists_lack(
    people: Namespace, limited: Callable[[Json], str], spec: Json, said: str
) -> None:
    assert said in edit_older(people, spec)


@pytest.fixture(scope="module")
def refused(client: Client, operator: Release) -> Namespace:
    """Where no Job may be made: the operator says so, and says so again."""
    namespace = restricted_namespace(client, "refused")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    namespace.apply(quota)
    has_limit = lambda seen: "hard" in seen.get("status", {})  # noqa: E731
    namespace.wait("v1", "resourcequotas", "none", has_limit, "it is observed")
    namespace.apply(dataset(TRAINER))
    wait_until(lambda: repeated(namespace.list("events.k8s.io/v1", "events")), "it is said again", 120)
    return namespace


def repeated(events: Sequence[Json]) -> bool:
    return any((event.get("series") or {}).get("count", 0) > 1 for event in events)


@pytest.fixture(scope="module")
def cancelled(team: Namespace) -> Gang:
    """A Job was deleted by hand, and more iterations were cancelled than are remembered."""
    team.kubectl("create", "serviceaccount", TRAINER["serviceAccountName"])
    team.apply(dataset(TRAINER))
    team.wait(
        CYCLES[0], "preferencedatasets", "recorded-pairs", has_condition("Ready"), "its pairs are read", 600
    )
    manifest = cycle(
        "gang",
        datasets=[{"name": "recorded-pairs"}],
        defaults=TRAINER,
        stages={"train": {"queueName": "closed"}},
        history={"iterations": 3},
        gates={"lengthDrift": {"maxIncreasePercent": 30}},
    )
    manifest["spec"]["training"]["nodes"] = 2
    for field in ("prompts", "sampling", "judge"):  # so that training is the first stage
        del manifest["spec"][field]
    team.apply(manifest)
    gang = Gang(team, "gang")
    first = gang.start(1)
    team.kubectl("delete", "job", first["metadata"]["name"])
    gang.suspend_and_resume(gang.job(1, but_not=first["metadata"]["uid"]))
    gang.cancel(1)
    for number in (2, 3, 4):
        gang.start(number)
        gang.cancel(number)
    gang.until_revisions(3)
    return gang


def test_the_operator_is_granted_exactly_what_it_uses(
    audited: Bed, client: Client, refused: Namespace, cancelled: Gang, promoted: Json
) -> None:
    log = audited.control_plane.audit_log
    role = client.get(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{NAME}")
    assert role is not None
    granted, used = audit.granted(role), audit.used(log, NAME, SYSTEM)
    assert audit.forbidden(log, NAME, SYSTEM) == []
    assert sorted(used - granted) == []
    assert sorted(granted - used) == [], "granted, but never used"


def test_the_quickstart_is_promoted_where_only_restricted_pods_are_let_in(
    team: Namespace, promoted: Json
) -> None:
    done = team.get(*CYCLES, "quickstart")
    assert done is not None
    assert promoted["data"]["uri"] == done["status"]["promoted"]["uri"]


def test_an_inference_service_serves_what_was_promoted(team: Namespace, promoted: Json) -> None:
    def follows(seen: Json) -> bool:
        uri = seen["spec"]["predictor"]["model"]["storageUri"]
        return bool(uri == promoted["data"]["uri"])

    served = team.wait(*SERVED, "quickstart", follows, "it names the new model")
    assert served["spec"]["predictor"]["model"]["modelFormat"] == {"name": "huggingface"}


def test_no_workers_pod_has_a_token(team: Namespace, promoted: Json) -> None:
    pods = team.list("v1", "pods", "app.kubernetes.io/name=alignment-worker")
    assert pods
    sources = [
        source
        for pod in pods
        for volume in pod["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
    ]
    assert [source for source in sources if "serviceAccountToken" in source] == []
