"""`alignctl verify` on what is no cycle's folder, and on a ledger alone; the whole of it is tried on the quickstart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from alignment_api import digests
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.evidence import Evidence
from alignment_api.gates import Gate, GateResult, Verdict
from alignment_api.stage import Located
from alignment_operator import verification
from alignment_operator.cli.main import alignctl
from alignment_operator.gates.verdicts import judge_all
from alignment_worker import signatures
from tests.worker import keys
from tests.worker.keys import Pair

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart" / "cycle.yaml"
DIGESTS = [f"sha256:{letter * 64}" for letter in "abcdef"]


NAMED = {
    "candidate": {"digest": DIGESTS[1]},
    "evidenceDigest": DIGESTS[5],
    "incumbentDigest": DIGESTS[0],
    "iteration": 1,
}


def entry(folder: Path, number: int, candidate: str, incumbent: str) -> Path:
    (folder / "ledger").mkdir(exist_ok=True)
    file = folder / "ledger" / f"{number:06d}.json"
    wire = {
        "iteration": number,
        "candidate": {"uri": f"pvc://models/iterations/{number}/train/run-1/model", "digest": candidate},
        "incumbentDigest": incumbent,
        "evidenceDigest": DIGESTS[5],
    }
    file.write_bytes(digests.canonical_json(wire))
    return file


def verify(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(alignctl, ["verify", *words])
    return done.exit_code, done.output


def test_a_folder_without_a_ledger_is_named(tmp_path: Path) -> None:
    code, said = verify(str(tmp_path))
    assert code != 0
    assert f"{tmp_path}: has no folder `ledger`; name the cycle's own folder" in said
    (tmp_path / "ledger").mkdir()
    code, said = verify(str(tmp_path))
    assert code != 0
    assert "holds no promotion" in said


def test_retention_lets_go_of_all_but_the_newest_promotion(tmp_path: Path) -> None:
    entry(tmp_path, 1, DIGESTS[1], DIGESTS[0])
    entry(tmp_path, 3, DIGESTS[2], DIGESTS[1])
    code, said = verify(str(tmp_path), "--evidence", DIGESTS[5])
    assert code == 1
    assert "no entry names" not in said
    assert said.count("collected") == 1
    assert f"{tmp_path}/iterations/3: is gone, but the newest promotion's folder is always kept" in said


def test_a_promotion_over_m0_after_a_rollback_to_it_is_no_fault(tmp_path: Path) -> None:
    entry(tmp_path, 1, DIGESTS[1], DIGESTS[0])
    entry(tmp_path, 3, DIGESTS[2], DIGESTS[0])
    assert "incumbentDigest" not in verify(str(tmp_path))[1]


def test_an_entry_that_was_taken_out_is_missed(tmp_path: Path) -> None:
    entry(tmp_path, 1, DIGESTS[1], DIGESTS[0])
    manifest = tmp_path / "iterations" / "2" / "promote" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    code, said = verify(str(tmp_path))
    assert code == 1
    assert f"ledger/000002.json: is gone, but {manifest} says that it was written" in said


def test_an_entry_under_another_name_is_told(tmp_path: Path) -> None:
    entry(tmp_path, 1, DIGESTS[1], DIGESTS[0]).rename(tmp_path / "ledger" / "1.json")
    assert "1.json: is not what the stage promote wrote" in verify(str(tmp_path))[1]


@pytest.mark.parametrize("digest", [DIGESTS[4], "", "sha256:"])
def test_evidence_that_no_entry_names_is_missed(tmp_path: Path, digest: str) -> None:
    entry(tmp_path, 1, DIGESTS[1], DIGESTS[0])
    code, said = verify(str(tmp_path), "--evidence", digest)
    assert code == 1
    assert f"no entry names the evidence {digest}" in said


def test_an_incumbent_that_was_never_promoted_is_told(tmp_path: Path) -> None:
    entry(tmp_path, 1, DIGESTS[1], DIGESTS[0])
    entry(tmp_path, 2, DIGESTS[2], DIGESTS[3])
    code, said = verify(str(tmp_path))
    assert code == 1
    assert f"incumbentDigest {DIGESTS[3]} was promoted by no entry before it" in said


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        json.dumps({"candidate": 1}),
        "\x00",
        json.dumps({"candidate": {"digest": 5}, "evidenceDigest": 6, "incumbentDigest": 7}),
        "[" * 100_000,
        json.dumps(NAMED | {"sealed": float("inf")}),
        json.dumps(
            {"candidate": {"digest": "\x1b[2J"}, "evidenceDigest": DIGESTS[0], "incumbentDigest": DIGESTS[1]}
        ),
    ],
)
def test_an_entry_that_is_none_is_told(tmp_path: Path, content: str) -> None:
    entry(tmp_path, 1, DIGESTS[1], DIGESTS[0]).write_text(content)
    code, said = verify(str(tmp_path))
    assert code == 1
    assert "000001.json: is no entry" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("name", ["²", "x", "-1"])
def test_an_entry_whose_name_is_no_number_is_told(tmp_path: Path, name: str) -> None:
    entry(tmp_path, 1, DIGESTS[1], DIGESTS[0]).rename(tmp_path / "ledger" / f"{name}.json")
    code, said = verify(str(tmp_path))
    assert code == 1
    assert f"{name}.json: is no" in said


def test_an_entry_that_names_no_iteration_is_told(tmp_path: Path) -> None:
    """And what it names is looked at."""
    wire = {key: value for key, value in NAMED.items() if key != "iteration"}
    entry(tmp_path, 1, DIGESTS[1], DIGESTS[0]).write_bytes(digests.canonical_json(wire))
    (tmp_path / "iterations" / "1").mkdir(parents=True)
    code, said = verify(str(tmp_path))
    assert code == 1
    assert "000001.json: is not what the stage promote wrote" in said
    assert "promote/manifest.json: cannot be read" in said


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"run": "run-1"}',
        '{"files": {}}',
        '{"run": 1, "files": {}}',
        '{"run": "run-1", "files": {"run-1/evidence.json": 5}}',
    ],
)
def test_a_manifest_that_is_none_is_told(tmp_path: Path, content: str) -> None:
    entry(tmp_path, 1, DIGESTS[1], DIGESTS[0])
    manifest = tmp_path / "iterations" / "1" / "promote" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(content)
    code, said = verify(str(tmp_path))
    assert code == 1
    assert f"{manifest}: is no" in said


@pytest.fixture
def key(tmp_path: Path) -> Pair:
    return keys.pair(tmp_path / "key.pem")


@pytest.fixture
def signed(tmp_path: Path, key: Pair) -> tuple[Path, Evidence]:
    """The folder of an iteration with a candidate that was sealed and then signed, and its evidence."""
    iteration = tmp_path / "iterations" / "1"
    model = iteration / "train" / "run-1" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    listing = {"run-1/model/config.json": digests.of_file(model / "config.json")}
    (iteration / "train" / "manifest.json").write_text(json.dumps({"run": "run-1", "files": listing}))
    wanted = keys.signature(key)
    signatures.sign(model, digests.of_folder(model), wanted, key.private)
    spec = yaml.safe_load(QUICKSTART.read_text())["spec"]
    spec["promotion"]["signature"] = wanted.to_wire()
    return iteration, evidence_of(spec, "pvc://models/iterations/1/train/run-1/model", [])


def looked_at(signed: tuple[Path, Evidence], *public_keys: str) -> list[str]:
    """What `verify` has to say of the signature, and of files that no manifest names."""
    checked = verification._Iteration(signed[0], {}, public_keys)
    said = [*checked._stage_files("train", None, signed[1]), *checked._signature(signed[1])]
    assert checked.signed == (not said)
    return said


def test_a_signature_is_looked_at_by_the_keys_of_the_evidence(signed: tuple[Path, Evidence]) -> None:
    assert looked_at(signed) == []
    (signed[0] / "train" / "run-1" / "model" / "more.json").write_text("{}")
    unnamed, unsigned = looked_at(signed)
    assert "more.json: no manifest names it" in unnamed
    assert "model.sig: " in unsigned
    assert "more.json" in unsigned


def test_a_signature_that_is_gone_is_missed(signed: tuple[Path, Evidence]) -> None:
    (signed[0] / "train" / "run-1" / "model" / "model.sig").unlink()
    (said,) = looked_at(signed)
    assert "has no model.sig" in said


def test_a_signature_is_looked_at_by_keys_that_are_brought(
    signed: tuple[Path, Evidence], key: Pair, tmp_path: Path
) -> None:
    """The evidence, and its keys, may be of somebody who can write to the store."""
    other = keys.pair(tmp_path / "other.pem")
    assert looked_at(signed, key.public) == []
    assert looked_at(signed, other.public, key.public) == []
    (said,) = looked_at(signed, other.public)
    assert "is of another key than the public keys given" in said


def evidence_of(spec: dict[str, Any], uri: str, gates: list[GateResult]) -> Evidence:
    return Evidence(
        namespace="default",
        cycle="quickstart",
        cycle_uid="1",
        iteration=1,
        spec=spec,
        incumbent_digest=DIGESTS[0],
        candidate_uri=uri,
        candidate_digest=DIGESTS[1],
        inputs={},
        stages=[],
        gates=gates,
    )


def test_what_no_gate_could_judge_was_not_promoted_by_them(tmp_path: Path) -> None:
    """Though the gates say the same when they are asked again."""
    wire = yaml.safe_load(QUICKSTART.read_text())["spec"]
    uri = "pvc://models/iterations/1/train/run-1/model"
    gates = judge_all(AlignmentCycleSpec.from_wire(wire), {}, {}, Located(uri=uri, digest=DIGESTS[1]))
    evidence = evidence_of(wire, uri, list(gates))
    told = list(verification._verdicts(evidence, {}, tmp_path))
    assert len(told) == len(gates)
    assert all("is Error, which nobody can approve" in line for line in told)


@pytest.mark.parametrize("verdict", [Verdict.INCONCLUSIVE, Verdict.PASSED])
def test_it_tells_what_only_a_person_can_have_promoted(tmp_path: Path, verdict: Verdict) -> None:
    gate = GateResult(
        name=Gate.GOLD_SET, verdict=verdict, reason=None, measurements={}, limit=0, message="", warnings=[]
    )
    evidence = evidence_of({}, "pvc://models/iterations/1/train/run-1/model", [gate])
    run = tmp_path / "promote" / "run-1"
    run.mkdir(parents=True)
    (run / "evidence.json").write_bytes(digests.canonical_json(evidence.to_wire()))
    (run.parent / "manifest.json").write_text('{"run": "run-1", "files": {}}')
    wire = NAMED | {"evidenceDigest": evidence.digest()}
    checked = verification._Iteration(tmp_path, wire, [])
    list(checked.problems())
    assert checked.approved == (verdict is Verdict.INCONCLUSIVE)
