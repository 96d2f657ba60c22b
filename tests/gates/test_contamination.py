"""Gate contamination: what is left out of training, and whether that is reason to refuse."""

from __future__ import annotations

import pytest

from alignment_api.cycle import ContaminationGate
from alignment_api.gates import GateReason, GateResult, Verdict
from alignment_api.measurements import LEAKED_PROMPTS, LEAKED_ROWS, NEAR_PROMPTS, NEAR_ROWS
from alignment_api.stage import Located, Stage, StageResult
from alignment_operator.gates import contamination

MANIFEST = Located(uri="file:///store/iterations/1/stage", digest="sha256:" + "e" * 64)
CLEAN = {"promptsGiven": 400, "excluded": 0}


def judged(action: str = "Exclude", **counts: dict[str, int]) -> GateResult:
    results = {Stage(name): StageResult(manifest=MANIFEST, counts=found) for name, found in counts.items()}
    return contamination.judge(ContaminationGate.from_wire({"action": action}), results)


def test_what_is_left_out_is_told() -> None:
    found = judged(
        sample={"promptsGiven": 400, "excluded": 3, "prompts": 100},
        train={"rowsGiven": 2000, "droppedLeaked": 7},
    )
    assert (found.verdict, found.reason, found.limit) == (Verdict.PASSED, None, None)
    assert found.message == (
        "3 of 400 prompts and 7 of 2000 rows of datasets hold gold or held-out prompts, and are left out of training"
    )
    assert {name: (value.estimate, value.n) for name, value in found.measurements.items()} == {
        LEAKED_PROMPTS: (3, 400),
        LEAKED_ROWS: (7, 2000),
    }


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"sample": {"promptsGiven": 400, "excluded": 1}}, "1 of 400 prompts hold"),
        (
            {"sample": CLEAN, "train": {"rowsGiven": 9, "droppedLeaked": 1}},
            "0 of 400 prompts and 1 of 9 rows of datasets hold",
        ),
        ({"reward": {"rowsGiven": 9, "droppedLeaked": 2}}, "2 of 9 rows of datasets hold"),
    ],
)
def test_action_fail_refuses_it(counts: dict[str, dict[str, int]], said: str) -> None:
    found = judged("Fail", **counts)
    assert (found.verdict, found.reason, found.limit) == (Verdict.FAILED, GateReason.CONTAMINATED, 0)
    assert found.message.startswith(said)
    assert found.message.endswith(": take them out, or write action: Exclude")


def test_the_stages_that_read_the_same_dataset_count_it_once() -> None:
    found = judged(
        reward={"rowsGiven": 9, "droppedLeaked": 2}, train={"rowsGiven": 9, "droppedLeaked": 1}
    ).measurements[LEAKED_ROWS]
    assert (found.estimate, found.n) == (2, 9)


def test_nothing_found_passes_either_way() -> None:
    for action in ("Exclude", "Fail"):
        found = judged(action, sample=CLEAN)
        assert (found.verdict, found.message) == (
            Verdict.PASSED,
            "none of 400 prompts holds a gold or held-out prompt",
        )


def test_a_worker_that_does_not_say_is_an_error() -> None:
    found = judged("Fail", sample={"excluded": 0})
    assert (found.verdict, found.reason) == (Verdict.ERROR, GateReason.MEASUREMENT_MISSING)


@pytest.mark.parametrize("action", ["Exclude", "Fail"])
def test_what_is_alike_only_warns(action: str) -> None:
    near = {"nearPrompts": 2, "nearPromptsGiven": 400, "nearRows": 5, "nearRowsGiven": 90}
    found = judged(action, sample=CLEAN, train={"rowsGiven": 90, "droppedLeaked": 0, **near})
    assert (found.verdict, found.reason) == (Verdict.PASSED, None)
    assert found.warnings == [
        "2 of 400 prompts and 5 of 90 prompts of datasets resemble gold or held-out prompts, by embedding: the report "
        "shows them"
    ]
    assert {name: (value.estimate, value.n) for name, value in found.measurements.items()} == {
        LEAKED_PROMPTS: (0, 400),
        LEAKED_ROWS: (0, 90),
        NEAR_PROMPTS: (2, 400),
        NEAR_ROWS: (5, 90),
    }


def test_where_nothing_is_alike_nothing_is_said_of_it() -> None:
    near = {"nearPrompts": 0, "nearPromptsGiven": 400, "nearRows": 0, "nearRowsGiven": 0}
    found = judged(sample=CLEAN, train=near)
    assert found.warnings == []
    assert NEAR_ROWS not in found.measurements
