"""`alignctl plan` and `alignctl render`: the iteration without the work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from alignment_operator.cli.plan import limits
from tests.cli.conftest import Alignctl
from tests.cli.manifests import CYCLE, DATASET, with_spec, write
from tests.operator.plan_world import cycle_spec


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write(tmp_path / "cycle.yaml", CYCLE)


def test_the_plan_counts_what_is_on_this_machine(alignctl: Alignctl, tmp_path: Path, manifest: Path) -> None:
    models = tmp_path / "elsewhere"
    models.mkdir()
    (models / "prompts.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n\n')
    done = alignctl("plan", "-f", manifest, "--claim", f"models={models}")
    assert done.returncode == 0, done.stderr
    assert "2 prompts × 4 = 8 completions" in done.stdout
    assert "prompts: pvc://models/prompts.jsonl (2 rows)" in done.stdout


def test_the_plan_tells_that_there_are_fewer_prompts_than_wanted(alignctl: Alignctl, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "prompts.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    text = CYCLE.replace("prompts.jsonl\n", "prompts.jsonl\n    perIteration: 500\n", 1)
    shown = alignctl("plan", "-f", write(tmp_path / "cycle.yaml", text)).stdout
    assert "2 prompts × 4 = 8 completions (perIteration is 500)" in shown


def test_the_plan_names_what_is_not_there(alignctl: Alignctl, tmp_path: Path, manifest: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "prompts.jsonl").write_text('{"prompt": "a"}\n')
    shown = alignctl("plan", "-f", manifest).stdout
    assert "prompts: pvc://models/prompts.jsonl (1 rows)" in shown
    assert "goldSet: pvc://models/gold.jsonl (not there: models/gold.jsonl)" in shown
    made_by_stages = [line for line in shown.splitlines() if "/iterations/1/" in line]
    assert made_by_stages
    assert not any("not there" in line for line in made_by_stages)


def test_the_plan_resolves_defaults_and_shows_where_artifacts_go(alignctl: Alignctl, manifest: Path) -> None:
    shown = alignctl("plan", "-f", manifest).stdout
    assert "cycle assistant, iteration 1" in shown
    assert "every prompt × 4 completions" in shown
    assert "learning rate 5e-07" in shown
    assert "→ pvc://models/cycles/default/assistant/UID/iterations/1/train" in shown
    assert "no category drops by more than 2 points" in shown
    assert "is held for a person" in shown


def test_lora_raises_the_default_learning_rate(alignctl: Alignctl, tmp_path: Path) -> None:
    manifest = write(tmp_path / "lora.yaml", with_spec("training: {lora: {rank: 8}}"))
    shown = alignctl("plan", "-f", manifest).stdout
    assert "LoRA of rank 8" in shown
    assert "learning rate 1e-05" in shown


@pytest.mark.parametrize(
    ("training", "shown"),
    [
        ("{}", "DPO, full fine-tuning, β 0.1, learning rate 5e-07, 1 epoch in steps of 32 pairs"),
        ("{method: IPO}", "IPO, full fine-tuning, β 1, learning rate 5e-07, 1 epoch in steps of 32 pairs"),
        ("{method: KTO, lora: {}}", "alpha 32, β 0.1, learning rate 1e-05, 1 epoch in steps of 32 rows"),
        (
            "{method: BestOfN}",
            "BestOfN, full fine-tuning, learning rate 1e-05, 1 epoch in steps of 32 answers",
        ),
        ("{method: BestOfN, lora: {}}", "learning rate 0.0002"),
        ("{method: IPO, beta: 0.2, arguments: {warmup_steps: 3}}", "β 0.2, learning rate 5e-07"),
        ("{method: IPO, beta: 0.2, arguments: {warmup_steps: 3}}", "precision Auto, warmup_steps 3"),
    ],
)
def test_each_method_has_its_defaults(training: str, shown: str, alignctl: Alignctl, tmp_path: Path) -> None:
    manifest = write(tmp_path / "method.yaml", with_spec(f"training: {training}"))
    assert shown in " ".join(alignctl("plan", "-f", manifest).stdout.split())


def test_a_plan_of_ppo_counts_its_batches(alignctl: Alignctl, tmp_path: Path) -> None:
    manifest = write(tmp_path / "ppo.yaml", with_spec("training: {method: PPO, lora: {rank: 8}}"))
    shown = alignctl("plan", "-f", manifest).stdout
    assert "PPO, LoRA of rank 8, alpha 32, β 0.1, learning rate 2e-05, 312 batches of 32 completions" in shown
    assert "scored by the verifier" in shown
    assert "sample" not in [line.split()[0] for line in shown.splitlines() if line[:1].strip()]


def test_a_server_that_samples_is_named_and_rendered(alignctl: Alignctl, tmp_path: Path) -> None:
    manifest = write(
        tmp_path / "served.yaml", with_spec("sampling: {server: {image: vllm/vllm-openai:v0.33.0}}")
    )
    assert "by the server vllm/vllm-openai:v0.33.0" in alignctl("plan", "-f", manifest).stdout
    rendered = alignctl("render", "-f", manifest)
    assert rendered.returncode == 0, rendered.stderr
    assert rendered.stdout.count("image: vllm/vllm-openai:v0.33.0") == 1
    refused = alignctl("run", "-f", manifest)
    assert refused.returncode == 2
    assert "served.yaml:" in refused.stderr
    assert "spec.sampling.server.image: vllm/vllm-openai:v0.33.0: needs a cluster to run in" in refused.stderr


def test_an_offline_cycle_has_no_stage_sample(alignctl: Alignctl, tmp_path: Path) -> None:
    text = with_spec("datasets: [{name: feedback}]").replace(
        "  prompts:\n    uri: pvc://models/prompts.jsonl\n", ""
    )
    text = text.replace("  judge:\n    verifier: {}\n", "")
    done = alignctl("plan", "-f", write(tmp_path / "offline.yaml", f"{text}---\n{DATASET}"))
    assert done.returncode == 0, done.stderr
    stages = [line.split()[0] for line in done.stdout.splitlines() if line and not line.startswith(" ")]
    assert "sample" not in stages
    assert {"ingest", "train", "evaluate", "promote"} <= set(stages)


def test_the_plan_says_that_false_discoveries_are_controlled() -> None:
    asked = dict(limits(cycle_spec(gates={"winRate": {"falseDiscoveryPercent": 5}}).gates))
    assert "false ones among all that pass: 5 % at most" in asked["winRate"]
    assert "false" not in dict(limits(cycle_spec(gates={"winRate": {}}).gates))["winRate"]


@pytest.fixture
def rewarding(tmp_path: Path) -> Path:
    """A cycle that trains its own judge."""
    text = with_spec("datasets: [{name: feedback}]\nreward: {model: pvc://models/m0, epochs: 2}")
    text = text.replace("verifier: {}", "rewardModel: {}")
    return write(tmp_path / "reward.yaml", f"{text}---\n{DATASET}")


def test_the_plan_says_how_a_reward_model_is_trained_and_that_it_judges(
    alignctl: Alignctl, rewarding: Path
) -> None:
    done = alignctl("plan", "-f", rewarding)
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert (
        "a reward model on every pair of the datasets, at least 2000; learning rate 1e-05, 2 epochs" in shown
    )
    assert "by the reward model that the stage reward trains" in shown
    assert "backbone: pvc://models/m0" in shown
    assert shown.index(" reward ") < shown.index(" sample ")


def test_the_judge_to_come_is_rendered_with_a_digest_to_come(alignctl: Alignctl, rewarding: Path) -> None:
    jobs = [job for job in yaml.safe_load_all(alignctl("render", "-f", rewarding).stdout) if job]
    configs = {}
    for job in jobs:
        annotations = job["spec"]["template"]["metadata"]["annotations"]
        config = json.loads(annotations["alignment.dev/stage-config"])
        configs[config["stage"]] = config
    judge = configs["judge"]["inputs"]["judge"]
    assert judge["digest"] == "<digest of the reward model>"
    assert judge["uri"].endswith("/iterations/1/reward/run-RUN/model")


@pytest.mark.parametrize("command", ["plan", "render"])
def test_a_dataset_whose_manifest_is_missing_is_named(
    alignctl: Alignctl, tmp_path: Path, command: str
) -> None:
    manifest = write(tmp_path / "cycle.yaml", with_spec("datasets: [{name: feedback}]"))
    done = alignctl(command, "-f", manifest)
    assert done.returncode == 2
    assert "feedback: no PreferenceDataset of that name; give its manifest too: -f FILE" in done.stderr


def test_plan_writes_nothing(alignctl: Alignctl, tmp_path: Path, manifest: Path) -> None:
    alignctl("plan", "-f", manifest)
    assert [path.name for path in tmp_path.iterdir()] == ["cycle.yaml"]


def test_render_prints_the_jobs_of_every_stage(alignctl: Alignctl, manifest: Path) -> None:
    done = alignctl("render", "-f", manifest)
    assert done.returncode == 0, done.stderr
    jobs = [job for job in yaml.safe_load_all(done.stdout) if job]
    assert [job["metadata"]["labels"]["alignment.dev/stage"] for job in jobs] == [
        "sample",
        "judge",
        "train",
        "evaluate",
        "promote",
    ]
    assert {job["kind"] for job in jobs} == {"Job"}
    assert jobs[0]["metadata"]["name"] == "assistant-1-sample-0-xxxxxx"


def test_what_is_not_known_yet_is_written_as_such(alignctl: Alignctl, manifest: Path) -> None:
    jobs = list(yaml.safe_load_all(alignctl("render", "-f", manifest).stdout))
    configs = {}
    for job in jobs:
        annotations = job["spec"]["template"]["metadata"]["annotations"]
        config = json.loads(annotations["alignment.dev/stage-config"])
        configs[config["stage"]] = config
    assert "digest" not in configs["sample"]["inputs"]["prompts"]
    assert configs["judge"]["inputs"]["samples"]["digest"] == "<digest of what sample made>"
    assert configs["evaluate"]["inputs"]["goldSet"]["digest"] == "<digest of goldSet>"
    assert configs["evaluate"]["inputs"]["candidate"]["digest"] == "<digest of the candidate>"
    assert configs["promote"]["parameters"]["evidenceDigest"] == "<digest of the evidence>"


def test_the_images_are_the_manifests_or_this_versions(alignctl: Alignctl, tmp_path: Path) -> None:
    manifest = write(tmp_path / "cycle.yaml", with_spec("stages: {train: {image: example.com/worker:gpu}}"))
    jobs = list(yaml.safe_load_all(alignctl("render", "-f", manifest).stdout))
    images = {
        job["metadata"]["labels"]["alignment.dev/stage"]: job["spec"]["template"]["spec"]["containers"][0][
            "image"
        ]
        for job in jobs
    }
    assert images["train"] == "example.com/worker:gpu"
    assert images["sample"].startswith("ghcr.io/alignment-dev/worker:")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{}", "Started by the annotation alignment.dev/run."),
        ("suspend: true", "Started by nothing while spec.suspend is true."),
        ("trigger: {schedule: '0 0 29 2 *'}", "the schedule '0 0 29 2 *' in Etc/UTC, next at 20"),
    ],
)
def test_the_plan_says_what_starts_an_iteration(
    alignctl: Alignctl, tmp_path: Path, spec: str, said: str
) -> None:
    manifest = write(tmp_path / "started.yaml", CYCLE if spec == "{}" else with_spec(spec))
    assert said in alignctl("plan", "-f", manifest).stdout
