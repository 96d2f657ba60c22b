"""Commands that look for a cluster where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Alignctl
from tests.cli.manifests import write

KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: here
clusters: [{name: here, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: here, context: {cluster: here, user: me}}]
users: [{name: me, user: {token: x}}]
"""


@pytest.mark.parametrize(
    "arguments", [["status"], ["history"], ["approve", "x"], ["reject", "x"], ["cancel", "x"]]
)
def test_without_a_folder_and_a_cluster_both_are_named(alignctl: Alignctl, arguments: list[str]) -> None:
    done = alignctl(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no folder .alignment here, and no cluster to talk to")


def test_with_a_namespace_only_the_cluster_is_looked_for(alignctl: Alignctl) -> None:
    assert alignctl("status", "-n", "default").stderr.startswith("error: no cluster to talk to")


@pytest.mark.parametrize("arguments", [("-n", "red", "status"), ("status", "-n", "red")])
def test_the_namespace_stands_before_or_after_the_command(
    alignctl: Alignctl, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / ".alignment" / "objects").mkdir(parents=True)
    assert alignctl(*arguments).stderr.startswith("error: no cluster to talk to"), "it means a cluster"


def test_a_namespace_is_refused_where_there_is_none(alignctl: Alignctl) -> None:
    done = alignctl("-n", "red", "validate", "-f", "x.yaml")
    assert done.returncode == 2
    assert "validate looks into no cluster: leave out -n red" in done.stderr


def test_a_kubeconfig_that_is_not_there_is_named(alignctl: Alignctl, tmp_path: Path) -> None:
    told = alignctl("status", "-n", "default").stderr
    assert (
        told
        == f"error: no cluster to talk to: KUBECONFIG names {tmp_path}/no-kubeconfig, which is not there\n"
    )


def test_where_there_are_both_the_first_line_says_how_to_see_the_other(
    alignctl: Alignctl, tmp_path: Path
) -> None:
    (tmp_path / ".alignment" / "objects").mkdir(parents=True)
    assert alignctl("status").stderr == "# folder .alignment\n"
    write(tmp_path / "no-kubeconfig", KUBECONFIG)
    assert alignctl("status").stderr == "# folder .alignment; the cluster: kubectl align, or -n NAMESPACE\n"
    assert alignctl("status", "--state", ".alignment").stderr == "# folder .alignment\n"


def test_a_cluster_that_does_not_answer_is_told_so(
    alignctl: Alignctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "no-kubeconfig", KUBECONFIG)
    done = alignctl("status", "-n", "default")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the cluster cannot be reached: ")


def test_gold_writes_a_gold_set_from_samples_of_the_harness(alignctl: Alignctl, tmp_path: Path) -> None:
    row = {
        "doc_id": 0,
        "doc": {},
        "target": "#### 3",
        "arguments": {"gen_args_0": {"arg_0": "Eggs?", "arg_1": {}}},
    }
    (tmp_path / "samples_gsm8k_2026-01-16T15-23-47.jsonl").write_text(json.dumps(row))
    done = alignctl(
        "gold", "samples_gsm8k_2026-01-16T15-23-47.jsonl", "-o", "gold.jsonl", "--grader", "Numeric"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "gold.jsonl").read_text())["answer"] == "3"
    assert "COLUMN=NAME" in alignctl("gold", "-h").stdout
