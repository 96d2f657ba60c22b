"""The stage `promote`: seals the evidence and appends to the cycle's ledger. Nothing is promoted without it.

Makes evidence.json, whose bytes are the canonical JSON that the evidence's digest is of, a model card, and, beside the
iterations, `ledger/NNNNNN.json`, written once for an iteration: what was promoted over what, and the digests of the
evidence and of all that this stage seals. Before that it signs the candidate, if spec.promotion.signature says so.
"""

from __future__ import annotations

import json
from typing import Any

from alignment_api import digests, names
from alignment_api.stage import SIGNED, PromoteParameters
from alignment_worker import model_card, signatures
from alignment_worker.failures import DigestMismatchError, InvalidConfigError, StoreConflictError
from alignment_worker.store import Outcome, create_exclusively
from alignment_worker.workspace import Workspace

FILE = "evidence.json"


def run(workspace: Workspace) -> Outcome:
    """Raises DigestMismatchError, StoreConflictError, InvalidConfigError, InputMissingError, StoreError, OSError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, PromoteParameters)
    check(workspace, parameters)
    signed = sign(workspace, parameters)
    evidence, folder = parameters.evidence, workspace.run_folder
    (folder / FILE).write_bytes(digests.canonical_json(evidence.to_wire()))
    card = model_card.of_promotion(evidence, parameters.evidence_digest, workspace.inputs.path("candidate"))
    (folder / model_card.FILE).write_text(card)
    append(workspace, parameters)
    return Outcome(counts={"sealed": 1} | ({SIGNED: 1} if signed else {}))


def check(workspace: Workspace, parameters: PromoteParameters) -> None:
    """The evidence is what was approved, of this iteration, and for the very bytes of this candidate."""
    evidence = parameters.evidence
    if evidence.digest() != parameters.evidence_digest:
        raise DigestMismatchError(
            f"parameters.evidence has digest {evidence.digest()}, but {parameters.evidence_digest} was to be sealed; "
            "the config was changed on its way"
        )
    if evidence.iteration != workspace.config.iteration or evidence.cycle_uid != workspace.config.owner_uid:
        raise InvalidConfigError(
            f"parameters.evidence: is of iteration {evidence.iteration} of cycle {evidence.cycle_uid}, not of "
            f"{workspace.config.iteration} of {workspace.config.owner_uid}"
        )
    workspace.inputs.path("candidate")
    found = workspace.inputs.digests["candidate"]
    if found != evidence.candidate_digest:
        raise DigestMismatchError(
            f"candidate has digest {found}, but the evidence is for {evidence.candidate_digest}; what was measured "
            "is not what would be promoted"
        )


def sign(workspace: Workspace, parameters: PromoteParameters) -> bool:
    """Whether the candidate carries a signature now. Raises as `signatures.sign`."""
    wanted = workspace.config.signature
    if wanted is not None:
        folder = workspace.inputs.path("candidate")
        signatures.sign(folder, parameters.evidence.candidate_digest, wanted, workspace.places.signing_key)
    return wanted is not None


def append(workspace: Workspace, parameters: PromoteParameters) -> None:
    """The ledger's entry of this iteration; one that says the same already is fine. Raises StoreConflictError."""
    folder = workspace.places.path(names.ledger_prefix(parameters.cycle_prefix))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{parameters.evidence.iteration:06d}.json"
    entry = entry_of(workspace, parameters)
    if not create_exclusively(file, digests.canonical_json(entry)) and _there(file.read_bytes()) != entry:
        raise StoreConflictError(
            f"{file} records another promotion of iteration {parameters.evidence.iteration}; two cycles must not share "
            "a folder, and a ledger is never rewritten"
        )


def entry_of(workspace: Workspace, parameters: PromoteParameters) -> dict[str, Any]:
    evidence = parameters.evidence
    return {
        "iteration": evidence.iteration,
        "candidate": {"uri": evidence.candidate_uri, "digest": evidence.candidate_digest},
        "incumbentDigest": evidence.incumbent_digest,
        "evidenceDigest": parameters.evidence_digest,
        "sealed": digests.of_folder(workspace.run_folder),
        "configHash": workspace.config_hash,
    }


def _there(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None
