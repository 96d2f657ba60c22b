"""Personal data by its form, and what a refresh does with rows that hold some."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from alignment_api.stage import ExitCode
from alignment_worker.ingestion import personal_data
from tests.worker.ingesting import Dataset
from tests.worker.judge_server import Asked, judge_server, longer
from tests.worker.logging_answers import LoggedDataset, answered
from tests.worker.stages import Finished


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jane.doe+shop@mail.example.co.uk.", "write to [email]."),
        ("müller@bücher.de", "[email]"),
        ("card 4111 1111 1111 1111, 4111-1111-1111-1111", "card [card number], [card number]"),
        ("5500000000000004", "[card number]"),
        ("IBAN DE89 3704 0044 0532 0130 00 BITTE BALD", "IBAN [IBAN] BITTE BALD"),
        ("(GB82WEST12345698765432)", "([IBAN])"),
        ("+49 (0)30 901820; 0044 20 7946 0958", "[phone number]; [phone number]"),
        ("(212) 736-5000 or 212-736-5000", "[phone number] or [phone number]"),
        ("SSN 536-90-4399", "SSN [national number]"),
        ("RSSMRA85T10A562S", "[national number]"),
        ("12345678Z, X-1234567-L", "[national number], [national number]"),
        ("44051401359 and 756.9217.0769.85", "[national number] and [national number]"),
        ("AB 12 34 56 C", "[national number]"),
        ("DE89370400440532013000 GB82 WEST 1234 5698 7654 32", "[IBAN] [IBAN]"),
        ("REF AB12 DE89 3704 0044 0532 0130 00", "REF AB12 [IBAN]"),
        ("4111 1111 1111 1111 123, 1 3782 822463 10005", "[card number] 123, 1 [card number]"),
        ("name,4111111111111111,12/27", "name,[card number],12/27"),
        ("+1 212 736 5000 3 times, +44 20 7946 0958 10 am", "[phone number] 3 times, [phone number] 10 am"),
        ("+49\u00a030\u2011901820, \uff14111\u202f1111 1111 1111", "[phone number], [card number]"),
        ("jane@example.org- joe\uff20example.org-x", "[email]- [email]-x"),
        ("782 722 623, 14 years, 24397083053", "[national number], 14 years, [national number]"),
    ],
)
def test_what_has_the_form_of_personal_data_is_found(text: str, expected: str) -> None:
    assert personal_data.redacted(text)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "order 4111111111111112",  # a check digit that is wrong
        "DE89 3704 0044 0532 0130 01",
        "536-90-43991",
        "12345678A",
        "44051401358",
        "2026-11-30T12:00:00.123456Z",
        "version 10.12.2026, 192.168.100.200, 1,234,567.89 and 12 345 678",
        "order 123-4567890-1234567, parcel 1Z999AA10123456784",
        "π = 3.14159265358979, e = 2.718281828",
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "@decorator def f(a@b): ...",
        "2 + 2 = 4; 100 - 50 - 25 - 10 = 15",
        "ISBN 978-3-16-148410-0",
        "a list: 12 782 722 623 5 17",  # 782 722 623 would be a Canadian number
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert personal_data.redacted(text) == (text, set())


def test_time_does_not_grow_with_the_square_of_what_is_found() -> None:
    text = " ".join(f"a{number}@example.org" for number in range(20_000))
    start = time.process_time()
    assert personal_data.redacted(text)[0] == " ".join(["[email]"] * 20_000)
    assert time.process_time() - start < 20  # with the square: minutes


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (
            {"card": 4111111111111111, "n": [378282246310005, 7]},
            {"card": "[card number]", "n": ["[card number]", 7]},
        ),
        ({"card": 4111111111111111.0}, {"card": "[card number].0"}),
        ({"raw": b"jane@example.org"}, {"raw": "[email]"}),
        ({"map": [("jane@example.org", 1)]}, {"map": [["[email]", 1]]}),
        (b'{"card": 4111111111111111}', b'{"card": "[card number]"}'),
        (
            b'{"who": "jane\\u0040example.org", "at": "\\u002B49 30 901820',
            b'{"who": "[email]", "at": "[phone number]',
        ),
        (b"[" * 700 + b'"jane@example.org"' + b"]" * 700, b"[" * 700 + b'"[email]"' + b"]" * 700),
    ],
)
def test_a_row_that_is_kept_aside_holds_none_whatever_its_columns_are(row: Any, kept: Any) -> None:
    assert personal_data.redacted_row(row) == kept


def pair(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


ROWS = [
    pair("plain", "yes", "no"),
    pair("I am jane@example.org", "Hello", "Bye") | {"category": "joe@example.org"},
    pair("who?", "Call +49 30 901820", "jane@example.org"),
    pair("same?", "jane@example.org", "joe@example.org"),
]
THUMB = {
    "prompt": [{"role": "user", "content": "4111 1111 1111 1111"}],
    "completion": [{"role": "assistant", "content": "ok"}],
    "label": True,
}


def refreshed(folder: Path, action: str | None) -> Finished:
    data = Dataset(folder)
    bad = b'{"prompt": "it\\njoe@example.org", "chosen": 3}\n{"prompt": "x\\n4111111111111111\n'
    done = data.refresh(
        data.file("a.jsonl", ROWS), data.file("b.jsonl", [THUMB]), data.file("c.jsonl", bad), pii=action
    )
    assert done.code == ExitCode.DONE, done.failure
    return done


def everything(done: Finished) -> str:
    (run,) = done.folder.glob("run-*")
    return "".join(path.read_text() for path in run.iterdir() if path.suffix in (".jsonl", ".md"))


def found(done: Finished) -> dict[str, int]:
    return {key: count for key, count in done.result.counts.items() if key.startswith("pii") and count}


KINDS = {"pii/Email": 3, "pii/Phone": 1, "pii/Card": 1}


def test_rows_with_personal_data_are_left_out_and_not_even_kept_aside(tmp_path: Path) -> None:
    done = refreshed(tmp_path, "Drop")
    assert [row["prompt"] for row in done.rows("pairs.jsonl")] == ["plain"]
    assert found(done) == {"pii": 4, **KINDS}
    aside = [row for row in done.rows("rejected.jsonl") if row["reason"] == "PII"]
    assert [(row["source"], row["line"], row["problem"]) for row in aside] == [
        ("a", 2, "holds personal data: Email"),
        ("a", 3, "holds personal data: Email, Phone"),
        ("a", 4, "holds personal data: Email"),
        ("b", 1, "holds personal data: Card"),
    ]
    assert json.loads(aside[1]["row"]) == pair("who?", "Call [phone number]", "[email]")
    for secret in ("jane@", "joe@", "4111", "901820"):
        assert secret not in everything(done)
    assert "| pii | 4 | holds personal data |" in everything(done)


def test_personal_data_is_replaced_and_the_rest_of_the_row_stays(tmp_path: Path) -> None:
    done = refreshed(tmp_path, "Redact")
    texts = [(row["prompt"], row.get("chosen", row.get("completion"))) for row in done.rows("pairs.jsonl")]
    assert texts == [
        ("plain", "yes"),
        ("I am [email]", "Hello"),
        ("who?", "Call [phone number]"),
        ([{"role": "user", "content": "[card number]"}], THUMB["completion"]),
    ]
    assert found(done) == {"pii": 1, **KINDS}
    (aside,) = [row for row in done.rows("rejected.jsonl") if row["reason"] == "PII"]
    assert aside["problem"] == "the answers differ in personal data alone: Email"
    for secret in ("jane@", "joe@", "4111", "901820"):
        assert secret not in everything(done)


def test_rows_with_personal_data_are_listed_and_stay_as_they_are(tmp_path: Path) -> None:
    done = refreshed(tmp_path, "Flag")
    plain = refreshed(tmp_path / "plain", None)
    assert done.rows("pairs.jsonl") == plain.rows("pairs.jsonl")
    assert found(done) == KINDS
    assert done.rows("personal-data.jsonl") == [
        {"source": "a", "file": "a.jsonl", "line": 2, "kinds": ["Email"]},
        {"source": "a", "file": "a.jsonl", "line": 3, "kinds": ["Email", "Phone"]},
        {"source": "a", "file": "a.jsonl", "line": 4, "kinds": ["Email"]},
        {"source": "b", "file": "b.jsonl", "line": 1, "kinds": ["Card"]},
    ]
    assert not any(key.startswith("pii") for key in plain.result.counts)


def test_a_problem_that_is_reported_holds_no_personal_data(tmp_path: Path) -> None:
    data = Dataset(tmp_path)
    done = data.refresh(data.file("a.jsonl", [pair("I am jane@example.org", "Hello", "Bye")]), pii="Drop")
    assert done.code == ExitCode.TOO_FEW_PAIRS
    bad = {"prompt": "x", "chosen": ["jane@example.org"], "rejected": "y"}
    told = data.refresh(data.file("a.jsonl", [bad]), pii="Drop").failure.message
    assert "jane@" not in told
    assert "[email]" in told


@pytest.mark.parametrize(("action", "prompts", "asked"), [("Drop", 1, 0), ("Redact", 2, 1), ("Flag", 2, 1)])
def test_neither_prompts_of_a_log_nor_what_a_judge_reads_hold_personal_data(
    tmp_path: Path, action: str, prompts: int, asked: int
) -> None:
    """That nobody judged an answer is no reason to keep it, or to show it to anybody."""
    data = LoggedDataset(tmp_path)
    data.log(
        *answered("I am ada@example.org", "Hello", "Write to bob@example.org"),
        *answered("one", "two", "two"),
    )
    seen: list[str] = []

    def judge(question: Asked) -> str:
        seen.append(repr(question))
        return longer(question)

    with judge_server(judge) as server:
        asking = {"llm": {"baseURL": server.url, "model": "scripted", "maxConcurrency": 4}}
        done = data.refresh(asking, pii=action)
    assert done.code == 0
    assert (done.result.counts["prompts"], done.result.counts.get("openPairs", 0)) == (prompts, asked)
    kept = "".join(path.read_text() for path in done.folder.rglob("*.jsonl"))
    for text in (kept, " ".join(seen)):
        assert ("@example.org" in text) == (action == "Flag")
    assert bool(seen) == bool(asked)


def test_a_log_of_which_no_prompt_stays_says_so(tmp_path: Path) -> None:
    data = LoggedDataset(tmp_path)
    data.log(*answered("I am ada@example.org", "Hello"), *answered("I am bob@example.org", "Hi"))
    done = data.refresh(None, pii="Drop")
    assert done.code == ExitCode.TOO_FEW_PAIRS
    assert "the prompts of all 2 answers are left out" in done.failure.message
    assert "spec.curation.pii" in done.failure.message
