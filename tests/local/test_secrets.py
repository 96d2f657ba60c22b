"""Which environment variable a key of a Secret is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api.manifests import PUBLIC_KEY
from tests.local.commands import Alignctl

Manifest = dict[str, Any]

REFERENCE = {"name": "judge", "key": "api-key"}
SIGNING = {"privateKeySecretRef": {"name": "signing", "key": "key.pem"}, "publicKeys": [PUBLIC_KEY]}


@pytest.fixture
def with_llm(alignctl: Alignctl, cycle: Manifest) -> Alignctl:
    """Its manifest has an LLM as judge, whose key is in a Secret."""
    llm = {"baseURL": "https://judge/v1", "model": "m", "apiKeySecretRef": REFERENCE}
    cycle["spec"]["judge"] = {"llm": llm}
    alignctl.manifest.write_text(yaml.safe_dump(cycle))
    return alignctl


def test_only_the_stage_that_needs_the_key_gets_it_and_no_file_does(
    with_llm: Alignctl, stand_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    done = with_llm.ended("run", "-f", str(with_llm.manifest), "--secret", "judge/api-key=env:MY_KEY")
    assert done.returncode == 0, done.stdout + done.stderr
    seen = {
        stage: "sk-secret" in (stand_in() / f"{stage}.ran").read_text()
        for stage in ("sample", "judge", "train")
    }
    assert seen == {"sample": False, "judge": True, "train": False}
    kept = b"".join(file.read_bytes() for file in with_llm.state.rglob("*") if file.is_file())
    assert b"sk-secret" not in kept


def test_only_promote_can_read_the_signing_key_and_no_file_does(
    alignctl: Alignctl, cycle: Manifest, stand_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle["spec"]["promotion"] = {"signature": SIGNING}
    alignctl.manifest.write_text(yaml.safe_dump(cycle))
    monkeypatch.setenv("MY_KEY", "-----BEGIN secret-----")
    done = alignctl.ended("run", "-f", str(alignctl.manifest), "--secret", "signing/key.pem=env:MY_KEY")
    assert done.returncode == 0, done.stdout + done.stderr
    seen = {
        stage: "-----BEGIN secret-----" in (stand_in() / f"{stage}.ran").read_text()
        for stage in ("sample", "train", "evaluate", "promote")
    }
    assert seen == {"sample": False, "train": False, "evaluate": False, "promote": True}
    kept = b"".join(file.read_bytes() for file in alignctl.state.rglob("*") if file.is_file())
    assert b"BEGIN secret" not in kept


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            (),
            "spec.judge.llm.apiKeySecretRef: judge/api-key: which key is that here? --secret judge/api-key=env:",
        ),
        (("judge/api-key",), "--secret judge/api-key: write NAME/KEY=env:VARIABLE"),
        (("judge/api-key=sk-1",), "write NAME/KEY=env:VARIABLE"),
        (("judge=env:PATH",), "write NAME/KEY=env:VARIABLE"),
        (("judge/api-key=env:NOT_SET_ANYWHERE",), "the environment has no variable NOT_SET_ANYWHERE"),
        (("judge/key=env:PATH",), "these manifests name no such key; they name: judge/api-key"),
    ],
)
def test_what_is_no_key_is_said(with_llm: Alignctl, given: tuple[str, ...], said: str) -> None:
    options = [word for pair in given for word in ("--secret", pair)]
    done = with_llm.ended("run", "-f", str(with_llm.manifest), *options)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not with_llm.state.exists()
