"""What the chart makes of its values, without a cluster."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from alignment_api.pods import PodDefaults
from alignment_operator.planned import StartJob
from alignment_operator.render import render_job
from tests.chart.charts import CHART, REPOSITORY, SYSTEM, Values, flags, of_kind, render, try_helm
from tests.chart.linters import complaints
from tests.cluster.api import Json
from tests.operator.edges import SETTINGS, owner, stage_config

MONITORING: Values = {
    f"metrics.{part}.enabled": True
    for part in ("serviceMonitor", "podMonitor", "prometheusRule", "dashboard")
}
ALLOWED: Values = {
    "admission.allowedImages": ["ghcr.io/acme/*"],
    "admission.allowedServiceAccounts": ["trainer"],
}
PINNED: Values = {"image.digest": f"sha256:{'4' * 64}", "workerImage.digest": f"sha256:{'2' * 64}"}
NAMESPACED: Values = {"watchNamespaces": ["red", "blue"]}


def container(manifests: list[Json]) -> Json:
    (deployment,) = of_kind(manifests, "Deployment")
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    found: Json = only
    return found


@pytest.mark.parametrize(
    "values", [{}, NAMESPACED, {**MONITORING, **ALLOWED, **PINNED}], ids=["default", "namespaced", "all"]
)
def test_helm_lint_has_nothing_to_say(values: Values) -> None:
    result = try_helm("lint", "--strict", CHART, *flags(values))
    assert result.returncode == 0, result.stdout
    assert "[WARNING]" not in result.stdout


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("watchNamespace", ["red"], "watchNamespace"),
        ("image.tags", "1", "tags"),
        ("metrics.serviceMonitor.enable", True, "enable"),
        ("resources.limit", {"cpu": 1}, "limit"),
        ("crds.keep", "yes", "crds.keep"),
        ("watchNamespaces", ["Red"], "watchNamespaces"),
        ("watchNamespaces", "red", "watchNamespaces"),
        ("image.digest", "sha256:12", "image.digest"),
        ("metrics.port", 0, "metrics.port"),
        ("metrics.port", 8080, "metrics.port and healthPort are both 8080"),
        ("admission.allowedImages", ["ghcr.io/acme*"], "admission.allowedImages"),
    ],
)
def test_a_value_that_is_misspelt_or_wrong_is_refused_by_name(path: str, value: object, named: str) -> None:
    result = try_helm("template", "x", CHART, *flags({path: value}))
    assert result.returncode != 0
    assert named.replace(".", "/") in result.stderr.replace(".", "/"), result.stderr


def test_every_default_is_in_the_schema_and_the_other_way_round() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(path: str, defaults: Json, wanted: Json) -> None:
        assert wanted["additionalProperties"] is False, path
        assert set(defaults) == set(wanted["properties"]) - {"global"}, path
        for key, below in wanted["properties"].items():
            if "properties" in below and path + key not in {"resources", "affinity"}:
                compare(f"{path}{key}.", defaults[key], below)

    compare("", values, schema)


@pytest.mark.parametrize("keep", [True, False])
def test_the_kinds_are_those_of_crds_and_are_kept_if_so_asked(keep: bool) -> None:
    definitions = of_kind(render({"crds.keep": keep}), "CustomResourceDefinition")
    files = [yaml.safe_load(file.read_text()) for file in sorted((REPOSITORY / "crds").glob("*.yaml"))]
    assert {each["metadata"]["name"]: each["spec"] for each in definitions} == {
        each["metadata"]["name"]: each["spec"] for each in files
    }
    policies = [
        each["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for each in definitions
    ]
    assert policies == [("keep" if keep else None)] * 2


def test_a_release_may_leave_out_the_kinds() -> None:
    assert of_kind(render({"crds.install": False}), "CustomResourceDefinition") == []


def test_cluster_wide_it_has_one_role_for_all_namespaces() -> None:
    manifests = render()
    assert of_kind(manifests, "Role") == of_kind(manifests, "RoleBinding") == []
    assert len(of_kind(manifests, "ClusterRoleBinding")) == 1
    assert not [flag for flag in container(manifests)["args"] if flag.startswith("--namespace")]


def test_namespaced_it_has_one_role_in_each_and_none_for_the_cluster() -> None:
    manifests = render(NAMESPACED)
    roles, bindings = of_kind(manifests, "Role"), of_kind(manifests, "RoleBinding")
    assert [role["metadata"]["namespace"] for role in roles] == ["red", "blue"]
    assert [binding["metadata"]["namespace"] for binding in bindings] == ["red", "blue"]
    assert {subject["namespace"] for binding in bindings for subject in binding["subjects"]} == {SYSTEM}
    assert of_kind(manifests, "ClusterRoleBinding") == []
    operator, *_ = of_kind(render(), "ClusterRole")
    assert [role["rules"] for role in roles] == [operator["rules"]] * 2
    assert [flag for flag in container(manifests)["args"] if "namespace" in flag] == [
        "--namespace=red",
        "--namespace=blue",
    ]


def test_namespaced_its_policies_are_for_those_namespaces_alone() -> None:
    for binding in of_kind(render({**NAMESPACED, **ALLOWED}), "ValidatingAdmissionPolicyBinding"):
        (expression,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
        assert expression == {
            "key": "kubernetes.io/metadata.name",
            "operator": "In",
            "values": ["red", "blue"],
        }


def test_only_the_right_to_look_is_aggregated() -> None:
    aggregated = [
        role
        for role in of_kind(render(), "ClusterRole")
        if any("aggregate-to" in label for label in role["metadata"]["labels"])
    ]
    (view,) = aggregated
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert [rule["verbs"] for rule in view["rules"]] == [["get", "list", "watch"]]


def test_the_page_on_permissions_tells_the_operators_role() -> None:
    operator, *_ = of_kind(render(), "ClusterRole")
    granted = {resource: rule["verbs"] for rule in operator["rules"] for resource in rule["resources"]}
    _, _, table = (REPOSITORY / "docs/permissions.md").read_text().partition("| resources | verbs | for |\n")
    rows = [line.split("|") for line in table.partition("\n\n")[0].splitlines()[1:]]
    assert granted == {
        resource: verbs.strip().split(", ")
        for _, resources, verbs, *_ in rows
        for resource in resources.strip().split(", ")
    }


def test_nothing_of_a_monitoring_stack_is_needed() -> None:
    assert {manifest["apiVersion"].partition("/")[0] for manifest in render()} & {
        "monitoring.coreos.com"
    } == set()


def test_monitoring_comes_with_alerts_and_dashboard_as_they_are_in_the_files() -> None:
    labels = {"release": "kube-prometheus-stack"}
    manifests = render({**MONITORING, "metrics.labels": labels})
    monitors = [each for each in manifests if each["apiVersion"] == "monitoring.coreos.com/v1"]
    assert {each["kind"] for each in monitors} == {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    assert all(labels.items() <= each["metadata"]["labels"].items() for each in monitors)
    (rule,) = of_kind(manifests, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    (dashboard,) = of_kind(manifests, "ConfigMap")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = dashboard["data"].values()
    assert json.loads(text) == json.loads((CHART / "files/dashboard.json").read_text())


def test_what_the_operator_says_of_cycles_keeps_their_namespace() -> None:
    (monitor,) = of_kind(render(MONITORING), "ServiceMonitor")
    assert [endpoint["honorLabels"] for endpoint in monitor["spec"]["endpoints"]] == [True]


def test_workers_are_found_by_prometheus_and_by_the_operator() -> None:
    start = StartJob("support-1", "f" * 64, stage_config(), 0, PodDefaults())
    template = render_job(owner(), start, SETTINGS)["spec"]["template"]
    labels, (worker,) = template["metadata"]["labels"], template["spec"]["containers"]
    (port,) = worker["ports"]
    manifests = render(MONITORING)
    (monitor,) = of_kind(manifests, "PodMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert set(monitor["spec"]["podTargetLabels"]) <= set(labels)
    assert [endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]] == [port["name"]]
    (policy,) = of_kind(manifests, "NetworkPolicy")
    (rule,) = [rule for rule in policy["spec"]["egress"] if rule["ports"][0]["port"] == port["containerPort"]]
    (peer,) = rule["to"]
    assert peer["namespaceSelector"] == {}
    assert peer["podSelector"]["matchLabels"].items() <= labels.items()


def test_chart_and_images_are_of_the_same_release() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert {chart["version"], chart["appVersion"]} == {version("alignment-operator")}


def test_a_digest_wins_over_a_tag() -> None:
    manifest = container(render({**PINNED, "image.tag": "edge"}))
    assert manifest["image"] == f"ghcr.io/alignment-dev/operator@sha256:{'4' * 64}"
    assert f"--worker-image=ghcr.io/alignment-dev/worker@sha256:{'2' * 64}" in manifest["args"]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the chart can make, in one file; images by digest, as checkov wants them and a careful user has them."""
    file = tmp_path_factory.mktemp("rendered") / "all.yaml"
    file.write_text(yaml.safe_dump_all(render({**MONITORING, **ALLOWED, **PINNED})))
    return file


def test_checkov_has_nothing_to_say(everything: Path) -> None:
    config = Path(__file__).with_name("checkov.yaml")
    assert complaints("checkov", ["--config-file", config, "--file", everything]) == ""


@pytest.mark.parametrize("version", ["1.30", "1.36"])
def test_every_kubernetes_that_it_is_for_knows_every_field(
    everything: Path, version: str, tmp_path: Path
) -> None:
    """Of the kinds that are Kubernetes' own; prometheus-operator's have no schema there."""
    own = [each for each in yaml.safe_load_all(everything.read_text()) if "coreos" not in each["apiVersion"]]
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump_all(own))
    assert complaints("kubernetes-validate", ["--strict", "-k", version, file]) == ""
