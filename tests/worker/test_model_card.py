"""The model cards of a checkpoint and of a promotion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from alignment_api.evidence import Evidence
from alignment_api.gates import Gate, GateResult, Verdict
from alignment_api.stage import InputKind, TrainParameters
from alignment_worker import model_card
from tests.worker import training

DIGEST = "sha256:" + "a" * 64


def of_checkpoint(start: Path, **settings: Any) -> str:
    inputs = {"start": (start, InputKind.MODEL)}
    config = training.config(start / "out", inputs, TrainParameters(training=training.training(**settings)))
    return model_card.of_checkpoint(config, {"start": DIGEST, "goldSet": DIGEST}, {"steps": 12}, start)


def of_promotion(folder: Path, message: str, **promotion: Any) -> str:
    evidence = Evidence(
        namespace="team",
        cycle="support",
        cycle_uid="u",
        iteration=3,
        spec={"promotion": promotion},
        incumbent_digest=DIGEST,
        candidate_uri="pvc://models/x",
        candidate_digest=DIGEST,
        inputs={"policy": DIGEST},
        stages=[],
        gates=[GateResult(name=Gate.GOLD_SET, verdict=Verdict.PASSED, message=message, warnings=["look"])],
    )
    return model_card.of_promotion(evidence, DIGEST, folder)


def test_it_says_what_it_was_trained_from_and_how(tmp_path: Path) -> None:
    text = of_checkpoint(tmp_path, learning_rate=2e-4, lora={"rank": 4})
    assert f"| start | {DIGEST} |" in text
    assert "goldSet" not in text
    assert "| learningRate | 0.0002 |" in text
    assert '"rank": 4' in text
    assert "| steps | 12 |" in text


def test_license_and_base_model_of_the_start_hold_on(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\nlicense: llama3\nbase_model: acme/base\nlanguage: [de]\npipeline_tag: fill-mask\n---\nOld words.\n"
    )
    for text in (of_checkpoint(tmp_path), of_promotion(tmp_path, "fine")):
        header = yaml.safe_load(text.split("---")[1])
        assert (header["license"], header["base_model"], header["language"]) == (
            "llama3",
            "acme/base",
            ["de"],
        )
        assert (header["library_name"], header["pipeline_tag"]) == ("transformers", "text-generation")
        assert "Old words." not in text


def test_a_card_that_is_none_is_no_obstacle(tmp_path: Path) -> None:
    for content in ("", "no header", "---\nlicense: [\n---\n", "---\n- a\n---\n", "\x00\xff"):
        (tmp_path / "README.md").write_bytes(content.encode("latin-1"))
        assert "library_name: transformers" in of_checkpoint(tmp_path)


def test_what_gates_say_is_text(tmp_path: Path) -> None:
    text = of_promotion(tmp_path, "a | b\n| c </td><script>x</script>")
    (row,) = [line for line in text.splitlines() if line.startswith("| goldSet")]
    assert row == "| goldSet | Passed | a &#124; b &#124; c &lt;/td>&lt;script>x&lt;/script> Warning: look |"


def test_it_says_whether_the_checkpoint_is_signed(tmp_path: Path) -> None:
    signed = of_promotion(tmp_path, "fine", signature={"publicKeys": []})
    assert "- signature: `model.sig` in the checkpoint's folder\n" in signed
    assert "signature" not in of_promotion(tmp_path, "fine")
