"""A gold set from what other tools leave: rows as lm-evaluation-harness writes them, and plain ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from alignment_api.stage import InputKind
from alignment_worker import graders, rows
from alignment_worker.gold_import.__main__ import main

Row = dict[str, Any]


def sample(doc_id: int, target: str, *requests: tuple[Any, Any], **more: Any) -> Row:
    """A row of samples_TASK_DATE.jsonl."""
    arguments = {
        f"gen_args_{n}": {"arg_0": asked, "arg_1": given} for n, (asked, given) in enumerate(requests)
    }
    logged = {
        "doc_id": doc_id,
        "doc": {"question": f"Question {doc_id}?"},
        "target": target,
        "arguments": arguments,
    }
    return logged | {"resps": [["x"]], "filtered_resps": ["x"], "metrics": ["exact_match"]} | more


UNTIL = {"until": ["Question:"], "do_sample": False}
GSM8K = [
    sample(0, "9 * 2 = <<9*2=18>>18\n#### 1,018", ("Question: Eggs?\nAnswer:", UNTIL), filter="strict-match"),
    sample(1, "It is\n#### 3", ("Question: Bolts?\nAnswer:", UNTIL), filter="strict-match"),
    sample(
        0, "9 * 2 = <<9*2=18>>18\n#### 1,018", ("Question: Eggs?\nAnswer:", UNTIL), filter="flexible-extract"
    ),
]


def written(folder: Path, name: str, *some: Row | str) -> str:
    lines = (each if isinstance(each, str) else json.dumps(each) for each in some)
    file = folder / name
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)


def imported(folder: Path, *arguments: str) -> list[Row]:
    """What it wrote; it must be a gold set that the worker reads."""
    output = folder / "gold.jsonl"
    assert main([*arguments, "-o", str(output)]) == 0
    rows.read(output, InputKind.GOLD_SET)
    return rows.load(output)


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    output = folder / "gold.jsonl"
    assert main([*arguments, "-o", str(output)]) == 1
    assert not output.exists()
    return capsys.readouterr().err


def test_a_generated_number_is_what_follows_the_mark_once_a_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "samples_gsm8k_2026-01-16T15-23-47.285735.jsonl", *GSM8K)
    assert imported(tmp_path, file, "--grader", "Numeric") == [
        {"prompt": "Question: Eggs?\nAnswer:", "answer": "1,018", "grader": "Numeric", "category": "gsm8k"},
        {"prompt": "Question: Bolts?\nAnswer:", "answer": "3", "grader": "Numeric", "category": "gsm8k"},
    ]
    said = capsys.readouterr().out
    assert "gold.jsonl: 2 items" in said
    assert "gsm8k: 2, Numeric" in said
    assert "passed over, a document again under another filter: 1" in said


def test_the_harness_own_columns_may_be_named_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "samples_gsm8k_2026-01-16T15-23-47.jsonl", *GSM8K)
    named = ["--column", "doc.question=prompt", "--column", "target=answer"]
    some = imported(tmp_path, file, "--grader", "Numeric", *named)
    assert [row["prompt"] for row in some] == ["Question 0?", "Question 1?"]
    assert "under another filter: 1" in capsys.readouterr().out


def test_choices_by_likelihood_are_labels_or_texts(tmp_path: Path) -> None:
    mmlu = sample(0, "2", *[("Which?\nA. a\nB. b\nC. c\nD. d\nAnswer:", f" {label}") for label in "ABCD"])
    arc = sample(0, "1", ("Question: Warm?\nAnswer:", " the moon"), ("Question: Warm?\nAnswer:", " the sun"))
    labels = written(tmp_path, "samples_mmlu_anatomy_2026-01-16T15-23-47.jsonl", mmlu)
    (tmp_path / "texts").mkdir()
    (row,) = imported(tmp_path, labels, "--grader", "Choice", "--category", "knowledge")
    assert (row["answer"], row["category"]) == ("C", "knowledge")
    texts = written(tmp_path / "texts", "samples_arc_easy_2026-01-16T15-23-47.jsonl", arc)
    (row,) = imported(tmp_path / "texts", texts, "--grader", "Exact")
    assert (row["answer"], row["category"]) == ("the sun", "arc_easy")


def test_texts_are_no_labels_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arc = sample(0, "1", ("Warm?", " the moon"), ("Warm?", " the sun"))
    other = sample(1, "0", ("He saw it. He", " ran"), ("He saw it. She", " ran"))
    file = written(tmp_path, "samples_arc_easy_2026-01-16T15-23-47.jsonl", arc, other)
    said = refused(tmp_path, capsys, file, "--grader", "Choice")
    assert "not one row could be taken, and nothing was written" in said
    assert "line 1: `answer` 'the sun' is not one letter or number" in said
    assert "line 2: asks for the likelihood of 2 different texts" in said


def test_any_of_several_accepted_answers_is_right(tmp_path: Path) -> None:
    target = str(["New York", "NYC", "New York (city)", "C++"])
    file = written(
        tmp_path, "samples_triviaqa_2026-01-16T15-23-47.jsonl", sample(0, target, ("City?", UNTIL))
    )
    (row,) = imported(tmp_path, file, "--grader", "Regex")
    told = {
        "It is nyc.": True,
        "new york (City), of course": True,
        "a NYCer": False,
        "c++!": True,
        "C": False,
    }
    assert {text: graders.is_right("Regex", row["answer"], text) for text in told} == told


def test_chat_messages_are_kept_as_such_and_old_logs_are_read(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Eggs?"}]
    asked = sample(0, "3", ([json.dumps(chat)], UNTIL))
    old = sample(1, "4") | {"arguments": [["Bolts?", UNTIL]]}
    file = written(tmp_path, "samples_sums_2026-01-16T15-23-47.jsonl", asked, old)
    assert [row["prompt"] for row in imported(tmp_path, file, "--grader", "Numeric")] == [chat, "Bolts?"]


def test_plain_rows_have_columns_of_other_names(tmp_path: Path) -> None:
    arc = {
        "question": {"stem": "Warm?"},
        "choices": {"text": ["the moon", "the sun"], "label": ["1", "2"]},
        "answerKey": "2",
        "subject": "physics",
    }
    mmlu = {"question": {"stem": "Bone?"}, "choices": ["a", "b", "c"], "answerKey": 2, "subject": "anatomy"}
    file = written(tmp_path, "some.jsonl", arc, mmlu)
    named = ["question.stem=prompt", "answerKey=answer", "subject=category"]
    options = [option for name in named for option in ("--column", name)]
    first, second = imported(tmp_path, file, *options, "--grader", "Choice")
    assert first["prompt"] == "Warm?\n1. the moon\n2. the sun\nAnswer:"
    assert (first["answer"], first["category"]) == ("2", "physics")
    assert (second["answer"], second["category"]) == ("C", "anatomy")


def test_each_row_that_cannot_be_taken_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = {"prompt": "One and one?", "answer": 2, "grader": "Numeric", "category": "sums"}
    file = written(
        tmp_path,
        "plain.jsonl",
        good,
        good | {"prompt": "ONE AND ONE"},
        good | {"prompt": "Two?", "answer": {"value": "zwei"}},
        good | {"prompt": "Three?", "answer": None},
        {"prompt": "Four?", "answer": 4, "category": "sums"},
        {"prompt": "Five?", "answer": 5, "grader": "Numeric"},
        good | {"prompt": "Six?", "answer": ["6", "six"], "grader": "Exact"},
        "{",
    )
    assert len(imported(tmp_path, file)) == 1
    said = re.sub(r"\S*plain\.jsonl: ", "", capsys.readouterr().out)
    for problem in (
        "could not be taken: 7",
        "line 2: asks what line 1 asks",
        "line 3: `answer` 'zwei' is not a number",
        "line 4: `answer` is neither text, a number, nor a list of such",
        "line 5: has no `grader`; give --grader",
        "line 6: has no `category`; give --category",
        "line 7: has 2 accepted answers; --grader Regex accepts any of them",
        "line 8: is not JSON",
    ):
        assert problem in said, problem


def test_a_column_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "plain.jsonl", {"q": "a", "answer": "b"})
    said = refused(tmp_path, capsys, file, "--column", "doc.q=prompt", "--grader", "Exact", "--category", "c")
    assert "`doc.q` is missing (here is: 'q', 'answer')" in said


def test_a_file_that_is_there_or_not_there_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "plain.jsonl", {"prompt": "a", "answer": "b"})
    options = ["--grader", "Exact", "--category", "c"]
    imported(tmp_path, file, *options)
    before = (tmp_path / "gold.jsonl").read_bytes()
    assert main([file, *options, "-o", str(tmp_path / "gold.jsonl")]) == 1
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "gold.jsonl").read_bytes() == before
    assert main([str(tmp_path / "none.jsonl"), *options, "-o", str(tmp_path / "new.jsonl")]) == 1
    assert "none.jsonl: cannot be read" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gold.jsonl", "plain.jsonl"]


def test_where_the_gold_set_cannot_be_put_is_said_by_its_own_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, "rows.jsonl", {"prompt": "q", "answer": "A"})
    for output, said in (
        (tmp_path / "missing" / "gold.jsonl", f"there is no folder {tmp_path / 'missing'}; make it"),
        (tmp_path / "rows.jsonl" / "gold.jsonl", f"there is no folder {tmp_path / 'rows.jsonl'}; make it"),
        (tmp_path / f"{'g' * 248}.jsonl", "cannot be written: File name too long"),
    ):
        assert main([file, *FOR_ALL, "-o", str(output)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {output}: ")
        assert said in line
        assert ".half" not in line
    assert [each.name for each in tmp_path.iterdir()] == ["rows.jsonl"]


def test_too_many_categories_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = [{"prompt": f"p{n}", "answer": "b", "category": f"c{n}"} for n in range(17)]
    said = refused(tmp_path, capsys, written(tmp_path, "plain.jsonl", *some), "--grader", "Exact")
    assert "has 17 categories" in said


@pytest.mark.parametrize("column", ["question", "question=text", "=prompt"])
def test_a_column_of_no_known_name_is_a_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["a.jsonl", "-o", str(tmp_path / "gold.jsonl"), "--column", column])
    assert (
        "write COLUMN=NAME with a name of prompt, answer, choices, grader, category"
        in capsys.readouterr().err
    )


FOR_ALL = ("--grader", "Choice", "--category", "c")


@pytest.mark.parametrize(
    ("row", "options", "problem"),
    [
        (sample(0, "9" * 5000, ("Q", " a"), ("Q", " b")), FOR_ALL, "is none of its 2 choices"),
        (sample(0, "a", (["[" * 100_000], UNTIL)), FOR_ALL, "is no chat of text messages"),
        ({"prompt": "q", "answer": 1, "choices": {"text": ["a", "b"], "label": 5}}, FOR_ALL, "is no list"),
        ({"prompt": "q", "answer": "a", "choices": ["a", "a"]}, FOR_ALL, "'a' is none of its 2 choices"),
        ({"prompt": "q", "answer": "A", "category": ["x"]}, FOR_ALL[:2], "is no name; give --category"),
        ({"prompt": "q", "answer": "A", "category": "\x1b[2J"}, FOR_ALL[:2], "cannot be printed"),
        ({"\x1b[2J": "q", "answer": "A"}, (*FOR_ALL, "--column", "z=prompt"), "`z` is missing"),
    ],
)
def test_a_row_that_is_odd_in_another_way_is_listed_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: Row, options: tuple[str, ...], problem: str
) -> None:
    said = refused(tmp_path, capsys, written(tmp_path, "odd.jsonl", row), *options)
    assert "line 1: " in said
    assert problem in said
    assert "\x1b" not in said


def test_a_label_is_meant_before_a_place_and_a_whole_name_before_a_path(tmp_path: Path) -> None:
    choices = {"text": ["a", "b"], "label": ["1", "2"]}
    file = written(tmp_path, "arc.jsonl", {"doc.question": "q", "answer": 1, "choices": choices})
    (row,) = imported(tmp_path, file, *FOR_ALL, "--column", "doc.question=prompt")
    assert row["answer"] == "1"


def test_a_single_alias_is_one_answer(tmp_path: Path) -> None:
    file = written(tmp_path, "trivia.jsonl", {"prompt": "q", "answer": {"value": "x", "aliases": "abc"}})
    (row,) = imported(tmp_path, file, "--grader", "Regex", "--category", "c")
    assert graders.is_right("Regex", row["answer"], "abc")
    assert not graders.is_right("Regex", row["answer"], "a")
