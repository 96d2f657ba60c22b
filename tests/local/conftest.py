"""A state folder, the stand-in worker, and manifests to run on it."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.local.commands import Alignctl

Manifest = dict[str, Any]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a test that is a coroutine."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts the stand-in in the worker's place; called with a stage, says what each of its runs does."""
    folder = tmp_path / "stand-in"
    package = folder / "alignment_worker"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("stand_in_worker.py"), package / "__main__.py")
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("STAND_IN", str(folder))

    def behave(stage: str = "", *behaviours: Manifest) -> Path:
        if stage:
            (folder / f"{stage}.json").write_text(json.dumps(behaviours))
        return folder

    return behave


@pytest.fixture
def dataset() -> Manifest:
    return {
        "apiVersion": "alignment.dev/v1alpha1",
        "kind": "PreferenceDataset",
        "metadata": {"name": "feedback"},
        "spec": {
            "store": {"uri": "pvc://models/datasets"},
            "sources": [{"name": "annotations", "files": {"uri": "pvc://models/pairs.jsonl"}}],
        },
    }


@pytest.fixture
def cycle() -> Manifest:
    return {
        "apiVersion": "alignment.dev/v1alpha1",
        "kind": "AlignmentCycle",
        "metadata": {"name": "assistant"},
        "spec": {
            "policy": {"model": "pvc://models/m0"},
            "store": {"uri": "pvc://models/cycles"},
            "prompts": {"uri": "pvc://models/prompts.jsonl"},
            "judge": {"verifier": {}},
            "evaluation": {
                "goldSet": {"uri": "pvc://models/gold.jsonl"},
                "heldOutPrompts": {"uri": "pvc://models/heldout.jsonl"},
            },
        },
    }


@pytest.fixture
def alignctl(tmp_path: Path, state: Path, cycle: Manifest) -> Iterator[Alignctl]:
    started = Alignctl(tmp_path, state)
    started.manifest.write_text(yaml.safe_dump(cycle))
    models = tmp_path / "models"  # what its URIs name is there, though the stand-in reads none of it
    (models / "m0").mkdir(parents=True)
    for name in ("prompts", "gold", "heldout", "pairs"):
        (models / f"{name}.jsonl").touch()
    yield started
    started.end()
