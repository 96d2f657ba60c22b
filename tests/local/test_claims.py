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
