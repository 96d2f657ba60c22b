"""What `alignctl` says and exits with: of a run, and of what stands in its folder afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.local.commands import Alignctl

Manifest = dict[str, Any]
StandIn = Callable[..., Path]


def run(alignctl: Alignctl, *arguments: str) -> Any:
    return alignctl.ended("run", "-f", str(alignctl.manifest), *arguments)


def change(alignctl: Alignctl, cycle: Manifest, **spec: Any) -> None:
    cycle["spec"].update(spec)
    alignctl.manifest.write_text(yaml.safe_dump(cycle))


def test_promoted_is_0_and_tells_the_gates_and_the_model(alignctl: Alignctl, stand_in: StandIn) -> None:
    done = run(alignctl)
    assert done.returncode == 0, done.stderr
    assert "assistant, iteration 1: Promoted (AllGatesPassed" in done.stdout
    assert "lengthDrift  Passed" in done.stdout
    assert "facts +2.0 points: no harm found" in done.stdout
    model = next(line for line in done.stdout.splitlines() if line.startswith("The promoted model is"))
    assert model.endswith("/iterations/1/train/model")
    assert "sample: started" in done.stderr
    assert "train: done in" in done.stderr


def test_a_report_that_cannot_be_made_changes_nothing_else(alignctl: Alignctl, stand_in: StandIn) -> None:
    """The stand-in has none."""
    done = run(alignctl)
    assert done.returncode == 0
    assert "the HTML report could not be made: " in done.stderr.splitlines()[-1]


def test_rejected_is_3_and_tells_why(alignctl: Alignctl, stand_in: StandIn) -> None:
    stand_in("evaluate", {"lengthRatio": 2.0})
    done = run(alignctl)
    assert done.returncode == 3
    assert "assistant, iteration 1: Rejected (LengthDrift" in done.stdout
    assert "lengthDrift  Failed" in done.stdout
    assert "The incumbent stays." in done.stdout


def test_a_stage_that_failed_is_1_and_tells_its_words_and_its_log(
    alignctl: Alignctl, stand_in: StandIn
) -> None:
    stand_in(
        "sample", {"exit": 65, "failure": {"reason": "InvalidRow", "message": "prompts.jsonl:7: no prompt"}}
    )
    done = run(alignctl)
    assert done.returncode == 1
    assert "Failed (InvalidRow" in done.stdout
    assert "stage sample failed: prompts.jsonl:7: no prompt" in done.stdout
    log = next(line for line in done.stdout.splitlines() if line.startswith("log: "))
    assert Path(log.removeprefix("log: ")).read_text() == "the stand-in runs sample\n"


def test_an_invalid_manifest_is_2_and_touches_nothing(alignctl: Alignctl, cycle: Manifest) -> None:
    change(alignctl, cycle, sampling={"seed": -1})
    done = run(alignctl)
    assert (done.returncode, done.stdout) == (2, "")
    assert "spec.sampling.seed: -1: must be" in done.stderr
    assert not alignctl.state.exists()


def test_another_initial_model_is_2_with_the_line(
    alignctl: Alignctl, stand_in: StandIn, cycle: Manifest
) -> None:
    run(alignctl)
    change(alignctl, cycle, policy={"model": "pvc://models/m1"})
    done = run(alignctl)
    assert done.returncode == 2
    line = next(n for n, text in enumerate(alignctl.manifest.read_text().splitlines(), 1) if "m1" in text)
    assert f"{alignctl.manifest}:{line}: spec.policy.model: pvc://models/m1: is immutable" in done.stderr


def test_an_edit_that_the_iteration_does_not_see_is_told(
    alignctl: Alignctl, stand_in: StandIn, cycle: Manifest
) -> None:
    change(alignctl, cycle, promotion={"mode": "Manual"})
    assert "your edit" not in run(alignctl).stdout
    change(alignctl, cycle, sampling={"seed": 7}, suspend=False)
    done = run(alignctl)
    told = (
        "iteration 1 works from generation 1; your edit of spec.sampling (generation 2) applies to the next"
    )
    for said in (done.stderr, done.stdout):
        assert f"{told}. To end this one: alignctl cancel assistant --state {alignctl.state}" in said
    alignctl.ended("approve", "assistant")
    promoted = run(alignctl)
    assert f"{told}\n" in promoted.stdout
    assert "cancel" not in promoted.stdout


def test_a_missing_input_names_the_claim_that_may_be_given(alignctl: Alignctl, stand_in: StandIn) -> None:
    message = "inputs.policy: pvc://models/m0 is not there (looked for /x). Put it there, or correct the URI."
    stand_in("sample", {"exit": 64, "failure": {"reason": "InputMissing", "message": message}})
    done = run(alignctl)
    assert "Or give the folder that is pvc://models: --claim models=DIR" in done.stdout
    assert "\n\n\n" not in done.stdout


def test_inputs_that_are_not_there_are_told_at_once_and_no_iteration_is_counted(
    alignctl: Alignctl, stand_in: StandIn, cycle: Manifest, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "models")
    (models := tmp_path / "elsewhere").mkdir()
    (models / "gold.jsonl").touch()
    change(alignctl, cycle, judge={"rewardModel": {"uri": f"file://{tmp_path}/judge"}})
    done = run(alignctl, "--claim", f"models={models}")
    lines = alignctl.manifest.read_text().splitlines()

    def told(field: str, uri: str, path: Path, what_to_do: str) -> str:
        line = next(number for number, text in enumerate(lines, 1) if text.endswith(uri))
        where = f"{alignctl.manifest}:{line}: {field}: {uri}"
        return f"{where}: is not there (looked for {path}). Put it there, {what_to_do}"

    claimed = "correct the URI, or give the folder that is pvc://models: --claim models=DIR"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        told("spec.policy.model", "pvc://models/m0", models / "m0", claimed),
        told("spec.prompts.uri", "pvc://models/prompts.jsonl", models / "prompts.jsonl", claimed),
        told(
            "spec.evaluation.heldOutPrompts.uri",
            "pvc://models/heldout.jsonl",
            models / "heldout.jsonl",
            claimed,
        ),
        told(
            "spec.judge.rewardModel.uri",
            f"file://{tmp_path}/judge",
            tmp_path / "judge",
            "or correct the URI",
        ),
    ]
    assert not alignctl.state.exists()


def test_a_stopped_iteration_goes_on_though_an_input_went_away(
    alignctl: Alignctl, stand_in: StandIn, cycle: Manifest, tmp_path: Path
) -> None:
    change(alignctl, cycle, promotion={"mode": "Manual"})
    assert run(alignctl).returncode == 4
    (tmp_path / "models" / "prompts.jsonl").unlink()
    alignctl.ended("approve", "assistant")
    assert run(alignctl).returncode == 0
    done = run(alignctl)
    assert done.returncode == 2
    assert "spec.prompts.uri" in done.stderr
    assert alignctl.cycle()["status"]["iteration"]["number"] == 1


def test_what_is_promoted_must_be_there_and_the_initial_model_need_not(
    alignctl: Alignctl, stand_in: StandIn, tmp_path: Path
) -> None:
    run(alignctl)
    (tmp_path / "models" / "m0").rmdir()
    assert run(alignctl).returncode == 0
    shutil.rmtree(tmp_path / "models" / "cycles")
    done = run(alignctl)
    assert done.returncode == 2
    assert f"{alignctl.manifest}: status.promoted.uri: pvc://models/cycles/" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_sources_may_be_patterns_and_folders_of_logs_without_any_yet(
    alignctl: Alignctl, stand_in: StandIn, dataset: Manifest, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    (models / "logs").mkdir()
    (models / "pairs-1.jsonl").touch()
    sources = [
        {"name": "annotations", "files": {"uri": "pvc://models/pairs-*.jsonl"}},
        {"name": "bucket", "files": {"uri": "s3://bucket/pairs.jsonl"}},
        {"name": "logs", "inferenceLog": {"uri": "pvc://models/logs", "format": "OpenAI"}},
    ]
    file = tmp_path / "dataset.yaml"
    file.write_text(yaml.safe_dump({**dataset, "spec": {**dataset["spec"], "sources": sources}}))
    assert alignctl.ended("run", "-f", str(file)).returncode == 0
    (models / "pairs-1.jsonl").unlink()
    done = alignctl.ended("run", "-f", str(file))
    assert done.returncode == 2
    assert "spec.sources[0].files.uri: pvc://models/pairs-*.jsonl: is not there (looked for " in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_claim_that_no_uri_names_is_refused(alignctl: Alignctl, tmp_path: Path) -> None:
    done = run(alignctl, "--claim", f"model={tmp_path}")
    assert done.returncode == 2
    assert "no URI of these manifests names pvc://model; they name: pvc://models" in done.stderr
    assert not alignctl.state.exists()


def test_two_cycles_are_too_many(alignctl: Alignctl, cycle: Manifest) -> None:
    alignctl.manifest.write_text(yaml.safe_dump_all([cycle, {**cycle, "metadata": {"name": "other"}}]))
    done = run(alignctl)
    assert done.returncode == 2
    assert "one cycle at a time; these files hold assistant in" in done.stderr


def test_a_claim_that_is_no_pair_or_no_folder_is_told_so(alignctl: Alignctl) -> None:
    assert "--claim models: write NAME=DIR" in run(alignctl, "--claim", "models").stderr
    done = run(alignctl, "--claim", "models=nowhere")
    assert done.returncode == 2
    assert "--claim models=nowhere: nowhere is not a folder" in done.stderr


def test_a_state_folder_that_cannot_be_written_is_named(alignctl: Alignctl, stand_in: StandIn) -> None:
    alignctl.state.mkdir()
    (alignctl.state / "objects").write_text("in the way")
    done = run(alignctl)
    assert done.returncode == 1
    assert f"error: {alignctl.state}/objects/" in done.stderr
    assert "the same command goes on" in done.stderr


def test_the_object_is_printed_as_kubectl_would(alignctl: Alignctl, stand_in: StandIn) -> None:
    done = run(alignctl, "-o", "json")
    printed = json.loads(done.stdout)
    assert printed["kind"] == "AlignmentCycle"
    assert printed["status"]["iteration"]["outcome"] == "Promoted"
    assert "managedFields" not in printed["metadata"]
    assert "sample: started" in done.stderr
    assert yaml.safe_load(alignctl.ended("status", "assistant", "-o", "yaml").stdout) == printed


def test_held_is_4_and_an_approval_lets_the_same_command_promote(
    alignctl: Alignctl, stand_in: StandIn, cycle: Manifest
) -> None:
    change(alignctl, cycle, promotion={"mode": "Manual"})
    held = run(alignctl)
    assert held.returncode == 4
    assert "iteration 1: held for a person" in held.stdout
    assert f"alignctl approve assistant --state {alignctl.state}" in held.stdout
    approved = alignctl.ended("approve", "assistant")
    assert approved.returncode == 0
    assert "assistant: approve 1@sha256:" in approved.stdout
    assert run(alignctl).returncode == 0
    assert alignctl.cycle()["status"]["iteration"]["reason"] == "Approved"
    assert len((stand_in() / "sample.ran").read_text().splitlines()) == 1


def test_an_approval_of_evidence_that_does_not_wait_is_refused(
    alignctl: Alignctl, stand_in: StandIn, cycle: Manifest
) -> None:
    """Somebody has read a report, and meanwhile another iteration took its place."""
    change(alignctl, cycle, promotion={"mode": "Manual"})
    run(alignctl)
    sealed = alignctl.cycle()["status"]["iteration"]["evidenceDigest"]
    other = "sha256:0000" if not sealed.startswith("sha256:0000") else "sha256:1111"
    refused = alignctl.ended("approve", "assistant", "--evidence", other)
    assert refused.returncode == 1
    assert f"--evidence: {other}: is not what waits for a person: iteration 1 of assistant" in refused.stderr
    assert sealed in refused.stderr
    vague = alignctl.ended("approve", "assistant", "--evidence", "sha256:")
    assert (vague.returncode, "write a digest or its beginning" in vague.stderr) == (2, True)
    assert run(alignctl).returncode == 4
    assert alignctl.ended("approve", "assistant", "--evidence", sealed[:19]).returncode == 0
    assert run(alignctl).returncode == 0


def test_a_held_candidate_can_be_refused(alignctl: Alignctl, stand_in: StandIn, cycle: Manifest) -> None:
    change(alignctl, cycle, promotion={"mode": "Manual"})
    run(alignctl)
    assert alignctl.ended("reject", "assistant").returncode == 0
    assert alignctl.cycle()["status"]["iteration"]["outcome"] == "Rejected"


def test_an_approved_candidate_can_be_refused_until_it_is_promoted(
    alignctl: Alignctl, stand_in: StandIn, cycle: Manifest
) -> None:
    change(alignctl, cycle, promotion={"mode": "Manual"})
    run(alignctl)
    alignctl.ended("approve", "assistant")
    assert alignctl.ended("reject", "assistant").returncode == 0
    assert run(alignctl).returncode == 4
    assert [row["outcome"] for row in alignctl.cycle()["status"]["history"]] == ["Rejected"]


def test_a_verb_without_anything_to_decide_says_how_it_stands(alignctl: Alignctl, stand_in: StandIn) -> None:
    run(alignctl)
    done = alignctl.ended("approve", "assistant")
    assert done.returncode == 1
    assert "error: iteration 1 of assistant is Promoted; nothing waits for a person" in done.stderr
    assert "1 of assistant is Promoted; none is running" in alignctl.ended("cancel", "assistant").stderr
    assert "no AlignmentCycle nobody in folder" in alignctl.ended("reject", "nobody").stderr


def test_status_and_history_tell_what_ran(alignctl: Alignctl, stand_in: StandIn) -> None:
    stand_in("evaluate", {}, {"lengthRatio": 2.0})
    run(alignctl)
    run(alignctl)
    status = alignctl.ended("status")
    assert f"# folder {alignctl.state}" in status.stderr
    assert status.stdout.splitlines()[0].split() == [
        *("CYCLE", "READY", "ITERATION", "STAGE", "OUTCOME", "REASON", "PROMOTED", "NEXT", "RUN", "AGE")
    ]
    assert status.stdout.splitlines()[1].split()[:7] == [
        *("assistant", "True", "2", "evaluate", "Rejected", "LengthDrift", "1")
    ]
    one = alignctl.ended("status", "assistant").stdout
    assert "iteration 2: Rejected" in one
    assert "lengthDrift  Failed" in one
    history = [line.split() for line in alignctl.ended("history").stdout.splitlines()]
    assert [row[:4] for row in history[1:]] == [
        ["assistant", "2", "Rejected", "LengthDrift"],
        ["assistant", "1", "Promoted", "AllGatesPassed"],
    ]


def test_a_folder_where_nothing_ran_is_told_so(alignctl: Alignctl) -> None:
    done = alignctl.ended("status")
    assert done.returncode == 1
    assert f"error: --state {alignctl.state}: there is no such folder" in done.stderr
    alignctl.state.mkdir()
    assert "nothing was run in this folder yet" in alignctl.ended("status").stderr
