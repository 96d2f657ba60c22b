"""Iterations before the last, of which status has but a row; and two of them side by side."""

from __future__ import annotations

from pathlib import Path

from alignment_api.cycle_status import AlignmentCycleStatus
from alignment_api.stage import Stage
from alignment_operator.explain.account import Account, of_an_earlier, of_the_last
from alignment_operator.explain.comparison import ABSENT, compared
from alignment_worker.iteration_report.reading import results
from tests.operator.plan_world import World, cycle_spec
from tests.report.stored import Stored


def two(folder: Path) -> Stored:
    """A promotion, and then a refusal by gates of another spec."""
    stored = Stored(folder, World(annotations={"alignment.dev/run": "1"})).settle()
    world = stored.world
    world.annotations["alignment.dev/run"] = "2"
    world.quality = "hacked"
    world.spec = cycle_spec(training={"method": "DPO", "learningRate": 1e-5})
    return stored.settle()


def accounts(stored: Stored, *, revision: bool = True, artifacts: bool = True) -> tuple[Account, Account]:
    status = AlignmentCycleStatus.of(stored.world.status)
    assert status.iteration is not None
    uri = "pvc://models/cycles/team/support/uid-1/iterations"
    found = results(uri, [1], stored.places()) if artifacts else {1: {}}
    row = next(row for row in status.history if row.number == 1)
    frozen = stored.world.frozen.get(1) if revision else None
    return (
        of_an_earlier(row, status, frozen, found[1]),
        of_the_last(status.iteration, stored.world.frozen[2]),
    )


def test_an_earlier_iteration_has_its_verdicts_again_from_the_store_and_the_revision(tmp_path: Path) -> None:
    earlier, last = accounts(two(tmp_path))
    assert (earlier.iteration.outcome, last.iteration.outcome) == ("Promoted", "Rejected")
    assert {gate.verdict for gate in earlier.iteration.gates} == {"Passed"}
    assert [entry.name for entry in earlier.iteration.stages][-1] is Stage.PROMOTE
    assert earlier.iteration.evidence_digest is not None
    assert any("judged anew" in line for line in earlier.unknown)
    assert last.unknown == ()


def test_without_its_revision_only_the_numbers_are_left(tmp_path: Path) -> None:
    earlier, _ = accounts(two(tmp_path), revision=False)
    assert earlier.iteration.gates == []
    assert earlier.iteration.stages
    assert any("ControllerRevision of iteration 1 is gone" in line for line in earlier.unknown)


def test_without_its_artifacts_only_the_row_is_left(tmp_path: Path) -> None:
    earlier, _ = accounts(two(tmp_path), artifacts=False)
    assert (earlier.iteration.outcome, earlier.iteration.reason) == ("Promoted", "AllGatesPassed")
    assert earlier.iteration.stages == []
    assert any("not in the store any more" in line for line in earlier.unknown)


def test_one_that_ended_early_is_not_said_to_have_lost_measurements(tmp_path: Path) -> None:
    stored = two(tmp_path)
    del stored.world.status["history"][-1]["candidateDigest"]
    earlier, _ = accounts(stored, artifacts=False)
    assert any("before it had a candidate" in line for line in earlier.unknown)
    assert not any("not in the store any more" in line for line in earlier.unknown)


def test_another_candidate_in_the_store_is_not_taken_for_it(tmp_path: Path) -> None:
    stored = two(tmp_path)
    stored.world.status["history"][-1]["candidateDigest"] = "sha256:" + "0" * 64
    earlier, _ = accounts(stored)
    assert earlier.iteration.stages == []
    assert any("another candidate" in line for line in earlier.unknown)


def test_two_iterations_are_set_side_by_side(tmp_path: Path) -> None:
    found = compared(*accounts(two(tmp_path)))
    outcome = {line.name: (line.first, line.second) for line in found.outcome}
    assert outcome["outcome"] == ("Promoted", "Rejected")
    verdicts = {line.name: (line.first, line.second) for line in found.verdicts}
    assert verdicts["lengthDrift"] == ("Passed", "Failed (LengthDrift)")
    measured = {line.name: (line.first, line.second) for line in found.measurements}
    assert measured["winRate: win rate"] == ("70.0 % [60.0, 80.0] n=300", "30.0 % [20.0, 40.0] n=300")
    assert [line.name for line in found.work] == [
        "sample: completions",
        "judge: judgements",
        "train: steps",
        "evaluate: answers",
        "compare: comparisons",
        "promote: sealed",
    ]
    assert found.work[-1].second == ABSENT
    assert found.spec is not None
    assert ("spec.training.learningRate", ABSENT, "1e-05") in [
        (line.name, line.first, line.second) for line in found.spec
    ]


def test_what_the_specs_differ_in_is_not_guessed(tmp_path: Path) -> None:
    assert compared(*accounts(two(tmp_path), revision=False)).spec is None
