"""`alignctl run` of a dataset in a bucket, with the user's own variables or with `--secret`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.buckets.refreshing import lines, pairs
from tests.buckets.server import KEYS, Server


@pytest.fixture
def manifest(server: Server, tmp_path: Path) -> Path:
    uri = server.put("local/pairs.jsonl", lines(pairs(3)))
    made = {
        "apiVersion": "alignment.dev/v1alpha1",
        "kind": "PreferenceDataset",
        "metadata": {"name": "feedback"},
        "spec": {
            "store": {"uri": f"file://{tmp_path}/store"},
            "sources": [
                {"name": "people", "files": {"uri": uri, "credentialsSecretRef": {"name": "buckets"}}}
            ],
        },
    }
    file = tmp_path / "dataset.yaml"
    file.write_text(yaml.safe_dump(made))
    return file


def refreshed(manifest: Path, variables: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from alignment_operator.cli.main import main; main()"]
    return subprocess.run(
        [*command, "run", "-f", str(manifest), "--state", str(manifest.parent / "state"), *options],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_dataset_in_a_bucket_is_refreshed_without_a_cluster(manifest: Path, server: Server) -> None:
    mine = {**KEYS, "AWS_ENDPOINT_URL": server.url}
    theirs = {
        "AWS_CA_BUNDLE": "/ca.pem",
        "AWS_PROFILE": "work",
        "GOOGLE_CLOUD_PROJECT": "p",
    }  # of other programs
    done = refreshed(manifest, mine | theirs, "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"]["pairs"] == 3
    others = {f"MY_{name}": value for name, value in mine.items()}
    named = [word for name in mine for word in ("--secret", f"buckets/{name}=env:MY_{name}")]
    again = refreshed(manifest, {**others, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, *named, "-o", "json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["status"]["revision"]["number"] == 1
    kept = [file for file in manifest.parent.rglob("*") if file.is_file()]
    assert not [file for file in kept if KEYS["AWS_SECRET_ACCESS_KEY"].encode() in file.read_bytes()]


def test_a_secret_that_no_source_names_is_refused(manifest: Path) -> None:
    done = refreshed(manifest, {}, "--secret", "other/AWS_REGION=env:PATH")
    assert done.returncode == 2
    assert (
        "--secret other/AWS_REGION=…: these manifests name no such key; they name: buckets/*" in done.stderr
    )
