"""Which folder a claim is."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignment_operator.local.claims import Claims


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    (folder / "models").mkdir(parents=True)
    return folder


def test_a_folder_that_was_given_wins(tmp_path: Path, manifests: Path, state: Path) -> None:
    given = tmp_path / "elsewhere"
    given.mkdir()
    claims = Claims({"models": given}, [manifests], state)
    assert claims.path("pvc://models/m0") == given / "m0"


def test_else_a_folder_of_that_name_beside_the_manifest(manifests: Path, state: Path) -> None:
    assert Claims({}, [manifests], state).path("pvc://models/m0") == manifests / "models" / "m0"


def test_else_one_in_the_state_folder_which_is_made_when_a_stage_needs_it(
    manifests: Path, state: Path
) -> None:
    claims = Claims({}, [manifests], state)
    assert claims.path("pvc://store/cycles") == state / "claims" / "store" / "cycles"
    assert not state.exists()
    assert claims.folder("store").is_dir()


def test_a_file_uri_is_itself(state: Path) -> None:
    assert Claims({}, [], state).path("file:///data/m0") == Path("/data/m0")


def test_folders_outside_the_state_are_remembered_and_those_in_it_go_where_it_goes(tmp_path: Path) -> None:
    state, given = tmp_path / "state", tmp_path / "models"
    given.mkdir()
    state.mkdir()
    Claims({"models": given}, (), state).remember(["models", "store"])
    moved = tmp_path / "moved"
    state.rename(moved)
    recalled = Claims.recalled({}, moved)
    assert recalled.path("pvc://models/m0") == given.resolve() / "m0"
    assert recalled.path("pvc://store/x") == (moved / "claims" / "store" / "x").resolve()
    Claims({}, (), moved).remember(["models"])
    assert Claims.recalled({}, moved).path("pvc://models") == (moved / "claims" / "models").resolve()


def test_what_is_given_wins_over_what_is_remembered(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    Claims({"models": first}, (), tmp_path).remember(["models"])
    assert Claims.recalled({"models": second}, tmp_path).path("pvc://models") == second
