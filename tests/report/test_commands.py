"""`alignctl report`, `explain` and `compare` of a state folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from alignment_api.stage import Stage
from tests.operator.plan_world import World
from tests.report.folder import alignctl, claim_of, write
from tests.report.markup import Page
from tests.report.stored import Stored


@pytest.fixture
def two(tmp_path: Path) -> Stored:
    """A promotion, and a refusal after it, in `.alignment` of the test's folder."""
    state = tmp_path / ".alignment"
    stored = Stored(claim_of(state), World(annotations={"alignment.dev/run": "1"})).settle()
    stored.world.annotations["alignment.dev/run"] = "2"
    stored.world.quality = "hacked"
    stored.settle()
    write(state, stored)
    return stored


def test_the_report_lies_beside_the_stages(tmp_path: Path, two: Stored) -> None:
    done = alignctl(tmp_path, "report", "support")
    assert done.returncode == 0, done.stderr
    file = two.iterations / "2" / "report.html"
    assert (tmp_path / done.stdout.strip()).resolve() == file.resolve()
    page = Page(file.read_text())
    assert page.faults == []
    assert "Rejected The incumbent stays" in page.text


def test_an_earlier_one_is_had_by_its_number_and_in_a_file_of_any_name(tmp_path: Path, two: Stored) -> None:
    done = alignctl(tmp_path, "report", "support", "--iteration", "1", "-o", "first.html")
    assert done.stdout == "first.html\n", done.stderr
    page = Page((tmp_path / "first.html").read_text())
    assert "The candidate is promoted: all 5 gates passed." in page.text
    assert "The verdicts are judged anew" in page.text
    assert page.faults == []


def test_stdout_is_the_page_and_nothing_else(tmp_path: Path, two: Stored) -> None:
    done = alignctl(tmp_path, "report", "support", "-o", "-")
    assert done.stdout.startswith("<!DOCTYPE html>")
    assert done.stdout.rstrip().endswith("</html>")


def test_an_iteration_that_retention_let_go_still_has_a_page_where_it_is_asked_for(
    tmp_path: Path, two: Stored
) -> None:
    shutil.rmtree(two.iterations / "1")
    refused = alignctl(tmp_path, "report", "support", "--iteration", "1")
    assert refused.returncode == 1
    assert "retention has let it go; name a file with -o" in refused.stderr
    assert alignctl(tmp_path, "report", "support", "--iteration", "1", "-o", "x.html").returncode == 0
    page = Page((tmp_path / "x.html").read_text())
    assert "Its measurements are not in the store any more" in page.text
    assert "Promoted" in page.text


def test_a_number_that_nobody_knows_is_told_with_those_that_are(tmp_path: Path, two: Stored) -> None:
    done = alignctl(tmp_path, "explain", "support", "--iteration", "7")
    assert done.returncode == 1
    assert done.stderr.endswith("error: iteration 7 of support is not known; known are 2, 1\n")


def test_explain_says_why_and_what_next(tmp_path: Path, two: Stored) -> None:
    told = alignctl(tmp_path, "explain", "support").stdout
    assert "support, iteration 2: Rejected (RewardHacking)" in told
    assert told.index("rewardHacking: Failed") < told.index("goldSet: Failed (GoldRegression)")
    assert ["length", "ratio", "2.00", "[1.90,", "2.10]", "at", "most", "1.30", "300"] in [
        line.split() for line in told.splitlines()
    ]
    assert "would settle it: nothing: harm is shown" in told
    assert "passed: collapse" in told
    assert "see the answers themselves: alignctl report support" in told


def test_explain_of_one_that_is_held_gives_both_commands(tmp_path: Path) -> None:
    state = tmp_path / ".alignment"
    write(
        state,
        Stored(claim_of(state), World(quality="unclear", annotations={"alignment.dev/run": "1"})).settle(),
    )
    told = alignctl(tmp_path, "explain", "support").stdout
    assert "support, iteration 1: Held (Inconclusive)" in told
    assert "alignctl approve support" in told
    assert "alignctl reject support" in told
    assert "comparisons if it stays so" in told


def test_explain_leaves_out_no_warning_of_a_gate_that_passed(tmp_path: Path) -> None:
    state = tmp_path / ".alignment"
    stored = Stored(claim_of(state), World(annotations={"alignment.dev/run": "1"})).settle()
    collapse = next(gate for gate in stored.world.iteration["gates"] if gate["name"] == "collapse")
    collapse["warnings"] = ["token entropy fell by 34 %"]
    write(state, stored)
    told = alignctl(tmp_path, "explain", "support").stdout
    assert "  collapse: warning: token entropy fell by 34 %\n" in told
    assert "  winRate: 1 candidate was tested since M_0, and the α spent is 2.5 %" in told
    assert "hacking looks like" not in told, "nothing is shown that this would explain"


def test_explain_needs_no_store_for_the_last_and_says_so_where_it_misses_it(
    tmp_path: Path, two: Stored
) -> None:
    shutil.rmtree(two.iterations)
    assert "rewardHacking: Failed" in alignctl(tmp_path, "explain", "support").stdout
    earlier = alignctl(tmp_path, "explain", "support", "--iteration", "1").stdout
    assert "support, iteration 1: Promoted (AllGatesPassed)" in earlier
    assert "note: Its measurements are not in the store any more" in earlier


def test_compare_sets_two_side_by_side(tmp_path: Path, two: Stored) -> None:
    told = alignctl(tmp_path, "compare", "support", "1", "2").stdout
    rows = [line.split() for line in told.splitlines()]
    assert ["outcome", "Promoted", "Rejected"] in rows
    assert ["lengthDrift", "Passed", "Failed", "(LengthDrift)"] in rows
    assert "both froze the same spec" in told


def test_one_iteration_is_not_compared_with_itself(tmp_path: Path, two: Stored) -> None:
    done = alignctl(tmp_path, "compare", "support", "2", "2")
    assert (done.returncode, done.stderr) == (2, "error: 2 and 2 are one iteration; name two\n")


def test_a_claim_that_was_given_to_the_run_is_found_again(tmp_path: Path, two: Stored) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(claim_of(tmp_path / ".alignment"), elsewhere)
    lost = alignctl(tmp_path, "report", "support", "-o", "lost.html")
    assert lost.returncode == 0
    assert "not in the store any more" in (tmp_path / "lost.html").read_text()
    (tmp_path / ".alignment" / "claims.json").write_text(json.dumps({"models": str(elsewhere)}))
    assert alignctl(tmp_path, "report", "support").returncode == 0
    assert (elsewhere / "cycles/team/support/uid-1/iterations/2/report.html").is_file()


def test_a_file_of_the_state_folder_that_is_broken_is_one_line(tmp_path: Path, two: Stored) -> None:
    (tmp_path / ".alignment" / "claims.json").write_text("{")
    done = alignctl(tmp_path, "report", "support")
    assert done.returncode == 1
    assert "claims.json: not valid JSON" in done.stderr.splitlines()[-1]


def test_collect_deletes_a_report_with_its_iteration(tmp_path: Path, two: Stored) -> None:
    from alignment_worker import trash  # noqa: PLC0415

    alignctl(tmp_path, "report", "support")
    trash.delete(two.iterations / "2" / "report.html")
    assert not list((two.iterations / "2").glob("*report*"))
    assert two.path(Stage.TRAIN).is_dir()
