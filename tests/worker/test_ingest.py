"""The stage `ingest`: what is read from which files, what is set aside, which ordinals and digests it gives."""

from __future__ import annotations

import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import csv, parquet

from alignment_api import digests
from alignment_api.stage import ExitCode
from alignment_worker import rows
from alignment_worker.ingestion import languages
from tests.worker import ingesting, stages, tiny
from tests.worker.ingesting import Dataset
from tests.worker.stages import Finished

THUMBS = [{"prompt": f"t{n}", "completion": f"said {n}", "label": n % 2 == 0} for n in range(4)]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path)


def pair(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def zstd(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def lines(some: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in some)


def kept(done: Finished) -> list[tuple[Any, ...]]:
    return [(row["prompt"], row["chosen"], row["rejected"]) for row in done.rows("pairs.jsonl")]


def left_out(done: Finished) -> list[tuple[Any, ...]]:
    return [(row["source"], row["line"], row["reason"]) for row in done.rows("rejected.jsonl")]


def counted(done: Finished, *names: str) -> tuple[int, ...]:
    return tuple(done.result.counts[name] for name in names)


PAIRS = tiny.pair_rows(3)


def as_csv(path: Path, some: list[dict[str, Any]]) -> Path:
    csv.write_csv(pyarrow.Table.from_pylist(some), path)
    return path


def as_saved(path: Path, some: list[dict[str, Any]]) -> Path:
    from datasets import Dataset as Saved  # noqa: PLC0415 - slow to load, and one test alone needs it

    Saved.from_list(some).save_to_disk(path)
    return path


@pytest.mark.parametrize(
    "form", ["jsonl", "gz", "zst", "csv", "csv.gz", "parquet", "saved", "splits", "arrow"]
)
def test_the_same_rows_are_read_from_every_kind_of_file(dataset: Dataset, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / f"pairs.{form}"
    match form:
        case "jsonl":
            path.write_bytes(lines(PAIRS))
        case "gz":
            path.write_bytes(gzip.compress(lines(PAIRS)))
        case "zst":
            path.write_bytes(zstd(lines(PAIRS)))
        case "csv":
            as_csv(path, PAIRS)
        case "csv.gz":
            path.write_bytes(gzip.compress(as_csv(folder / "plain", PAIRS).read_bytes()))
        case "parquet":
            parquet.write_table(pyarrow.Table.from_pylist(PAIRS), path)
        case "saved":
            as_saved(path, PAIRS)
        case "splits":
            as_saved(path / "train", PAIRS)
            as_saved(path / "test", tiny.pair_rows(9))
            (path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
        case "arrow":
            table = pyarrow.Table.from_pylist(PAIRS)
            with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
    done = dataset.refresh(path)
    assert kept(done) == [(row["prompt"], row["chosen"], row["rejected"]) for row in PAIRS]
    assert counted(done, "read", "kept", "invalid", "sequence") == (3, 3, 0, 3)
    assert [row["line"] for row in done.rows("pairs.jsonl")] == ([2, 3, 4] if "csv" in form else [1, 2, 3])


def test_a_star_names_files_and_each_row_says_its_file(dataset: Dataset) -> None:
    for name, some in (("11/b.jsonl", PAIRS[:1]), ("12/a.jsonl", PAIRS[1:]), ("12/.hidden.jsonl", PAIRS)):
        dataset.file(name, some)
    dataset.file("12/other.csv", b"prompt,chosen,rejected\nx,y,z\n")
    done = dataset.refresh(dataset.folder / "data" / "*" / "*.jsonl")
    found = [(row["file"], row["line"], row["ordinal"]) for row in done.rows("pairs.jsonl")]
    assert found == [("11/b.jsonl", 1, 1), ("12/a.jsonl", 1, 2), ("12/a.jsonl", 2, 3)]


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("nothing-*.jsonl", ExitCode.INPUT_MISSING, "no file is named so"),
        ("nothing.jsonl", ExitCode.INPUT_MISSING, "is not there"),
        ("folder", ExitCode.INVALID_CONFIG, "name the files in it: folder/*.jsonl"),
        ("splits", ExitCode.INVALID_CONFIG, "has the splits test; name the folder of one, splits/test"),
    ],
)
def test_a_uri_that_names_no_file_says_what_to_do(
    dataset: Dataset, path: str, code: ExitCode, said: str
) -> None:
    dataset.file("folder/x.txt", b"")
    dataset.file("splits/dataset_dict.json", b'{"splits": ["test"]}')
    done = dataset.refresh(dataset.folder / "data" / path)
    assert done.code == code
    assert said in done.failure.message
    assert not list(done.folder.glob("*"))


CHAT = [{"role": "user", "content": "2 + 2?"}]


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"prompt": "p", "completions": ["a", "b", "c"], "ranks": [2, 1, 3]}, ["b>a", "a>c", "b>c"]),
        ({"prompt": "p", "completions": ["a", "b", "c"], "scores": [0.5, 0.5, 9]}, ["c>a", "c>b"]),
        ({"prompt": "p", "completions": ["a", "a"], "ranks": [1, 2]}, "no completion is better than another"),
        (
            {"prompt": "p", "completions": ["a", "b"], "ranks": [1]},
            "give a number for each of the 2 completions",
        ),
        ({"prompt": "p", "completions": ["a", "b"], "scores": [1, float("nan")]}, "`scores` is"),
        ({"prompt": "p", "completions": ["a", "b"]}, "has neither `ranks` nor `scores`"),
        ({"prompt": "p", "completions": ["a", 3], "ranks": [1, 2]}, "`completions[1]` is 3"),
        ({"prompt": "p", "completions": ["a"], "ranks": [1]}, "give a list of 2 to 64"),
        ({"prompt": "p", "completions": ["a", "b", "b "], "ranks": [1, 2, 3]}, "differ in white space alone"),
    ],
)
def test_a_ranked_row_makes_a_pair_of_every_two_that_differ(
    dataset: Dataset, row: dict[str, Any], found: list[str] | str
) -> None:
    done = dataset.refresh(dataset.file("r.jsonl", [row]), dataset.file("p.jsonl", PAIRS))
    if isinstance(found, str):
        assert found in done.rows("rejected.jsonl")[0]["problem"]
        assert counted(done, "read", "kept", "invalid") == (4, 3, 1)
    else:
        pairs = [row for row in done.rows("pairs.jsonl") if row["source"] == "a"]
        assert [f"{row['chosen']}>{row['rejected']}" for row in pairs] == found
        assert counted(done, "read", "kept") == (4, 3 + len(found))


def test_a_conversation_that_holds_the_prompt_is_split_as_in_trl(dataset: Dataset) -> None:
    implicit = {"chosen": [*CHAT, *answer("4")], "rejected": [*CHAT, *answer("5")]}
    beside = {"prompt": "2 + 2?", "chosen": [*CHAT, *answer("4.")], "rejected": [*CHAT, *answer("5.")]}
    other = {"prompt": "3 + 3?", "chosen": [*CHAT, *answer("4")], "rejected": [*CHAT, *answer("5")]}
    done = dataset.refresh(dataset.file("p.jsonl", [implicit, beside, other]))
    assert kept(done) == [(CHAT, answer("4"), answer("5")), (CHAT, answer("4."), answer("5."))]
    assert left_out(done) == [("a", 3, "Invalid")]


def test_a_file_has_one_kind_unless_its_format_is_said(dataset: Dataset) -> None:
    mixed = {**PAIRS[0], **THUMBS[0]}
    first = dataset.file("a.jsonl", [*PAIRS, THUMBS[0], mixed])
    second = dataset.file("b.jsonl", [{"prompt": "x"}, *THUMBS, PAIRS[0]])
    done = dataset.refresh(first, second)
    assert counted(done, "read", "kept", "unpaired", "invalid") == (11, 7, 4, 4)
    assert [row["problem"].split(";")[0] for row in done.rows("rejected.jsonl")] == [
        "is an unpaired row, but the file's first is a pair",
        "has `chosen` of a pair and `completion` of an unpaired row",
        "`chosen` is missing",
        "is a pair, but the file's first is an unpaired row",
    ]
    (run,) = done.folder.glob("run-*")
    assert len(list(rows.read_preferences(run / "pairs.jsonl"))) == 7
    said = dataset.refresh(first, formats={"a": "Unpaired"})
    assert [row["prompt"] for row in said.rows("pairs.jsonl")] == ["t0"]
    assert counted(said, "invalid", "duplicate") == (3, 1)


def test_columns_are_renamed_source_name_first(dataset: Dataset) -> None:
    asked = [
        {"question": row["prompt"], "chosen": row["chosen"], "rejected": row["rejected"]} for row in PAIRS
    ]
    done = dataset.refresh(dataset.file("p.jsonl", asked), columns={"a": {"question": "prompt"}})
    assert [row["prompt"] for row in done.rows("pairs.jsonl")] == ["p0", "p1", "p2"]


def far_away() -> bytes:
    """Two pairs of Parquet, the first of a year that Python does not know."""
    written, years = io.BytesIO(), pyarrow.array([2**62, 1], pyarrow.timestamp("us"))
    table = pyarrow.Table.from_pylist([pair("p", "a", "b"), pair("q", "a", "b")])
    parquet.write_table(table.append_column("at", years), written)
    return written.getvalue()


GOOD = lines([pair("p", "good", "bad")]).strip()
BAD_LINES = {
    "broken": (b'{"prompt": "x", "chosen', "is not JSON"),
    "NULs": (b"\0" * 100, "is not JSON"),
    "a NUL in a text": (lines([pair("x", "a\0b", "c")]).strip(), "`chosen` holds a NUL at character 2"),
    "half a surrogate pair": (
        b'{"prompt": "\\ud800", "chosen": "a", "rejected": "b"}',
        "half a surrogate pair",
    ),
    "no UTF-8": (b'{"prompt": "\xff"}', "is not UTF-8"),
    "a key twice": (
        b'{"prompt": "x", "prompt": "y", "chosen": "a", "rejected": "b"}',
        'has the key "prompt" twice',
    ),
    "no object": (b"[1]", "is not an object"),
    "another type": (b'{"prompt": 3, "chosen": "a", "rejected": "b"}', "`prompt` is 3"),
    "equal answers": (lines([pair("x", "a", "a")]).strip(), "`chosen` equals `rejected`"),
    "equal but for space": (lines([pair("x", "a b", "a  b\n")]).strip(), "differ in white space alone"),
    "nested": (b"[" * 100_000, "is nested too deeply"),
    "a number that no float holds": (
        b'{"prompt": "x", "completions": ["a", "b"], "ranks": [1%b, 2]}' % (b"0" * 400),
        "give a number for each",
    ),
    "too long": (b'{"prompt": "' + b"x" * (17 << 20) + b'"}', "a row has at most 16777216"),
}


@pytest.mark.parametrize("bad", BAD_LINES)
def test_a_bad_line_is_set_aside_with_its_place_and_reason_and_the_others_stay(
    dataset: Dataset, bad: str
) -> None:
    line, problem = BAD_LINES[bad]
    later = lines([pair("later", "good", "bad")])
    done = dataset.refresh(dataset.file("p.jsonl", b"\xef\xbb\xbf" + GOOD + b"\n\n" + line + b"\n" + later))
    assert counted(done, "read", "kept", "invalid") == (3, 2, 1)
    (row,) = done.rows("rejected.jsonl")
    assert (row["source"], row["file"], row["line"], row["reason"]) == ("a", "p.jsonl", 3, "Invalid")
    assert problem in row["problem"]
    assert len(row["row"]) <= 2000


def test_a_row_of_ten_megabytes_is_kept(dataset: Dataset) -> None:
    done = dataset.refresh(dataset.file("p.jsonl", [pair("p", "x" * 10_000_000, "y"), *PAIRS]))
    assert counted(done, "kept", "invalid") == (4, 0)


@pytest.mark.parametrize(
    ("name", "data", "good", "said"),
    [
        (
            "cut.jsonl.gz",
            gzip.compress(lines(tiny.pair_rows(5000)))[:-2000],
            4000,
            "all that follows cannot be read",
        ),
        (
            "cut.jsonl.zst",
            zstd(lines(tiny.pair_rows(50_000)))[:-2000],
            100,
            "all that follows cannot be read",
        ),
        ("cut.parquet", b"PAR1 and then nothing", 0, "cannot be read as Parquet"),
        ("far.parquet", far_away(), 1, "holds what cannot be read: date value out of range"),
        ("cut.arrow", b"no arrow", 0, "cannot be read as Arrow"),
        ("p.jsonl", "x".encode("utf-16"), 0, "is UTF-16"),
        ("p.zip", b"PK\x03\x04", 0, "is zip"),
        ("twice.CSV", b"prompt,p\xff,p\xff\na,b,c\n", 0, 'names the column "p?" twice'),
        ("p.csv", b'prompt,chosen,rejected\np,a,b\nq,c\nr,"d"e,f\ns,g,h\n', 2, "has 2 cells"),
        ("open.csv", b'prompt,chosen,rejected\np,a,b\nq,"c,d\nr,e,f\n', 1, "is not CSV, up to line 4: "),
        ("empty.jsonl", b"", 0, ""),
    ],
)
def test_a_damaged_file_costs_what_cannot_be_read_of_it(
    dataset: Dataset, name: str, data: bytes, good: int, said: str
) -> None:
    done = dataset.refresh(dataset.file(name, data), dataset.file("z.jsonl", [pair("other", "c", "d")]))
    assert done.result.counts["source/a"] >= good
    assert done.result.counts["source/b"] == 1
    if said:
        assert said in done.rows("rejected.jsonl")[0]["problem"]


def test_a_link_to_the_pods_secrets_is_not_quoted(dataset: Dataset) -> None:
    file = dataset.file("p.jsonl", PAIRS)
    file.with_name("z.jsonl").symlink_to("/proc/self/environ")
    done = dataset.refresh(file.with_name("*.jsonl"))
    assert counted(done, "kept", "invalid") == (3, 1)
    (row,) = done.rows("rejected.jsonl")
    assert (row["file"], row["row"]) == ("z.jsonl", "")
    assert "is a link to" in row["problem"]


def test_a_cell_may_hold_messages_labels_and_lists(dataset: Dataset) -> None:
    chat = json.dumps(CHAT).replace('"', '""')
    ranked = b'prompt,completions,ranks\np,"[""a"", ""b""]","[1, 2]"\n'
    thumbs = f'prompt,completion,label\n"{chat}","[{{""role"": ""assistant"", ""content"": ""4""}}]",True\n'
    done = dataset.refresh(dataset.file("r.csv", ranked), dataset.file("t.csv", thumbs.encode()))
    first, second = done.rows("pairs.jsonl")
    assert (first["chosen"], first["rejected"]) == ("a", "b")
    assert (second["prompt"], second["completion"], second["label"]) == (CHAT, answer("4"), True)


def test_duplicates_go_whatever_their_white_space_and_file(dataset: Dataset) -> None:
    again = [pair("p0 ", " c0", "r0"), pair("P0", "c0", "r0")]
    some = [pair("p0", "c0", "r0"), pair("p1", "c1", "r1")]
    done = dataset.refresh(dataset.file("a.jsonl", [*some, *THUMBS]), dataset.file("b.jsonl", again))
    assert counted(done, "read", "kept", "duplicate", "invalid") == (8, 3, 1, 4)
    (row,) = [row for row in done.rows("rejected.jsonl") if row["reason"] == "Duplicate"]
    assert (row["source"], row["line"], row["problem"]) == ("b", 1, "equals the one of ordinal 1")


@pytest.mark.parametrize(
    ("conflicts", "staying"),
    [("Drop", ["q"]), ("KeepLatest", ["p/b", "q"]), ("KeepMajority", ["p/a", "q"])],
)
def test_what_is_judged_both_ways_is_settled_as_asked(
    dataset: Dataset, conflicts: str, staying: list[str]
) -> None:
    both = [pair("p", "a", "b"), pair("p", "a", "b"), pair("p", "b", "a"), pair("q", "a", "b")]
    tie = [pair("t", "a", "b"), pair("t", "b", "a")]
    done = dataset.refresh(
        dataset.file("a.jsonl", [*both, *(tie if conflicts == "KeepMajority" else [])]), conflicts=conflicts
    )
    found = [
        f"p/{row['chosen']}" if row["prompt"] == "p" else row["prompt"] for row in done.rows("pairs.jsonl")
    ]
    assert sorted(found) == staying
    assert sum(counted(done, "kept", "duplicate", "conflicting")) == done.result.counts["read"]


def test_labels_contradict_each_other_too(dataset: Dataset) -> None:
    row = {"prompt": "p", "completion": "c", "label": True}
    done = dataset.refresh(dataset.file("a.jsonl", [row, row | {"label": False}, row | {"prompt": "q"}]))
    assert counted(done, "kept", "conflicting") == (1, 2)


def test_of_a_source_with_too_many_rows_those_that_are_read_last_stay(dataset: Dataset) -> None:
    done = dataset.refresh(
        dataset.file("a.jsonl", tiny.pair_rows(9)),
        dataset.file("b.jsonl", [pair("other", "a", "b")]),
        max_pairs_per_source=4,
    )
    assert [row["prompt"] for row in done.rows("pairs.jsonl")] == ["p5", "p6", "p7", "p8", "other"]
    assert counted(done, "capped", "source/a", "source/b", "sequence") == (5, 4, 1, 5)


def test_gold_prompts_and_thirteen_words_of_them_are_kept_out(dataset: Dataset) -> None:
    long = " ".join(f"word{n}" for n in range(20))
    gold = dataset.file("gold.jsonl", [{"prompt": "What is 2 + 2?"}, {"prompt": long}])
    some = [pair("what is 2 + 2", "a", "b"), pair("x", f"see {long[:120]}", "b"), pair("x", "a", "b")]
    done = dataset.refresh(dataset.file("a.jsonl", some), gold=gold)
    assert counted(done, "kept", "contaminated") == (1, 2)
    assert left_out(done) == [("a", 1, "Contaminated"), ("a", 2, "Contaminated")]
    again = dataset.refresh(dataset.file("a.jsonl", some), gold=dataset.file("gold.jsonl", [{"prompt": 3}]))
    assert again.code == ExitCode.INVALID_ROW


def test_the_length_of_what_is_chosen_is_counted_where_lengths_differ(dataset: Dataset) -> None:
    some = [
        pair("long", "x" * 200, "y" * 100),
        pair("short", "x" * 100, "y" * 200),
        pair("alike", "x" * 105, "y" * 100),
        pair("long, too", "x" * 112, "y" * 100),
    ]
    done = dataset.refresh(dataset.file("a.jsonl", some))
    assert counted(done, "longerChosen", "shorterChosen") == (2, 1)
    assert counted(done, "medianPromptCharacters", "medianCompletionCharacters") == (5, 100)


def ordinals(done: Finished) -> dict[str, int]:
    return {row["prompt"]: row["ordinal"] for row in done.rows("pairs.jsonl")}


def test_an_ordinal_never_changes_and_is_never_given_twice(dataset: Dataset) -> None:
    some = tiny.pair_rows(4)
    first = dataset.refresh(dataset.file("a.jsonl", some))
    assert ordinals(first) == {"p0": 1, "p1": 2, "p2": 3, "p3": 4}
    fewer = dataset.refresh(dataset.file("a.jsonl", [pair("new", "a", "b"), some[3], some[1]]))
    assert ordinals(fewer) == {"new": 5, "p3": 4, "p1": 2}
    back = dataset.refresh(dataset.file("a.jsonl", [*some, pair("newer", "a", "b")]))
    assert ordinals(back) == {"p0": 1, "p1": 2, "p2": 3, "p3": 4, "newer": 6}
    assert [done.result.counts["sequence"] for done in (first, fewer, back)] == [4, 5, 6]


def test_the_same_input_gives_the_same_digest_on_the_revision_that_it_made_too(dataset: Dataset) -> None:
    file = dataset.file("a.jsonl", [*tiny.pair_rows(4), {"prompt": "x"}])
    first, again = dataset.refresh(file), dataset.refresh(file)
    assert first.folder != again.folder
    assert first.result.manifest.digest == again.result.manifest.digest
    other = dataset.refresh(dataset.file("a.jsonl", tiny.pair_rows(5)))
    assert other.result.manifest.digest != first.result.manifest.digest


def test_rows_are_decided_on_in_parts_as_in_one(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rows are looked at a bucket at a time, which changes nothing."""
    some = tiny.pair_rows(300)
    opposite = [pair(row["prompt"], row["rejected"], row["chosen"]) for row in some[::7]]
    first, second = (
        dataset.file("a.jsonl", [*some, *some[::3]]),
        dataset.file("b.jsonl", [*opposite, *some[:9]]),
    )
    whole = [dataset.refresh(first), dataset.refresh(second, first, max_pairs_per_source=200)]
    monkeypatch.setattr("alignment_worker.ingestion.parts._ROWS_IN_A_BUCKET", 4)
    monkeypatch.setattr("alignment_worker.ingestion.deciding._ROWS_AT_ONCE", 50)
    monkeypatch.setattr("alignment_worker.ingestion.staging._ROWS_AT_ONCE", 7)
    monkeypatch.setattr("alignment_worker.ingestion.asked._KEYS_AT_ONCE", 11)
    dataset.last = None
    parts = [dataset.refresh(first), dataset.refresh(second, first, max_pairs_per_source=200)]
    assert [done.result.manifest.digest for done in whole] == [done.result.manifest.digest for done in parts]
    assert whole[1].result.counts["conflicting"] > 0


def test_a_file_that_changes_or_goes_while_it_is_read_makes_no_revision(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = dataset.file("a.jsonl", PAIRS)
    original = rows.json_row

    def written_to(number: int, line: bytes) -> rows.Raw:
        if number == 2:
            with file.open("ab") as more:
                more.write(GOOD + b"\n")
        return original(number, line)

    def gone(number: int, line: bytes) -> rows.Raw:
        file.unlink(missing_ok=True)
        return original(number, line)

    for meanwhile, said in ((written_to, "changed while it was read"), (gone, "cannot be read")):
        monkeypatch.setattr("alignment_worker.rows.json_row", meanwhile)
        done = dataset.refresh(file)
        assert done.code == ExitCode.INPUT_MISSING
        assert said in done.failure.message
        assert not list(done.folder.glob("*"))


def test_a_dataset_of_which_nothing_stays_says_the_first_problem(dataset: Dataset) -> None:
    done = dataset.refresh(dataset.file("people.jsonl", [{"prompt": "x"}]))
    assert done.code == ExitCode.TOO_FEW_PAIRS
    assert (
        "none of the 1 rows is a pair or an unpaired row that stays; the first problem:"
        in done.failure.message
    )
    assert "people.jsonl: row 1: `chosen` is missing" in done.failure.message
    both = dataset.refresh(dataset.file("people.jsonl", [pair("p", "a", "b"), pair("p", "b", "a")]))
    assert both.code == ExitCode.TOO_FEW_PAIRS
    empty = dataset.refresh(dataset.file("people.jsonl", b""))
    assert "people.jsonl: no rows; give at least one" in empty.failure.message


SAID = {
    "en": "You can return it within thirty days and we will refund the whole amount.",
    "de": "Sie können es innerhalb von dreißig Tagen zurückgeben, und wir erstatten den Betrag.",
    "ja": "三十日以内に返品できます。全額を返金いたします。",
    "unclear": "7 + 5",
}


def languages_of(dataset: Dataset, some: list[dict[str, Any]]) -> str:
    done = dataset.refresh(dataset.file("spoken.jsonl", some))
    (run,) = done.folder.glob("run-*")
    (told,) = re.findall("^Languages of (.*)$", (run / "README.md").read_text(), re.MULTILINE)
    return str(told)


def test_the_data_card_tells_the_languages_of_the_chosen_answers(dataset: Dataset) -> None:
    spoken = [
        language
        for language, times in (("en", 6), ("de", 2), ("ja", 1), ("unclear", 1))
        for _ in range(times)
    ]
    some = [pair(f"p{n}", f"{SAID[language]} {n}", SAID["de"]) for n, language in enumerate(spoken)]
    told = languages_of(dataset, some)
    assert told == (
        "10 answers that are chosen, or the only ones, told by their n-grams: "
        "en 60.0 %, de 20.0 %, ja 10.0 %, unclear 10.0 %."
    )


def test_of_many_rows_the_languages_are_told_of_some_that_their_keys_choose(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(languages, "SAMPLE", 50)
    some = [pair(f"p{n}", f"{SAID['de' if n % 4 else 'en']} {n}", "no") for n in range(400)]
    told = languages_of(dataset, some)
    matched = re.fullmatch(r"(\d+) answers drawn of those .*: de (.*) %, en .* %\.", told)
    assert matched is not None
    assert 25 < int(matched[1]) < 80
    assert 60 < float(matched[2]) < 90
    assert languages_of(dataset, some[::-1]) == told


def test_a_revision_has_a_data_card_that_names_its_pairs(dataset: Dataset) -> None:
    file = dataset.file("a.jsonl", [*PAIRS, PAIRS[0]])
    done = dataset.refresh(file, gold=dataset.file("a|b.jsonl", [{"prompt": "gold"}]))
    from datasets import load_dataset  # noqa: PLC0415 - slow to load

    (run,) = done.folder.glob("run-*")
    text = (run / "README.md").read_text()
    assert "  data_files: pairs.jsonl\n" in text
    assert "3 pairs and 0 unpaired rows, of 4 rows that were read" in text
    assert "| duplicate | 1 |" in text
    assert digests.of_file(file) in text
    assert str(file) not in text
    loaded = load_dataset(str(run), cache_dir=str(dataset.folder / "cache"))["train"]
    assert loaded["prompt"] == ["p0", "p1", "p2"]


def test_the_fullest_report_fits(dataset: Dataset) -> None:
    names = [digests.of_bytes(bytes([n]))[7:70] for n in range(16)]
    sources = {name: dataset.file(f"{name}.jsonl", [pair(name, "aa", "b")]) for name in names}
    done = stages.run(dataset.folder / "jobs", ingesting.config(dataset.folder, sources))
    assert done.code == 0
    assert done.report_bytes <= 2048
    assert {f"source/{name}" for name in names} <= set(done.result.counts)
    assert {f"longer/source/{name}" for name in names} <= set(done.result.counts)
    assert done.result.inputs == {}, "the data card has them"


def test_a_pair_counts_once_however_often_it_comes_and_goes(dataset: Dataset) -> None:
    first = dataset.file("a.jsonl", PAIRS[:2])
    counted = [dataset.refresh(first).result.counts]
    for some in (PAIRS[1:3], PAIRS[:3], [{"prompt": "new", "completion": "x", "label": True}]):
        dataset.file("a.jsonl", some)
        counted.append(dataset.refresh(first).result.counts)
    assert [(each["kept"], each["pairsEver"], each["unpairedEver"]) for each in counted] == [
        (2, 2, 0),
        (2, 3, 0),
        (3, 3, 0),
        (1, 3, 1),
    ]
