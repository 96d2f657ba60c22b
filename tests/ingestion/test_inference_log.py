"""What an inference log says about which answers are better."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from alignment_worker.ingestion.inference_log import InferenceLog, Judged, Open
from alignment_worker.ingestion.log_formats import Answered, Record, Said
from alignment_worker.rows import Message, Pair, Unpaired

ASKED: list[Message] = [{"role": "user", "content": "capital of France?"}]


def answered(
    name: str, answer: str, minute: int = 0, who: str = "ada", prompt: list[Message] | None = None
) -> Answered:
    at = f"2026-11-23T{9 + minute // 60:02}:{minute % 60:02}:00.000000Z"
    return Answered(name, at, who, prompt or ASKED, answer, None)


def said(name: str, good: bool | None = None, edit: str | None = None, minute: int = 30) -> Said:
    return Said(name, f"2026-11-23T09:{minute:02}:00.000000Z", good, edit)


def went_on(answer: str, minute: int, who: str = "ada") -> Answered:
    prompt = [*ASKED, {"role": "assistant", "content": answer}, {"role": "user", "content": "and of Italy?"}]
    return answered(f"next-{answer}-{minute}", "Rome", minute, who, prompt)


def told(folder: Path, records: Sequence[Record], *, feedback: bool = True) -> list[tuple[str, ...]]:
    """`>`: a pair; `+`, `-`: an unpaired row; `?`: an open pair."""
    found: list[tuple[str, ...]] = []
    with InferenceLog(folder / "log.sqlite") as log:
        for place, record in enumerate(records):
            log.add(record, place)
        for each in log.judged(feedback=feedback):
            if isinstance(each, Open):
                found.append(("?", *each.answers))
                continue
            assert isinstance(each, Judged)
            if isinstance(each.preference, Pair):
                found.append((">", text(each.preference.chosen), text(each.preference.rejected)))
            else:
                assert isinstance(each.preference, Unpaired)
                found.append(("+" if each.preference.label else "-", text(each.preference.completion)))
    return found


def text(completion: object) -> str:
    assert isinstance(completion, list)
    (message,) = completion
    assert message["role"] == "assistant"
    return str(message["content"])


def test_an_edit_is_preferred_to_what_was_served(tmp_path: Path) -> None:
    records: list[Record] = [answered("a", "Lyon"), said("a", good=False, edit="Paris")]
    assert told(tmp_path, records) == [(">", "Paris", "Lyon"), ("-", "Lyon")]


def test_an_edit_that_changes_nothing_says_nothing(tmp_path: Path) -> None:
    assert told(tmp_path, [answered("a", "Paris"), said("a", edit="Paris")]) == []


def test_the_last_word_counts_whenever_it_came(tmp_path: Path) -> None:
    records: list[Record] = [
        said("a", good=True, minute=50),
        answered("a", "Lyon"),
        said("a", good=False, minute=40),
    ]
    assert told(tmp_path, records) == [("+", "Lyon")]


def test_good_answers_are_preferred_to_bad_ones(tmp_path: Path) -> None:
    records: list[Record] = [
        answered("a", "Lyon"),
        answered("b", "Paris", who="bob"),
        said("a", good=False),
        said("b", good=True),
    ]
    assert set(told(tmp_path, records)) == {("-", "Lyon"), ("+", "Paris"), (">", "Paris", "Lyon")}


def test_what_the_conversation_went_on_with_is_preferred(tmp_path: Path) -> None:
    records: list[Record] = [answered("a", "Lyon"), answered("b", "Paris", 1), went_on("Paris", 2)]
    assert told(tmp_path, records) == [(">", "Paris", "Lyon")]
    assert told(tmp_path / "..", records[:2], feedback=False) == [("?", "Lyon", "Paris")]


@pytest.mark.parametrize(
    ("second", "then"),
    [
        (answered("b", "Paris", 1, "bob"), went_on("Paris", 2, "bob")),  # two people
        (answered("b", "Paris", 120), went_on("Paris", 121)),  # two occasions
        (answered("b", "Paris", 1), went_on("Paris", 2, "bob")),  # another's conversation
        (answered("b", "Paris", 1), went_on("Rome", 2)),  # with neither
    ],
)
def test_what_proves_nothing_is_left_open(tmp_path: Path, second: Answered, then: Answered) -> None:
    assert told(tmp_path, [answered("a", "Lyon"), second, then]) == [("?", "Lyon", "Paris")]


def test_the_same_answer_twice_is_no_pair(tmp_path: Path) -> None:
    assert told(tmp_path, [answered("a", "Paris"), answered("b", "Paris", 1)]) == []


def test_without_feedback_only_what_people_went_on_with_counts(tmp_path: Path) -> None:
    records: list[Record] = [
        answered("a", "Lyon"),
        answered("b", "Paris", 1),
        went_on("Paris", 2),
        said("a", good=True),
    ]
    assert told(tmp_path, records, feedback=False) == [(">", "Paris", "Lyon")]


def test_a_record_that_comes_twice_counts_once(tmp_path: Path) -> None:
    records: list[Record] = [
        answered("a", "Lyon"),
        answered("a", "Lyon"),
        said("a", good=False),
        said("a", good=False),
    ]
    assert told(tmp_path, records) == [("-", "Lyon")]


def test_of_many_answers_to_a_prompt_the_latest_are_compared(tmp_path: Path) -> None:
    records: list[Record] = [answered(f"a{number}", f"answer {number}", number) for number in range(20)]
    found = told(tmp_path, records)
    assert len(found) == 8 * 7 / 2
    assert {answer for _, *answers in found for answer in answers} == {
        f"answer {number}" for number in range(12, 20)
    }


def test_feedback_on_what_is_not_in_the_log_says_nothing(tmp_path: Path) -> None:
    assert told(tmp_path, [said("a", good=True), answered("b", "Paris")]) == []


def test_half_a_surrogate_pair_is_kept(tmp_path: Path) -> None:
    assert told(tmp_path, [answered("a", "\ud800"), said("a", good=False)]) == [("-", "\ud800")]


def test_what_is_said_of_an_answer_counts_however_many_came_after_it(tmp_path: Path) -> None:
    """The newest alone are compared with each other."""
    records: list[Record] = [answered(f"a{number}", f"answer {number}", number) for number in range(20)]
    records += [said("a0", good=False, edit="Paris"), said("a1", good=True), said("a19", good=True)]
    found = told(tmp_path, records)
    assert [each for each in found if each[0] != "?"] == [
        (">", "Paris", "answer 0"),
        ("-", "answer 0"),
        ("+", "answer 1"),
        ("+", "answer 19"),
    ]
    assert not [each for each in found if each[0] == "?" and {"answer 0", "answer 1"} & set(each)]


def test_time_does_not_grow_with_the_square_of_how_often_a_question_is_asked(tmp_path: Path) -> None:
    records: list[Record] = []
    for number in range(4000):
        records += [answered(f"a{number}", "Paris", who=""), went_on("Paris", number % 50, who="")]
        records[-1] = replace(records[-1], id=f"b{number}")
    start = time.process_time()
    assert told(tmp_path, records) == []
    assert time.process_time() - start < 20  # with the square: minutes


def test_nor_with_the_square_of_a_conversations_turns(tmp_path: Path) -> None:
    turns: list[Message] = []
    for _ in range(4000):
        turns += [{"role": "user", "content": "more"}, {"role": "assistant", "content": "a\n" * 40}]
    start = time.process_time()
    with InferenceLog(tmp_path / "log.sqlite") as log:
        log.add(answered("a", "Paris", prompt=[*turns, *ASKED]), 0)
        assert log.answers() == 1
    assert time.process_time() - start < 15  # with the square: minutes
