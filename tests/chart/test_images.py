"""The Dockerfiles, and `make images` with an engine and without."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.chart.charts import REPOSITORY
from tests.chart.linters import complaints


@pytest.mark.parametrize("image", ["operator", "worker", "recorder"])
def test_hadolint_has_nothing_to_say(image: str) -> None:
    assert complaints("hadolint", [REPOSITORY / "images" / image / "Dockerfile"]) == ""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A PATH without any container engine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "sed"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def make_images(programs: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    make = shutil.which("make")
    assert make is not None
    return subprocess.run(
        [make, "--no-print-directory", "images", *variables],
        cwd=REPOSITORY,
        env={"PATH": str(programs)},  # not that of a `make` which runs the tests
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_an_engine_make_images_says_so_in_one_line(programs: Path) -> None:
    result = make_images(programs)
    assert result.returncode != 0
    said, *rest = result.stderr.splitlines()
    assert said.startswith("make images: neither docker nor podman answers")
    assert all(line.startswith("make: ***") for line in rest)


def test_make_images_builds_each_under_this_releases_names(programs: Path, tmp_path: Path) -> None:
    engine = programs / "podman"
    engine.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    engine.chmod(0o755)
    result = make_images(programs, "REGISTRY=registry.example.com/alignment")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "asked").read_text().splitlines() == [
        "info",
        *(
            f"build --file images/{image}/Dockerfile --tag registry.example.com/alignment/{image}:0.1.0 ."
            for image in ("operator", "worker", "recorder")
        ),
    ]
