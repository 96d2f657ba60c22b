"""Rows of data files: what is read, and what each broken one says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from alignment_api.stage import InputKind
from alignment_worker import rows
from alignment_worker.failures import (
    InputMissingError,
    InvalidRowError,
    NoPromptsError,
    TooManyCategoriesError,
)
from tests.worker import tiny

GOOD = {"prompt": "fine", "answer": "4", "grader": "Numeric", "category": "facts"}
CHAT = [{"role": "user", "content": "hello"}]


def line(**columns: Any) -> bytes:
    return json.dumps(GOOD | columns).encode()


BROKEN = [
    (line(prompt=None), "`prompt` is missing; give a string or a list of chat messages"),
    (line(prompt=""), "`prompt` is empty"),
    (line(prompt="  \n"), "`prompt` is empty"),
    (line(prompt=3), "`prompt` is 3, not a string or a list of chat messages"),
    (line(prompt=[]), "`prompt` is an empty list"),
    (line(prompt=["hi"]), '`prompt[0]` is "hi"; give {"role": …, "content": …}'),
    (line(prompt=[{"role": "user"}]), "`prompt[0].content` is missing"),
    (line(prompt=[{"role": "user", "content": ["x"]}]), '`prompt[0].content` is ["x"], not a string'),
    (line(prompt="\ud800"), "`prompt` holds half a surrogate pair at character 1"),
    (line(answer=None), "`answer` is missing"),
    (line(answer=4), "`answer` is 4, not a string"),
    (line(answer=" "), "`answer` is empty"),
    (line(grader="Fuzzy"), "`grader` is 'Fuzzy'; give one of Exact, Numeric, Choice, Regex"),
    (line(grader="Regex", answer="("), "is not a regular expression"),
    (line(category=None), "`category` is missing; every gold item needs one"),
    (line(category="x" * 64), "is longer than 63 characters"),
    (b'{"prompt": "caf\xe9"}', "is not UTF-8 (byte 16 is 0xe9)"),
    (b"\xef\xbb\xbf" + line(), "starts with a byte order mark"),
    (b'{"prompt": "x"', "is not JSON"),
    (b'["x"]', 'is not an object: ["x"]'),
    (b"[" * 100_000, "is nested too deeply"),
    (b'{"prompt": ' + b"[" * 200 + b"]" * 200 + b"}", "is nested too deeply"),
    (b'{"\\ud800\\u001b": "x"}', "(here is: ?\\u001b)"),
]


@pytest.mark.parametrize(("broken", "problem"), BROKEN)
def test_a_broken_row_is_one_error_with_file_and_line(tmp_path: Path, broken: bytes, problem: str) -> None:
    file = tmp_path / "gold.jsonl"
    file.write_bytes(line() + b"\n\n" + broken + b"\n" + line() + b"\n")
    with pytest.raises(InvalidRowError) as error:
        rows.read(file, InputKind.GOLD_SET)
    assert str(error.value).startswith(f"{file}: line 3: ")
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("start", "name"),
    [("ab".encode("utf-16"), "UTF-16"), (b"\x1f\x8b\x08\x00", "gzip"), (b"PK\x03\x04", "zip")],
)
def test_what_is_no_text_is_named(tmp_path: Path, start: bytes, name: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(start)
    with pytest.raises(InvalidRowError, match=f"line 1: is {name}; give UTF-8 JSON Lines or Parquet"):
        rows.read(file, InputKind.PROMPTS)


def test_strings_and_chats_and_further_columns_are_read(tmp_path: Path) -> None:
    file = tiny.write_rows(
        tmp_path / "p.jsonl", [{"prompt": "one", "id": 7}, {"prompt": CHAT, "category": "a"}]
    )
    first, second = rows.read(file, InputKind.PROMPTS)
    assert (first.number, first.prompt, first.category) == (1, "one", None)
    assert (second.number, second.prompt, second.category) == (2, CHAT, "a")


def test_parquet_reads_like_json_lines(tmp_path: Path) -> None:
    columns = [GOOD, GOOD | {"prompt": "other"}]
    parquet.write_table(pyarrow.Table.from_pylist(columns), tmp_path / "gold.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(columns), tmp_path / "gold.data")
    expected = rows.read(tiny.write_rows(tmp_path / "gold.jsonl", columns), InputKind.GOLD_SET)
    for name in ("gold.parquet", "gold.data"):
        assert rows.read(tmp_path / name, InputKind.GOLD_SET) == expected


def test_a_chat_reads_from_parquet(tmp_path: Path) -> None:
    file = tmp_path / "p.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"prompt": CHAT}]), file)
    assert rows.read(file, InputKind.PROMPTS)[0].prompt == CHAT


def test_a_broken_parquet_file_names_its_row(tmp_path: Path) -> None:
    file = tmp_path / "gold.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([GOOD, GOOD | {"answer": None}]), file)
    with pytest.raises(InvalidRowError, match=r"gold.parquet: row 2: `answer` is missing"):
        rows.read(file, InputKind.GOLD_SET)
    file.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InvalidRowError, match="cannot be read as Parquet"):
        rows.read(file, InputKind.GOLD_SET)


@pytest.mark.parametrize("kind", [InputKind.PROMPTS, InputKind.GOLD_SET])
def test_an_empty_file_says_so(tmp_path: Path, kind: InputKind) -> None:
    file = tmp_path / "empty.jsonl"
    file.write_text("\n")
    with pytest.raises(NoPromptsError, match="holds no rows"):
        rows.read(file, kind)


def test_a_folder_in_place_of_a_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidRowError, match="is a folder; name the file in it"):
        rows.read(tmp_path, InputKind.PROMPTS)
    with pytest.raises(InputMissingError, match="cannot be read"):
        rows.read(tmp_path / "nothing", InputKind.PROMPTS)


def test_seventeen_categories_are_too_many(tmp_path: Path) -> None:
    sixteen = [GOOD | {"category": f"c{number}"} for number in range(16)]
    rows.read(tiny.write_rows(tmp_path / "ok.jsonl", sixteen), InputKind.GOLD_SET)
    file = tiny.write_rows(tmp_path / "many.jsonl", [*sixteen, GOOD])
    with pytest.raises(TooManyCategoriesError, match="has 17 categories"):
        rows.read(file, InputKind.GOLD_SET)


PAIR = {"prompt": "p", "chosen": "good", "rejected": "bad"}
MESSAGE = [{"role": "assistant", "content": "good"}]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"chosen": None}, "`chosen` is missing"),
        ({"rejected": ""}, "`rejected` is empty"),
        ({"rejected": "good"}, "`chosen` equals `rejected`"),
        ({"chosen": MESSAGE}, "differ in type"),
        ({"chosen": MESSAGE, "rejected": [{"role": "assistant", "content": "no"}]}, "`prompt` a string"),
    ],
)
def test_what_is_no_pair_says_why(tmp_path: Path, columns: dict[str, Any], problem: str) -> None:
    file = tiny.write_rows(tmp_path / "pairs.jsonl", [PAIR, PAIR | columns])
    with pytest.raises(InvalidRowError, match=r"pairs.jsonl: line 2: ") as error:
        list(rows.read_pairs(file))
    assert problem in str(error.value)


UNPAIRED = {"prompt": "p", "completion": "good", "label": True}
CHAT_UNPAIRED = {"prompt": CHAT, "completion": MESSAGE, "label": False}


def test_unpaired_rows_are_read_as_trl_has_them_and_are_no_pairs(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("chosen", "rejected"))  # columns of a Parquet file that are empty in this row
    file = tiny.write_rows(
        tmp_path / "mixed.jsonl", [UNPAIRED | nothing, PAIR | {"label": 3, "completion": None}, CHAT_UNPAIRED]
    )
    assert list(rows.read_preferences(file)) == [
        rows.Unpaired(1, "p", "good", True),
        rows.Pair(2, "p", "good", "bad"),
        rows.Unpaired(3, CHAT, MESSAGE, False),
    ]
    assert list(rows.read_pairs(file)) == [rows.Pair(2, "p", "good", "bad")]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"label": None}, "`label` is missing; give true for a good completion, false for a bad one"),
        ({"label": 1}, "`label` is 1; give true for a good completion"),
        ({"label": "true"}, '`label` is "true"; give true for a good completion'),
        ({"completion": None}, "`completion` is missing; give a string or a list of chat messages"),
        ({"completion": " "}, "`completion` is empty"),
        ({"prompt": None}, "`prompt` is missing"),
        ({"completion": MESSAGE}, "`completion` is a list of messages but `prompt` a string"),
        (
            {"rejected": "bad"},
            "has `rejected` of a pair and `completion` of an unpaired row; give `chosen` and",
        ),
        (PAIR, "has `chosen` of a pair and `completion` of an unpaired row"),
    ],
)
def test_what_is_no_unpaired_row_says_why(tmp_path: Path, columns: dict[str, Any], problem: str) -> None:
    file = tiny.write_rows(tmp_path / "rows.jsonl", [UNPAIRED, UNPAIRED | columns])
    with pytest.raises(InvalidRowError, match=r"rows.jsonl: line 2: ") as error:
        list(rows.read_preferences(file))
    assert problem in str(error.value)


def test_a_sampled_pair_may_say_nothing_but_eos(tmp_path: Path) -> None:
    sampled = PAIR | {"chosen": "", "prompt_ids": [1, 5], "chosen_ids": [2], "rejected_ids": [6, 2]}
    (pair,) = rows.read_pairs(tiny.write_rows(tmp_path / "pairs.jsonl", [sampled]))
    assert (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids) == ([1, 5], [2], [6, 2])


def test_the_same_question_is_the_same_in_any_dress() -> None:
    asked = rows.normalised("What  is 2+2?")
    assert asked == rows.normalised("what is 2+2")
    assert asked == rows.normalised(
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "What is 2+2 ?"}]
    )
    assert asked != rows.normalised("What is 2+3?")
