"""What examples/gitops/ holds: manifests that are valid, and a health check that says what status says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from alignment_api.validation import check_manifest
from alignment_operator.observed import TargetView
from alignment_operator.plan.cycle import plan
from alignment_operator.schedules import problems
from tests.api.statuses import CYCLE_STATUS, DATASET_STATUS
from tests.gitops.argocd import EXAMPLES, SCRIPT, health
from tests.operator.plan_world import World, cycle_spec

RUN = {"alignment.dev/run": "1"}


def shown(world: World) -> dict[str, Any]:
    """The cycle as the API server would have it."""
    metadata = {"name": "support", "generation": world.generation}
    return {"metadata": metadata, "spec": world.spec.to_wire(), "status": world.status}


def idle() -> World:
    world = World(spec=cycle_spec(trigger={"schedule": "0 3 * * 1"}))
    world.settle()
    return world


def iterating() -> World:
    world = World(annotations=dict(RUN))
    world.pass_()
    world.pass_()
    return world


def ended(quality: str = "good") -> World:
    world = World(annotations=dict(RUN), quality=quality)
    world.settle()
    return world


def failed() -> World:
    world = iterating()
    world.fail(world.active()[0], 65, "InvalidRow")
    world.settle()
    return world


def suspended() -> World:
    world = iterating()
    world.spec, world.generation = cycle_spec(suspend=True), 2
    world.settle()
    return world


def edited() -> World:
    world = ended()
    world.generation += 1
    return world


def lost() -> World:
    world = ended()
    world.status = {}
    world.settle()
    return world


def waiting_for_a_dataset() -> World:
    world = World(
        spec=cycle_spec(datasets=[{"name": "feedback"}]), annotations=dict(RUN), datasets={"feedback": None}
    )
    world.settle()
    return world


def fought_over() -> World:
    world = ended()
    for _ in range(2):
        world.target = replace(world.target, value="pvc://theirs", held_by="kubectl-edit")
        world.settle()
    return world


def drifted() -> World:
    world = ended()
    world.target = TargetView("served", "uri", True, "pvc://wrong", world.target.digest, world.target.owner)
    world.pass_()
    return world


def new() -> World:
    return World()


@pytest.mark.parametrize(
    ("make", "status", "message"),
    [
        (new, "Progressing", "generation 1 is not observed yet"),
        (edited, "Progressing", "generation 2 is not observed yet"),
        (waiting_for_a_dataset, "Progressing", "DatasetNotReady: PreferenceDataset feedback"),
        (drifted, "Progressing", "Updating: writing pvc://"),
        (idle, "Healthy", "Idle: next iteration at 2026-11-30T03:00Z"),
        (iterating, "Healthy", "Iterating: iteration 1 is running"),
        (ended, "Healthy", "Idle: "),
        (lambda: ended("hacked"), "Healthy", "Idle: "),
        (lambda: ended("unclear"), "Healthy", "WaitingForApproval: a person decides"),
        (suspended, "Suspended", "Suspended: spec.suspend is true"),
        (failed, "Degraded", "IterationFailed: iteration 1: stage sample failed"),
        (lost, "Degraded", "PromotionRecordLost: "),
        (fought_over, "Degraded", "TakenBack: taken back twice"),
    ],
)
def test_the_health_check_says_what_the_status_of_a_cycle_says(
    make: Callable[[], World], status: str, message: str
) -> None:
    said = health(shown(make()))
    assert said[0] == status, said
    assert said[1].startswith(message)


def test_a_schedule_that_cannot_be_read_is_degraded() -> None:
    world = World(spec=cycle_spec(trigger={"schedule": "0 0 30 2 *"}))
    decided = plan(replace(world.observe(), problems=problems(world.spec)), world.now)
    world.status = decided.status.to_wire()
    said = health(shown(world))
    assert said[0] == "Degraded"
    assert said[1].startswith("InvalidSpec: spec.trigger.schedule")


@pytest.mark.parametrize(
    ("ready", "reason", "status"),
    [
        ("True", "Ingested", "Healthy"),
        ("False", "Ingesting", "Progressing"),
        ("False", "InvalidRow", "Degraded"),
    ],
)
def test_it_serves_datasets_too(ready: str, reason: str, status: str) -> None:
    wire = DATASET_STATUS.to_wire()
    wire["conditions"][0] |= {"status": ready, "reason": reason}
    assert health({"metadata": {"generation": 1}, "status": wire})[0] == status


def test_it_reads_a_status_with_every_field() -> None:
    assert health({"metadata": {"generation": 3}, "status": CYCLE_STATUS.to_wire()})[0] == "Healthy"


def test_the_configmap_installs_that_very_script_for_both_kinds() -> None:
    data = yaml.safe_load((EXAMPLES / "argocd" / "argocd-cm.yaml").read_text())["data"]
    prefix = "resource.customizations.health.alignment.dev_"
    assert data == dict.fromkeys(
        (f"{prefix}AlignmentCycle", f"{prefix}PreferenceDataset"), SCRIPT.read_text()
    )


def test_every_manifest_is_valid_and_the_tools_look_into_its_folder() -> None:
    folder = EXAMPLES / "support-assistant"
    named = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert sorted([*named, "kustomization.yaml"]) == sorted(file.name for file in folder.iterdir())
    for name in named:
        assert check_manifest(yaml.safe_load((folder / name).read_text())) == ()
    flux = list(yaml.safe_load_all((EXAMPLES / "flux" / "support-assistant.yaml").read_text()))
    application = yaml.safe_load((EXAMPLES / "argocd" / "application.yaml").read_text())
    assert flux[1]["spec"]["path"] == f"./{folder.name}"
    assert application["spec"]["source"]["path"] == folder.name
