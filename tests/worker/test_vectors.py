"""A refresh with a model that embeds: the table of interactions, and near-duplicates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
import torch

from alignment_api.iteration_report import Matches, SearchConfig
from alignment_api.stage import ExitCode
from alignment_worker.embedding import Embedder
from alignment_worker.failures import InputMissingError
from alignment_worker.ingestion.searching import search
from alignment_worker.store import Places, SealedFolder
from tests.worker import tiny
from tests.worker.ingesting import Dataset
from tests.worker.stages import Finished


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.llama(tmp_path_factory.mktemp("embedding"), seed=3)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that was given to the model."""
    texts: list[str] = []
    measured = Embedder.measured

    def spied(self: Embedder, some: list[str], *more: Any) -> Any:
        texts.extend(some)
        return measured(self, some, *more)

    monkeypatch.setattr(Embedder, "measured", spied)
    return texts


def pair(prompt: str, chosen: str = "yes", rejected: str = "no") -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def run_folder(done: Finished) -> Path:
    return SealedFolder.open(done.folder).file("")


def table(done: Finished) -> list[dict[str, Any]]:
    found = lancedb.connect(str(run_folder(done) / "derived")).open_table("interactions").to_arrow()
    return list(found.to_pylist())


QUESTION = "how many cows are there on the old farm by the river"


def test_every_row_that_stays_is_in_the_table_with_its_vectors(tmp_path: Path, model: Path) -> None:
    data = Dataset(tmp_path)
    unpaired = {"prompt": [{"role": "user", "content": "a poem"}], "completion": "roses", "label": True}
    done = data.refresh(
        data.file("a.jsonl", [pair(QUESTION), pair(QUESTION)]),
        data.file("b.jsonl", [unpaired]),
        embedding=model,
    )
    assert [row["ordinal"] for row in table(done)] == [1, 2]
    assert [row["source"] for row in table(done)] == ["a", "b"]
    for row, texts in zip(table(done), [(QUESTION, "yes", "no"), ("a poem", "roses")], strict=True):
        assert row["prompt"] == texts[0]
        expected = Embedder(model).of(list(texts)).numpy()
        for name, vector in zip(("vector", "first", "second"), expected, strict=False):
            np.testing.assert_allclose(row[name], vector, atol=1e-3)
    assert not any(table(done)[1]["second"])
    assert "nearDuplicate" not in done.result.counts


def test_the_table_is_no_part_of_the_digest_and_what_it_has_is_not_embedded_again(
    tmp_path: Path, model: Path, embedded: list[str]
) -> None:
    data = Dataset(tmp_path)
    first = data.refresh(data.file("a.jsonl", [pair("one cow"), pair("a poem")]), embedding=model)
    assert sorted(embedded) == ["a poem", "no", "one cow", "yes"]
    embedded.clear()
    again = data.refresh(data.folder / "data" / "a.jsonl", embedding=model)
    assert embedded == []
    assert again.result.manifest.digest == first.result.manifest.digest
    more = data.refresh(
        data.folder / "data" / "a.jsonl", data.file("b.jsonl", [pair("a third one")]), embedding=model
    )
    assert sorted(embedded) == ["a third one", "no", "yes"]
    assert [row["ordinal"] for row in table(more)] == [1, 2, 3]
    assert table(more)[0]["vector"] == table(first)[0]["vector"]


@pytest.mark.parametrize("damage", [b"", b"broken" * 100])
def test_a_table_that_is_damaged_is_made_anew(
    tmp_path: Path, model: Path, embedded: list[str], damage: bytes
) -> None:
    data = Dataset(tmp_path)
    first = data.refresh(data.file("a.jsonl", [pair(QUESTION)]), embedding=model)
    for file in (run_folder(first) / "derived").rglob("*.*"):
        if file.is_file():
            file.write_bytes(damage)
    embedded.clear()
    second = data.refresh(data.file("a.jsonl", [pair(QUESTION), pair("what is a cow")]), embedding=model)
    assert QUESTION in embedded
    assert [row["prompt"] for row in table(second)] == [QUESTION, "what is a cow"]


def test_another_model_embeds_everything_anew(tmp_path: Path, model: Path, embedded: list[str]) -> None:
    data = Dataset(tmp_path)
    file = data.file("a.jsonl", [pair("one cow")])
    first = data.refresh(file, embedding=model)
    embedded.clear()
    second = data.refresh(file, embedding=tiny.llama(tmp_path / "other", seed=4))
    assert sorted(embedded) == ["no", "one cow", "yes"]
    assert table(second)[0]["vector"] != table(first)[0]["vector"]
    assert second.result.manifest.digest != first.result.manifest.digest


def test_near_duplicates_are_set_aside_and_the_lower_ordinal_stays(
    tmp_path: Path, model: Path, embedded: list[str]
) -> None:
    data = Dataset(tmp_path)
    plain = data.refresh(
        data.file("z.jsonl", [pair("zzz"), pair(QUESTION + ".", "yes it is", "no it is not")])
    )
    assert plain.result.counts["sequence"] == 2
    near = pair(QUESTION, "yes it is", "no it is not.")
    done = data.refresh(
        data.file("a.jsonl", [near, pair("write me a poem")]),
        data.folder / "data" / "z.jsonl",
        embedding=model,
        similarity_percent=95.0,
    )
    assert [(row["ordinal"], row["prompt"]) for row in done.rows("pairs.jsonl")] == [
        (3, "write me a poem"),
        (1, "zzz"),
        (2, QUESTION + "."),
    ]
    (left_out,) = done.rows("rejected.jsonl")
    assert (left_out["source"], left_out["line"], left_out["reason"]) == ("a", 1, "NearDuplicate")
    assert left_out["problem"] == "is alike to the one of ordinal 2"
    assert (
        done.result.counts["nearDuplicate"],
        done.result.counts["kept"],
        done.result.counts["sequence"],
    ) == (1, 3, 3)
    assert "| nearDuplicate | 1 |" in (run_folder(done) / "README.md").read_text()

    embedded.clear()
    again = data.refresh(
        data.folder / "data" / "a.jsonl",
        data.folder / "data" / "z.jsonl",
        embedding=model,
        similarity_percent=95.0,
    )
    assert (again.result.counts["nearDuplicate"], embedded) == (1, [])


@pytest.mark.parametrize(
    "other",
    [
        pair(QUESTION, "no it is not", "yes it is"),
        pair(QUESTION + " 7", "yes it is", "no it is not"),
        pair(QUESTION, "yes it is", "roses are red, violets are blue, 123"),
        {"prompt": QUESTION, "completion": "yes it is", "label": True},
        pair("x" * 200, "yes it is", "no it is not"),
    ],
    ids=["judged the other way", "another figure", "another answer", "no pair", "not read whole"],
)
def test_what_differs_in_substance_stays(tmp_path: Path, model: Path, other: dict[str, Any]) -> None:
    data = Dataset(tmp_path)
    first = pair(QUESTION + ".", "yes it is", "no it is not")
    if other["prompt"].startswith("x"):
        first["prompt"] = other["prompt"] + "y"
    done = data.refresh(
        data.file("a.jsonl", [first]), data.file("b.jsonl", [other]), embedding=model, similarity_percent=90.0
    )
    assert (done.result.counts["nearDuplicate"], done.result.counts["kept"]) == (0, 2)


def searched(done: Finished, model: Path, words: str, most: int = 10) -> Matches:
    revisions = done.result.manifest.uri.rpartition("/")[0]
    asked = SearchConfig(
        revisions=revisions,
        revision=done.result.manifest,
        model=f"file://{model}",
        words=words,
        most=most,
    )
    return search(asked, Places({}))


def test_a_search_shows_the_nearest_of_the_rows_that_stay(tmp_path: Path, model: Path) -> None:
    data = Dataset(tmp_path)
    near = pair(QUESTION + ".")
    file = data.file(
        "a.jsonl", [pair(QUESTION), near, pair("roses"), pair("a farm by the river"), pair("zz")]
    )
    done = data.refresh(file, embedding=model, similarity_percent=95.0)
    found = searched(done, model, QUESTION + ".").matches
    assert found[0].row.ordinal == 1
    assert sorted(match.row.ordinal for match in found) == [1, 2, 3, 4]
    asked, *prompts = Embedder(model).of([QUESTION + ".", *(match.row.prompt for match in found)])
    assert [match.percent for match in found] == pytest.approx(
        [100 * float(asked @ each) for each in prompts], abs=0.1
    )
    assert [match.percent for match in found] == sorted((match.percent for match in found), reverse=True)
    assert searched(done, model, QUESTION + ".", most=2).matches == found[:2]


def test_a_search_needs_the_model_that_embedded(tmp_path: Path, model: Path) -> None:
    data = Dataset(tmp_path)
    plain = data.refresh(data.file("a.jsonl", [pair("roses")]))
    for folder, said in ((model, "has no vectors of the model"), (tmp_path / "none", "is not there")):
        with pytest.raises(InputMissingError, match=said):
            searched(plain, folder, "roses")


def test_rows_alike_to_a_gold_prompt_are_listed_and_stay(tmp_path: Path, model: Path) -> None:
    data = Dataset(tmp_path)
    golds = [
        data.file("gold-0.jsonl", [{"prompt": "zzz"}, {"prompt": "write me a poem"}]),
        data.file("gold-1.jsonl", [{"prompt": QUESTION}]),
    ]
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION + "."}]
    some = [pair("0123456789"), pair(QUESTION), pair(QUESTION + " now"), pair(QUESTION + " now")]
    thumb = {"prompt": chat, "completion": "17", "label": True}
    settings: dict[str, Any] = {"embedding": model, "gold": golds}
    files = data.file("a.jsonl", some), data.file("b.jsonl", [thumb])
    done = data.refresh(*files, near_gold_percent=90.0, **settings)
    assert (done.result.counts["contaminated"], done.result.counts["kept"]) == (2, 2), (
        "exact ones are left out"
    )
    assert done.result.counts["nearGold"] == 1
    (row,) = [
        json.loads(line) for line in (run_folder(done) / "derived/near-gold.jsonl").read_text().splitlines()
    ]
    one, other = Embedder(model).of([QUESTION + " now", QUESTION])
    assert row.pop("percent") == pytest.approx(100 * float(one @ other), abs=0.1)
    assert row == {
        "ordinal": 2,
        "source": "a",
        "file": "a.jsonl",
        "line": 3,
        "prompt": QUESTION + " now",
        "goldSet": 1,
        "goldLine": 1,
        "goldPrompt": QUESTION,
    }
    assert (
        "1 rows that stay ask what is alike to one of these prompts"
        in (run_folder(done) / "README.md").read_text()
    )
    assert data.refresh(*files, near_gold_percent=-100.0, **settings).result.counts["nearGold"] == 2
    assert "nearGold" not in data.refresh(*files, **settings).result.counts


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    data = Dataset(tmp_path)
    done = data.refresh(data.file("a.jsonl", [pair("a")]), embedding=tmp_path / "data")
    assert done.code == ExitCode.INVALID_MODEL
    assert done.failure.message.startswith("embedding: ")


def test_a_model_whose_vectors_are_not_finite_stops_the_refresh(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Embedder.__init__

    def damaged(self: Embedder, folder: Path) -> None:
        made(self, folder)
        with torch.no_grad():
            next(self._model.parameters()).fill_(torch.nan)

    monkeypatch.setattr(Embedder, "__init__", damaged)
    data = Dataset(tmp_path)
    done = data.refresh(data.file("a.jsonl", [pair("one")]), embedding=model)
    assert done.code == ExitCode.INVALID_MODEL
    assert "vectors that are not finite" in done.failure.message


def test_a_text_that_says_nothing_has_no_direction_and_moves_no_other(tmp_path: Path) -> None:
    """As of a prompt that is a system's message alone, for a tokenizer that puts nothing in front."""
    embedder = Embedder(tiny.llama(tmp_path, seed=3, adds_bos=False))
    found = embedder.of(["", "how many cows", ""])
    assert not found[[0, 2]].any()
    assert torch.allclose(found[1], embedder.of(["how many cows"])[0], atol=1e-6)
