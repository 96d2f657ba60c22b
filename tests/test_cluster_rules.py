"""What the process node decides without a cluster: names, environments, phases."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.api import Json
from tests.cluster.build import NAMES, binaries
from tests.cluster.environment import ConfigError, References, environment, expand, field_value, quantity
from tests.cluster.images import Bind, Image, find_image
from tests.cluster.status import ContainerState, Role, address_of, phase

POD: Json = {
    "metadata": {
        "name": "p",
        "namespace": "n",
        "uid": "u",
        "labels": {"a": "1"},
        "annotations": {"x/y": 'say "hi"\n'},
    },
    "spec": {"nodeName": "node", "containers": [{"name": "main", "resources": {"limits": {"cpu": "1500m"}}}]},
}
NOTHING = References({}, {})


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$A $(", "$A $("),
        ("$$$(A)", "$1"),
    ],
)
def test_references_in_commands_expand_where_they_are_known(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("worker", True),
        ("worker:v1", True),
        ("registry:5000/team/worker:v1", True),
        ("registry/team/worker@sha256:00", True),
        ("other-worker:v1", False),
        ("worker/other", False),
    ],
)
def test_an_image_is_found_by_the_end_of_its_repository(reference: str, found: bool) -> None:
    assert (find_image(reference, [Image("worker")]) is not None) is found


def test_the_last_image_of_a_name_wins() -> None:
    added = Image("worker", binds=(Bind("a", "b"),), env={"A": "1"})
    assert find_image("worker", [Image("worker"), added]) is added
    assert Image.from_json(added.to_json()) == added


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.annotations['x/y']", 'say "hi"\n'),
        ("metadata.annotations", 'x/y="say \\"hi\\"\\n"'),
        ("metadata.labels['absent']", ""),
        ("status.hostIP", "127.0.0.1"),
        ("status.podIP", address_of(POD)),
    ],
)
def test_the_downward_api_yields_fields(path: str, value: str) -> None:
    assert field_value(POD, path) == value


def test_variables_refer_to_earlier_ones_and_to_limits() -> None:
    rows = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)$(GIVEN)"},
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
    ]
    values = environment(POD, {"name": "main", "env": rows}, {"GIVEN": "!"}, NOTHING, {})
    assert values == {"GIVEN": "!", "A": "1", "B": "1!", "CPUS": "2"}


def test_a_missing_secret_is_named() -> None:
    with pytest.raises(ConfigError, match='secret "s" not found'):
        environment(POD, {"name": "main", "envFrom": [{"secretRef": {"name": "s"}}]}, {}, NOTHING, {})


def test_binaries_that_somebody_has_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    for name in NAMES:
        (tmp_path / name).touch()
    assert binaries() == {name: tmp_path / name for name in NAMES}


def test_quantities_are_numbers() -> None:
    assert [quantity(text) for text in ("1500m", "2Gi", "1e3", 4)] == [1.5, 2**31, 1000, 4]


def _state(role: Role, *codes: int | None) -> ContainerState:
    """A container that had these exits one after the other; it runs if the last is None."""
    state = ContainerState({"name": "c", "image": "i"}, role, {"reason": "ContainerCreating"})
    for code in codes:
        state.run("id")
        if code is not None:
            state.end(code, "", "")
    return state


def _waiting(state: ContainerState) -> ContainerState:
    state.wait("CrashLoopBackOff")
    return state


@pytest.mark.parametrize(
    ("states", "policy", "over", "expected"),
    [
        ([_state("main")], "Never", False, "Pending"),
        ([_state("main", None)], "Never", False, "Running"),
        ([_state("main", 0)], "Never", False, "Succeeded"),
        ([_state("main", 3)], "Never", False, "Failed"),
        ([_state("main", 3)], "OnFailure", False, "Running"),
        ([_waiting(_state("main", 3))], "Always", False, "Running"),
        ([_state("main", 0)], "Always", False, "Running"),
        ([_state("main", 0)], "Always", True, "Succeeded"),
        ([_state("main", 143)], "Always", True, "Failed"),
        ([_state("main", 0), _state("main", None)], "Never", False, "Running"),
        ([_state("init", None), _state("main")], "Never", False, "Pending"),
        ([_state("init", 1), _state("main")], "Never", False, "Failed"),
        ([_waiting(_state("init", 1)), _state("main")], "Always", False, "Pending"),
        ([_state("init", 0), _state("main", 0)], "Never", False, "Succeeded"),
        ([_state("sidecar", None), _state("main", 0)], "Never", False, "Running"),
        ([_state("sidecar", 143), _state("main", 0)], "Never", False, "Succeeded"),
        ([_state("main")], "Never", True, "Failed"),
    ],
)
def test_the_phase_follows_from_the_containers(
    states: list[ContainerState], policy: str, over: bool, expected: str
) -> None:
    assert phase(states, policy, over) == expected
