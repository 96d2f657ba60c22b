"""An inference log as a source of a dataset."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from alignment_api.stage import ExitCode, IngestedLog, IngestedSource, IngestParameters, InputKind
from alignment_worker.ingestion import finding
from tests.worker import stages
from tests.worker.stages import Finished, an_input

ASKED = [{"role": "user", "content": "capital of France?"}]


def chat(
    name: str, answer: str, minute: int = 0, asked: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
    return {
        "kind": "chat",
        "id": name,
        "at": f"2026-11-23T09:{minute:02}:00.000Z",
        "request": {"messages": asked or ASKED},
        "response": {"id": name, "choices": [choice]},
    }


def said(name: str, **what: str) -> dict[str, Any]:
    return {"kind": "feedback", "id": name, "at": "2026-11-23T10:00:00.000Z", **what}


def ingested(folder: Path, **settings: Any) -> Finished:
    inputs = {"source/production": an_input(folder / "log", InputKind.INFERENCE_LOG)}
    source = IngestedSource(name="production", inference_log=IngestedLog(format="OpenAI", **settings))
    number = len(list(folder.glob("revisions/*"))) + 1
    parameters = IngestParameters(sources=[source])
    config = stages.config(folder / "revisions" / str(number), inputs, parameters, iteration=number)
    return stages.run(folder / "jobs", config)


def segment(folder: Path, name: str, *records: dict[str, Any] | bytes) -> None:
    path = folder / "log" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    data = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def test_edits_and_thumbs_become_rows(tmp_path: Path) -> None:
    segment(
        tmp_path,
        "2026-11-23/a.jsonl",
        chat("a", "Lyon"),
        chat("b", "Rome", asked=[{"role": "user", "content": "Italy?"}]),
    )
    segment(tmp_path, "2026-11-24/b.jsonl.gz", said("a", rating="down", edit="Paris"), said("b", rating="up"))
    segment(tmp_path, "2026-11-24/c.jsonl.part", chat("c", "not complete"))
    done = ingested(tmp_path)
    rows = {tuple(sorted(set(row) & {"chosen", "completion"})): row for row in done.rows("pairs.jsonl")}
    pair = rows["chosen",]
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == (
        ASKED,
        [{"role": "assistant", "content": "Paris"}],
        [{"role": "assistant", "content": "Lyon"}],
    )
    assert (pair["file"], pair["line"]) == ("2026-11-23/a.jsonl", 1)
    counts = done.result.counts
    assert (counts["kept"], counts["unpaired"], counts["answers"]) == (3, 2, 2)


def test_a_log_is_every_file_of_json_lines_however_compressed(tmp_path: Path) -> None:
    names = [f"a{kind}{packed}" for kind in (".json", ".jsonl") for packed in ("", ".gz", ".zst")]
    for name in (*names, "a.jsonl.part", "notes.txt"):
        segment(tmp_path, name)
    assert [file.name for file in finding.log_files_of(tmp_path / "log").found] == names


def test_the_same_log_gives_the_same_revision(tmp_path: Path) -> None:
    segment(
        tmp_path,
        "a.jsonl",
        chat("a", "Lyon"),
        chat("b", "Paris", 1),
        said("b", rating="up"),
        said("a", rating="down"),
    )
    assert ingested(tmp_path).result.manifest.digest == ingested(tmp_path).result.manifest.digest


def test_broken_lines_are_set_aside_with_their_place(tmp_path: Path) -> None:
    broken: list[dict[str, Any] | bytes] = [
        b'{"kind": "chat", "request"',
        {"kind": "chat", "request": [], "response": {}},
    ]
    segment(tmp_path, "a.jsonl", chat("a", "Lyon"), *broken, said("a", rating="down"))
    done = ingested(tmp_path)
    assert [(row["file"], row["line"], row["reason"]) for row in done.rows("rejected.jsonl")] == [
        ("a.jsonl", 2, "Invalid"),
        ("a.jsonl", 3, "Invalid"),
    ]
    assert (done.result.counts["kept"], done.result.counts["invalid"]) == (1, 2)


def test_open_pairs_are_counted_and_make_no_rows(tmp_path: Path) -> None:
    segment(
        tmp_path,
        "a.jsonl",
        chat("a", "Lyon"),
        chat("b", "Paris", 1),
        chat("c", "Nice", 2),
        said("c", rating="down"),
    )
    done = ingested(tmp_path)
    assert (done.result.counts["openPairs"], done.result.counts["kept"]) == (1, 1)


def test_a_part_of_the_prompts_is_read(tmp_path: Path) -> None:
    asked = [[{"role": "user", "content": str(number)}] for number in range(200)]
    records = [chat(f"a{number}", "x", asked=prompt) for number, prompt in enumerate(asked)]
    segment(tmp_path, "a.jsonl", *records, *(said(f"a{number}", rating="up") for number in range(200)))
    counts = ingested(tmp_path, sample_percent=20.0).result.counts
    assert counts["answers"] == counts["kept"]
    assert 20 <= counts["kept"] <= 60


def test_an_empty_log_is_no_revision(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    assert ingested(tmp_path).code == ExitCode.TOO_FEW_PAIRS


def test_what_nobody_judged_is_a_revision_of_prompts(tmp_path: Path) -> None:
    segment(
        tmp_path,
        "a.jsonl",
        chat("a", "Lyon"),
        chat("b", "Paris", asked=[{"role": "user", "content": " capital  of France? "}]),
        chat("c", "Rome", asked=[{"role": "system", "content": "Be brief."}, *ASKED]),
    )
    done = ingested(tmp_path)
    assert done.rows("pairs.jsonl") == []
    assert (done.result.counts["kept"], done.result.counts["prompts"]) == (0, 2)
    rows = done.rows("prompts.jsonl")
    assert sorted(row["line"] for row in rows) in ([1, 3], [2, 3])
    assert {len(row["prompt"]) for row in rows} == {1, 2}, "the form of a conversation is kept"
    assert {(row["source"], row["file"]) for row in rows} == {("production", "a.jsonl")}


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ([{"role": "user", "content": "half \ud800"}], "holds half a surrogate pair"),
        ([{"role": "user", "content": "a\0b"}], "holds a NUL"),
        ([{"role": "system", "content": ""}, *ASKED], "is empty"),
    ],
)
def test_what_no_stage_could_read_is_set_aside_with_its_place(
    tmp_path: Path, asked: list[dict[str, str]], problem: str
) -> None:
    segment(tmp_path, "a.jsonl", chat("a", "Lyon", asked=asked), said("a", rating="up"), chat("b", "Rome"))
    done = ingested(tmp_path)
    (row,) = done.rows("rejected.jsonl")
    assert (row["line"], row["reason"]) == (1, "Invalid")
    assert problem in row["problem"]
    assert (done.result.counts["kept"], done.result.counts["prompts"]) == (0, 1)


def test_a_log_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    done = ingested(tmp_path)
    assert done.code == ExitCode.INPUT_MISSING
    assert "log: is not there" in done.failure.message


def test_each_answer_keeps_the_model_that_gave_it(tmp_path: Path) -> None:
    old, new, unknown = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}", "v7"
    long = "Paris, as far as I know, and as everybody else knows too."
    segment(
        tmp_path,
        "a.jsonl",
        chat("a", long) | {"digest": old},
        chat("b", "Paris") | {"digest": new},
        chat("c", "Rome", asked=[{"role": "user", "content": "Italy?"}]) | {"digest": unknown},
        said("a", rating="up"),
        said("b", rating="down", edit="Paris!"),
        said("c", rating="up"),
    )
    done = ingested(tmp_path)
    judged = done.rows("pairs.jsonl")
    rows = {row["rejected" if "rejected" in row else "completion"][0]["content"]: row for row in judged}
    pairs = [row for row in judged if "chosen" in row]
    found = {(row.get("chosen_model"), row.get("rejected_model")) for row in pairs}
    assert found == {(None, new), (old, new)}, "who edits is no model"
    assert (rows[long]["model"], "model" in rows["Rome"]) == (old, False)
    counts = done.result.counts
    assert (counts[f"model/{old}"], counts[f"model/{new}"]) == (2, 3)
    assert (counts[f"longer/model/{new}"], counts[f"shorter/model/{new}"]) == (2, 0)
    assert counts["longer/source/production"] == 2
    (run,) = done.folder.glob("run-*")
    card = (run / "README.md").read_text()
    assert f"| `{new}` | 3 | 100.0 % of 2 |" in card
    assert card.index(new) < card.index(old)
