"""`alignctl run` on a PreferenceDataset, with the real worker."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.local.commands import Alignctl

Manifest = dict[str, object]


def test_a_run_names_the_revision_and_the_file_of_what_was_left_out(
    alignctl: Alignctl, tmp_path: Path, dataset: Manifest
) -> None:
    good = {"prompt": "Hello?", "chosen": "Good day.", "rejected": "No."}
    (tmp_path / "models" / "pairs.jsonl").write_text(json.dumps(good) + "\n{not JSON\n")
    alignctl.manifest.write_text(yaml.safe_dump(dataset))
    done = alignctl.ended("run", "-f", str(alignctl.manifest))
    assert done.returncode == 0, done.stderr
    assert "dataset feedback: revision 1, " in done.stdout
    named = next(line for line in done.stdout.splitlines() if line.startswith("what was left out, and why: "))
    (left_out,) = Path(named.removeprefix("what was left out, and why: ")).read_text().splitlines()
    assert (json.loads(left_out)["reason"], json.loads(left_out)["line"]) == ("Invalid", 2)
