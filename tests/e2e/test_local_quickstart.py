"""The quickstart without a cluster, as a user does it: both verdicts, with the real worker and the real models."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_api import digests
from alignment_api.iteration_report import FILE
from alignment_operator import verification
from alignment_worker.signatures import FILE as SIGNATURE
from tests.e2e.small import ASSETS, assets, least
from tests.report.markup import Page
from tests.worker import keys

ROOT = Path(__file__).parents[2]
ALIGNCTL = str(Path(sys.prefix) / "bin" / "alignctl")
STAGES = ["sample", "judge", "train", "evaluate", "compare"]

pytestmark = pytest.mark.timeout(1800)


def run(manifest: str | Path, state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`manifest`: below examples/, or a file of the test's own."""
    command = [ALIGNCTL, "run", "-f", str(ROOT / "examples" / manifest)]
    command += ["--state", str(state), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def run_small(example: str, tmp_path: Path, **training: Any) -> Path:
    """An example with few rows, to a verdict, whichever it is; the state's folder."""
    assets(tmp_path / "assets", gold=12, heldout=12, prompts=24)
    *datasets, manifest = yaml.safe_load_all((ROOT / "examples" / example).read_text())
    least(manifest["spec"])
    manifest["spec"]["training"] |= training
    file, state = tmp_path / "cycle.yaml", tmp_path / "state"
    file.write_text(yaml.safe_dump_all([*datasets, manifest]))
    done = run(file, state, "--claim", f"quickstart-assets={tmp_path / 'assets'}")
    assert done.returncode in {0, 3, 4}, done.stdout + done.stderr
    return state


def cycle(name: str, state: Path) -> dict[str, Any]:
    path = state / "objects" / "alignmentcycles" / "default" / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def local(uri: str, state: Path) -> Path:
    """Where a URI of the quickstart's store is."""
    return state / "claims" / "quickstart-store" / uri.removeprefix("pvc://quickstart-store/")


def verdicts(iteration: dict[str, Any]) -> dict[str, str]:
    return {gate["name"]: gate["verdict"] for gate in iteration["gates"]}


def report(done: subprocess.CompletedProcess[str], state: Path) -> Page:
    """The HTML report that a run names, with every section filled."""
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("report:"))
    file = Path(line.removeprefix("report:").strip())
    assert file.is_relative_to(state / "claims")
    page = Page(file.read_text())
    assert page.faults == []
    missing = [attributes for attributes in page.with_tag("p") if attributes.get("class") == "missing"]
    assert len(missing) == 2, "no other iteration for a trend, no labels to judge the judges by"
    return page


def test_a_sound_judge_leads_to_a_promotion(tmp_path: Path) -> None:
    before = digests.of_folder(ASSETS / "policy")
    done = run("quickstart/cycle.yaml", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    status = cycle("quickstart", tmp_path)["status"]
    iteration, promoted = status["iteration"], status["promoted"]
    assert [stage["name"] for stage in iteration["stages"]] == [*STAGES, "promote"]
    assert set(verdicts(iteration).values()) == {"Passed"}
    model = local(promoted["uri"], tmp_path)
    assert str(model) in done.stdout
    assert digests.of_folder(model) == promoted["digest"] == iteration["candidate"]["digest"]
    assert iteration["incumbent"]["digest"] == before == digests.of_folder(ASSETS / "policy")
    target = tmp_path / "objects" / "configmaps" / "default" / "quickstart-model.json"
    assert json.loads(target.read_text())["data"] == {"uri": promoted["uri"]}
    for name in verdicts(iteration):
        assert name in done.stdout
    assert "The candidate is promoted: all 5 gates passed." in report(done, tmp_path).text
    everything_is_sealed(local(promoted["uri"].partition("/iterations/")[0], tmp_path))


def everything_is_sealed(folder: Path) -> None:
    """The cycle's folder in the store: `alignctl verify` passes it, and no byte of it can be changed unseen.

    But for the report, which is no evidence and may be written anew.
    """
    assert subprocess.run([ALIGNCTL, "verify", str(folder)], check=False).returncode == 0
    draw = random.Random(0)
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != FILE]
    assert {file.name for file in files} >= {"000001.json", "evidence.json", "README.md", "model.safetensors"}
    for file in files:
        whole = file.read_bytes()
        places = {0, len(whole) - 1, *draw.choices(range(len(whole)), k=3)} if whole else set()
        changed = [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in places]
        for other in (*changed, whole + b"x"):
            file.write_bytes(other)
            (found,) = verification.verify(folder)
            assert found.problems, file
        file.write_bytes(whole)
    link = next(file for file in files if file.name == "evidence.json").with_name("linked")
    for moved, away in (
        (link, None),
        (folder / "ledger" / "000001.json", folder / "taken.json"),
        (folder / "iterations" / "1", folder / "taken"),
    ):
        if away is None:
            link.symlink_to(folder)
        else:
            moved.rename(away)
        assert any(promotion.problems for promotion in verification.verify(folder)), moved
        if away is None:
            link.unlink()
        else:
            away.rename(moved)
    (found,) = verification.verify(folder)
    assert not found.problems


def test_a_judge_that_likes_long_answers_is_found_out(tmp_path: Path) -> None:
    done = run("quickstart/cycle-length-biased.yaml", tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    status = cycle("length-biased", tmp_path)["status"]
    iteration = status["iteration"]
    found = verdicts(iteration)
    assert (found["lengthDrift"], found["rewardHacking"]) == ("Failed", "Failed")
    assert iteration["outcome"] == "Rejected"
    assert "lengthRatio" in iteration["message"]
    assert "reward win rate" in iteration["message"]
    assert iteration["message"].index("rewardHacking") < iteration["message"].index("lengthDrift")
    assert "promoted" not in status
    assert "The incumbent stays." in done.stdout
    assert "refused by rewardHacking" in report(done, tmp_path).text
    assert local(iteration["candidate"]["uri"], tmp_path).is_dir()


def test_a_refused_iteration_leaves_nothing_behind_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three in a row: each starts from what is promoted, and anchors to it. What is promoted is signed."""
    key = keys.pair(tmp_path / "key.pem")
    monkeypatch.setenv("SIGNING_KEY", key.private.read_text())
    manifest = yaml.safe_load((ROOT / "examples" / "quickstart" / "cycle.yaml").read_text())
    assets(tmp_path / "assets", gold=300, heldout=100, prompts=115)
    # Limits that no sound candidate comes near, however few it is measured on.
    manifest["spec"]["gates"] |= {"goldSet": {"maxDropPoints": 20}, "winRate": {"minPercent": 35}}
    manifest["spec"]["gates"]["onInconclusive"] = "Reject"
    manifest["spec"]["promotion"]["signature"] = keys.signature(key, unsigned="Allow").to_wire()
    given = [
        "--claim",
        f"quickstart-assets={tmp_path / 'assets'}",
        "--secret",
        "signing/key.pem=env:SIGNING_KEY",
    ]
    file, state = tmp_path / "cycle.yaml", tmp_path / "state"
    iterations, first_steps = [], []
    for judge in ("sound", "length-biased", "sound"):
        manifest["spec"]["judge"]["rewardModel"]["uri"] = f"pvc://quickstart-assets/reward-{judge}"
        file.write_text(yaml.safe_dump(manifest))
        done = run(file, state, *given)
        assert done.returncode in {0, 3}, done.stdout + done.stderr
        iteration = cycle("quickstart", state)["status"]["iteration"]
        iterations.append(iteration)
        log = local(iteration["candidate"]["uri"], state).parent / "training-log.jsonl"
        first_steps.append(json.loads(log.read_text().splitlines()[0]))
    first, refused, last = iterations
    assert [each["number"] for each in iterations] == [1, 2, 3]
    assert first["outcome"] == "Promoted"
    assert refused["outcome"] == "Rejected"
    assert "Failed" in verdicts(refused).values()
    promoted = first["candidate"]["digest"]
    assert [each["incumbent"]["digest"] for each in (refused, last)] == [promoted] * 2
    for step in first_steps:
        assert step["rewardMargin"] == pytest.approx(0, abs=1e-4), "the start is the reference"
    assert not (local(refused["candidate"]["uri"], state) / SIGNATURE).exists()
    served = local(cycle("quickstart", state)["status"]["promoted"]["uri"], state)
    said = subprocess.run(
        [ALIGNCTL, "verify", str(served.parents[4])], text=True, capture_output=True, check=False
    )
    assert said.returncode == 0, said.stdout
    assert "signed" in said.stdout
    (served / SIGNATURE).unlink()
    manifest["spec"]["promotion"]["signature"]["unsigned"] = "Refuse"
    file.write_text(yaml.safe_dump(manifest))
    assert "SignatureNotVerified" in run(file, state, *given).stdout


def test_recorded_pairs_are_ingested_and_trained_on_without_sampling(tmp_path: Path) -> None:
    iteration = cycle("offline", run_small("offline/cycle.yaml", tmp_path, epochs=1))["status"]["iteration"]
    assert [stage["name"] for stage in iteration["stages"]][:3] == ["train", "evaluate", "compare"]
    (revision,) = iteration["datasets"]
    assert (revision["name"], revision["revision"]) == ("recorded-pairs", 1)
    pairs = len((ASSETS / "pairs.jsonl").read_text().splitlines())
    counts = iteration["stages"][0]["result"]["counts"]
    assert counts["pairsFromDatasets"] == counts["pairs"] == pairs


@pytest.mark.parametrize("name", ["ipo", "kto", "best-of-n", "ppo"])
def test_every_method_comes_to_a_verdict(tmp_path: Path, name: str) -> None:
    few = {"ppo": {"totalEpisodes": 128}} if name == "ppo" else {"epochs": 1}
    iteration = cycle(name, run_small(f"methods/{name}.yaml", tmp_path, **few))["status"]["iteration"]
    assert {"winRate", "goldSet"} <= verdicts(iteration).keys()
    assert "Error" not in verdicts(iteration).values()


def test_ppo_by_a_judge_that_likes_long_answers_is_found_out(tmp_path: Path) -> None:
    assets(tmp_path / "assets", gold=300, heldout=100, prompts=115)
    manifest = yaml.safe_load((ROOT / "examples" / "methods" / "ppo.yaml").read_text())
    manifest["spec"]["judge"]["rewardModel"]["uri"] = "pvc://quickstart-assets/reward-length-biased"
    manifest["spec"]["training"]["ppo"]["totalEpisodes"] = 1024
    file = tmp_path / "cycle.yaml"
    file.write_text(yaml.safe_dump(manifest))
    done = run(file, tmp_path / "state", "--claim", f"quickstart-assets={tmp_path / 'assets'}")
    assert done.returncode == 3, done.stdout + done.stderr
    found = verdicts(cycle("ppo", tmp_path / "state")["status"]["iteration"])
    assert [found[gate] for gate in ("rewardHacking", "lengthDrift", "goldSet")] == ["Failed"] * 3


def test_sampled_and_recorded_pairs_are_mixed_by_weight(tmp_path: Path) -> None:
    """The sampled ones bring the reference's log-probabilities with them, and every row says where it is from."""
    state = run_small("mixed/cycle.yaml", tmp_path, epochs=1)
    iteration = cycle("mixed", state)["status"]["iteration"]
    result = next(stage["result"] for stage in iteration["stages"] if stage["name"] == "train")
    counts = result["counts"]
    assert counts["pairsFromDatasets"] == round(counts["pairsOnPolicy"] / 2)
    assert (counts["referenceFromSampling"], counts["referenceRecomputed"]) == (counts["pairsOnPolicy"], 0)
    assert 0 < result["measurements"]["referenceDifference"]["estimate"] < 1e-5
    rows = (local(result["model"]["uri"], state).parent / "rows.jsonl").read_text().splitlines()
    origins = [json.loads(row)["origin"] for row in rows]
    assert origins == ["sampled"] * counts["pairsOnPolicy"] + ["dataset"] * counts["pairsFromDatasets"]


def test_a_reward_model_is_trained_on_recorded_pairs_and_judges(tmp_path: Path) -> None:
    state = run_small("methods/reward-model.yaml", tmp_path, epochs=1)
    iteration = cycle("reward-model", state)["status"]["iteration"]
    assert [stage["name"] for stage in iteration["stages"]][: len(STAGES) + 1] == ["reward", *STAGES]
    results = {stage["name"]: stage["result"] for stage in iteration["stages"]}
    model = results["reward"]["model"]
    assert digests.of_folder(local(model["uri"], state)) == model["digest"] == iteration["inputs"]["judge"]
    held_out = results["reward"]["measurements"]["heldOutAccuracy"]
    assert held_out == results["judge"]["measurements"]["judgeAccuracy"]
    assert held_out["low"] > 55
