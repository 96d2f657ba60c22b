"""Model cards: README.md of a checkpoint, and of a promotion with what it was promoted on.

The header is Hugging Face's (https://huggingface.co/docs/hub/model-cards); of the start's own card license, languages
and base model are kept, for they hold on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData, metadata_load
from yaml import YAMLError

from alignment_api.digests import SIGNATURE_FILE
from alignment_api.evidence import Evidence
from alignment_api.gates import GateResult
from alignment_api.stage import StageConfig, TrainParameters

FILE = "README.md"
# Given so that they are not trained on; and what differs with the cycle, though the pairs are the same.
_NOT_SHOWN = ("goldSet", "heldOutPrompts", "pairs")
_KEPT = ("license", "license_name", "license_link", "language", "base_model")


def of_checkpoint(
    config: StageConfig, digests: Mapping[str, str], counts: Mapping[str, int], start: Path
) -> str:
    """What a checkpoint was trained from, on and how; the same for the same training. `digests` are the inputs'."""
    parameters = config.parameters
    assert isinstance(parameters, TrainParameters)
    training = parameters.training
    trained_from = {role: digest for role, digest in digests.items() if role not in _NOT_SHOWN}
    return "\n".join(
        [
            *_header(start, training.method),
            f"# Candidate of iteration {config.iteration}",
            "",
            f"Trained by {training.method} with alignment-operator. A candidate only: whether it was promoted,",
            "and on what evidence, the ledger of its cycle says.",
            "",
            *_table("Trained from", ("input", "digest"), sorted(trained_from.items())),
            *_table(
                "Settings",
                ("spec.training", ""),
                sorted((name, json.dumps(value)) for name, value in training.to_wire().items()),
            ),
            *_table("Work done", ("count", ""), sorted((name, str(value)) for name, value in counts.items())),
        ]
    )


def of_promotion(evidence: Evidence, evidence_digest: str, checkpoint: Path) -> str:
    """The same of the promoted checkpoint, with the gates' verdicts. `checkpoint` is its folder."""
    return "\n".join(
        [
            *_header(checkpoint, None),
            f"# {evidence.cycle}, iteration {evidence.iteration}",
            "",
            f"- checkpoint: `{evidence.candidate_uri}`, `{evidence.candidate_digest}`",
            f"- incumbent that it was compared with: `{evidence.incumbent_digest}`",
            f"- evidence: `{evidence_digest}` (evidence.json beside this file; `alignctl verify` checks it)",
            f"- cycle: {evidence.namespace}/{evidence.cycle}, UID {evidence.cycle_uid}",
            *_signature(evidence),
            "",
            *_table("Gates", ("gate", "verdict", "why"), map(_gate_row, evidence.gates)),
            *_table("Inputs", ("input", "digest"), sorted(evidence.inputs.items())),
            *_table(
                "Stages",
                ("stage", "manifest"),
                [(stage.name, stage.manifest_digest) for stage in evidence.stages],
            ),
        ]
    )


def _signature(evidence: Evidence) -> list[str]:
    signed = "signature" in evidence.spec.get("promotion", {})
    return [f"- signature: `{SIGNATURE_FILE}` in the checkpoint's folder"] if signed else []


def _gate_row(gate: GateResult) -> tuple[str, str, str]:
    return (
        gate.name,
        gate.verdict,
        " ".join([gate.message, *(f"Warning: {warning}" for warning in gate.warnings)]),
    )


def _header(model: Path, method: str | None) -> list[str]:
    known = _metadata(model / FILE)
    tags = ["alignment-operator", *([method.lower()] if method else [])]
    kept = {name: known[name] for name in _KEPT if name in known}
    return [
        "---",
        ModelCardData(
            library_name="transformers", pipeline_tag="text-generation", tags=tags, **kept
        ).to_yaml(),
        "---",
        "",
    ]


def _metadata(card: Path) -> Mapping[str, Any]:
    """Nothing where there is no card, or none that can be read: it is about the model, and no part of it."""
    try:
        found = metadata_load(card)
    except (OSError, ValueError, YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"## {title}", "", _line(head), "|" + " --- |" * len(head), *map(_line, rows), ""]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_inert(cell) for cell in cells) + " |"


def _inert(cell: str) -> str:
    """Text that can be no markup and no end of its cell."""
    return " ".join(cell.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;").split())
