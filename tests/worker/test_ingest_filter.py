"""A refresh with a filter: a small model that flags answers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from alignment_worker import prompts
from alignment_worker.failures import InvalidModelError
from alignment_worker.ingestion import quality
from alignment_worker.ingestion.quality import Answered
from alignment_worker.store import SealedFolder
from tests.worker import stages, tiny
from tests.worker.judge_server import judge_server, longer
from tests.worker.logging_answers import LoggedDataset, answered, judged, said
from tests.worker.stages import Finished

CHAT = [{"role": "user", "content": "how many cows"}]
SOME: list[Answered] = [
    (CHAT, "seven"),
    (CHAT, "a poem of 9 roses"),
    ("how many cows", " none"),
    (CHAT, "7 7 7 7"),
]


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.llama(tmp_path_factory.mktemp("causal"), seed=3)


@pytest.fixture(scope="module")
def one_label(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.reward_model(tmp_path_factory.mktemp("one"), seed=3)


def two_labels(folder: Path, *names: str) -> Path:
    tiny.reward_model(folder, seed=4, labels=2)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = dict(enumerate(names))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def logits(folder: Path, answered_: Answered) -> list[float]:
    """As transformers alone gives them, of one text at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = prompts.encode_answered(tokenizer, *answered_)
    with torch.no_grad():
        found: list[float] = model(torch.tensor([ids])).logits[0].tolist()
    return found


def test_a_language_model_scores_the_answers_mean_log_probability(causal: Path) -> None:
    tokenizer, model = (
        AutoTokenizer.from_pretrained(causal),
        AutoModelForCausalLM.from_pretrained(causal).eval(),
    )
    expected = []
    for prompt, answer in SOME:
        asked = prompts.encode(tokenizer, prompt)
        ids = [*asked, *prompts.encode_completion(tokenizer, answer, eos=False)]
        with torch.no_grad():
            said_ = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        each = [float(said_[place - 1, ids[place]]) for place in range(len(asked), len(ids))]
        expected.append(sum(each) / len(each))
    assert quality.scorer(causal, -3).scores(SOME) == pytest.approx(expected, abs=1e-4)


def test_a_classifier_says_how_probable_it_is_that_the_answer_is_good(
    one_label: Path, tmp_path: Path
) -> None:
    expected = [1 / (1 + math.exp(-logits(one_label, each)[0])) for each in SOME]
    assert quality.scorer(one_label, 0.5).scores(SOME) == pytest.approx(expected, abs=1e-4)
    for names, good in ((("LABEL_0", "LABEL_1"), 1), (("Factual", "Hallucinated"), 0)):
        folder = two_labels(tmp_path / names[0], *names)
        both = [logits(folder, each) for each in SOME]
        expected = [math.exp(each[good]) / sum(map(math.exp, each)) for each in both]
        assert quality.scorer(folder, 0.5).scores(SOME) == pytest.approx(expected, abs=1e-4)


def test_a_classifier_without_a_chat_template_reads_two_texts(tmp_path: Path) -> None:
    folder = tiny.reward_model(tmp_path / "plain", seed=3)
    for template in folder.glob("chat_template*"):
        template.unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    scores = quality.scorer(folder, 0.5).scores(SOME)
    assert None not in scores
    assert len(set(scores)) == len(SOME)


def test_what_a_model_cannot_read_is_not_scored(causal: Path, one_label: Path) -> None:
    for folder in (causal, one_label):
        first, second = quality.scorer(folder, -1 if folder is causal else 0.5).scores(
            [(CHAT, "x" * 200), SOME[0]]
        )
        assert first is None
        assert second is not None


@pytest.mark.parametrize("limit", [-0.1, 1.5])
def test_a_limit_that_no_classifier_reaches_is_refused(one_label: Path, tmp_path: Path, limit: float) -> None:
    done = filtered(tmp_path, one_label, limit)
    assert (done.code, done.failure.reason) == (64, "InvalidConfig")
    assert done.failure.message.startswith(f"spec.curation.filter.flagBelow: {limit:g}: ")


def test_a_limit_that_flags_all_that_a_language_model_says_is_refused(causal: Path, tmp_path: Path) -> None:
    done = filtered(tmp_path, causal, 0.5)
    assert (done.code, done.failure.reason) == (64, "InvalidConfig")


def test_labels_that_do_not_say_which_is_good_are_refused(tmp_path: Path) -> None:
    done = filtered(tmp_path, two_labels(tmp_path / "model", "red", "blue"), 0.5)
    assert (done.code, done.failure.reason) == (66, "InvalidModel")
    assert "'red' and 'blue'" in done.failure.message


PAIRS: list[dict[str, Any]] = [
    {"prompt": f"how many {word}", "chosen": f"there are {word * 2}", "rejected": f"{word} {word}"}
    for word in ("cows", "goats", "pigs", "hens", "bees", "owls")
]
UNPAIRED: list[dict[str, Any]] = [
    {"prompt": row["prompt"], "completion": row["chosen"], "label": label}
    for row, label in zip(PAIRS, [True, False] * 3, strict=True)
]


def filtered(folder: Path, model: Path, limit: float, action: str = "Label", **settings: Any) -> Finished:
    data = LoggedDataset(folder / "dataset")
    data.log(*answered("x", "y"))
    data.people([*PAIRS])
    return data.refresh(filter_model=model, flag_below=limit, action=action, **settings)


def scores_of(model: Path) -> list[float]:
    found = quality.scorer(model, 0.5).scores([(row["prompt"], row["chosen"]) for row in PAIRS])
    return [score for score in found if score is not None]


def between(scores: list[float]) -> float:
    """Half of them are below."""
    ordered = sorted(scores)
    return (ordered[2] + ordered[3]) / 2


def test_with_drop_what_is_flagged_is_set_aside_with_its_reason(one_label: Path, tmp_path: Path) -> None:
    scores = scores_of(one_label)
    limit = between(scores)
    done = filtered(tmp_path, one_label, limit, "Drop")
    low = [row["chosen"] for row, score in zip(PAIRS, scores, strict=True) if score < limit]
    rejected = done.rows("rejected.jsonl")
    assert [json.loads(row["row"])["chosen"] for row in rejected] == low
    assert {row["reason"] for row in rejected} == {"Filtered"}
    assert rejected[0]["problem"].startswith("the filter gives its answer 0.")
    assert [row["chosen"] for row in done.rows("pairs.jsonl")] == [
        row["chosen"] for row in PAIRS if row["chosen"] not in low
    ]
    counts = done.result.counts
    assert (counts["filtered"], counts["flagged"], counts["kept"]) == (3, 0, 3)
    card = SealedFolder.open(done.folder).file("README.md").read_text()
    assert "| filtered | 3 |" in card
    assert "3 are left out, 0 rows with a flagged answer" in card


def test_with_label_what_is_flagged_stays_and_is_told(one_label: Path, tmp_path: Path) -> None:
    scores = scores_of(one_label)
    limit = between(scores)
    done = filtered(tmp_path, one_label, limit)
    told = done.rows("flagged.jsonl")
    assert [(row["ordinal"], row["score"]) for row in told] == [
        (number, pytest.approx(score, abs=1e-3))
        for number, score in enumerate(scores, start=1)
        if score < limit
    ]
    assert "filtered" not in done.result.counts
    assert (done.result.counts["flagged"], done.result.counts["kept"]) == (3, 6)


def test_that_a_bad_answer_is_bad_flags_no_row(one_label: Path, tmp_path: Path) -> None:
    data = LoggedDataset(tmp_path)
    data.log(*answered("x", "y"))
    data.people(UNPAIRED)
    done = data.refresh(filter_model=one_label, flag_below=1.0, action="Drop")
    assert [row["label"] for row in done.rows("pairs.jsonl")] == [False] * 3
    assert done.result.counts["filtered"] == 3


def test_an_answer_is_scored_once_over_refreshes(
    one_label: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    scores = quality.Classifier.scores

    def spied(self: quality.Classifier, some: list[Answered]) -> list[float | None]:
        seen.extend(answer for _, answer in some)
        return scores(self, some)

    monkeypatch.setattr(quality.Classifier, "scores", spied)
    data = LoggedDataset(tmp_path)
    data.log(*answered("x", "y", "z"))
    data.people(PAIRS[:3])
    first = data.refresh(filter_model=one_label)
    assert sorted(seen) == sorted(["y", "z", *(row["chosen"] for row in PAIRS[:3])])
    seen.clear()
    assert data.refresh(filter_model=one_label).result.manifest.digest == first.result.manifest.digest
    assert seen == []
    data.people(PAIRS[:4])
    data.refresh(filter_model=one_label)
    assert seen == [PAIRS[3]["chosen"]]
    seen.clear()
    assert data.last is not None
    (scored,) = (path for path in data.last.folder.rglob("derived/*") if path.is_file())
    scored.write_bytes(b"broken")
    data.people(PAIRS[:5])
    assert data.refresh(filter_model=one_label).code == 0
    assert {row["chosen"] for row in PAIRS[:5]} <= set(seen), "what is damaged is made anew"


def test_flagged_answers_go_first_to_the_judge(one_label: Path, tmp_path: Path) -> None:
    """And of the others the newest; a budget leaves the rest for later."""
    asked = [f"p{number}" for number in range(6)]
    data = LoggedDataset(tmp_path)
    data.log(
        *(
            record
            for n, each in enumerate(asked)
            for record in answered(each, f"a {n}", f"bb {n} {n}", minute=n)
        )
    )
    data.people(PAIRS[:1])
    prompts_ = [[{"role": "user", "content": each}] for each in asked]
    texts: list[Answered] = [
        (prompt, answer) for n, prompt in enumerate(prompts_) for answer in (f"a {n}", f"bb {n} {n}")
    ]
    scores = quality.scorer(one_label, 0.5).scores(texts)
    lowest = [min(score for score in scores[2 * n : 2 * n + 2] if score is not None) for n in range(6)]
    limit = (sorted(lowest)[1] + sorted(lowest)[2]) / 2
    flagged = [each for each, low in zip(asked, lowest, strict=True) if low < limit]
    newest = [each for each in reversed(asked) if each not in flagged]
    with judge_server(longer) as server:
        judge = {
            "llm": {"baseURL": server.url, "model": "m", "maxConcurrency": 1, "budget": {"maxRequests": 6}},
            "checkPairs": 0,
        }
        done = data.refresh(judge, filter_model=one_label, flag_below=limit)
    assert done.result.counts["openFlagged"] == 2
    assert [prompt for prompt, *_ in judged(done)] == sorted([*flagged, newest[0]])


def test_with_drop_nobody_is_asked_about_two_flagged_answers(one_label: Path, tmp_path: Path) -> None:
    data = LoggedDataset(tmp_path)
    data.log(*answered("x", "y", "zz"), *answered("rated", "no"), said("rated", 0, rating="down"))
    with judge_server(longer) as server:
        judge = {"llm": {"baseURL": server.url, "model": "m"}}
        done = data.refresh(judge, filter_model=one_label, flag_below=1.0, action="Drop")
        assert not server.asked
    assert (done.result.counts["openPairs"], done.result.counts["judged/production"]) == (1, 0)


def test_neither_torch_nor_scipy_is_loaded_where_no_model_is_named(tmp_path: Path) -> None:
    data = LoggedDataset(tmp_path)
    data.log(*answered("rated", "no"), said("rated", 0, rating="up"))
    words = stages.argv(tmp_path / "job", data.config(None))
    program = (
        f"import sys; from alignment_worker.main import main; code = main({words!r}); "
        "sys.exit(code or [each for each in ('torch', 'transformers', 'scipy', 'openai') if each in sys.modules] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_language_model_whose_scores_are_not_finite_is_refused(causal: Path) -> None:
    scorer = quality.LanguageModel(causal)
    with torch.no_grad():
        next(scorer._policy.model.parameters()).fill_(torch.nan)
    with pytest.raises(InvalidModelError, match="not finite"):
        scorer.scores(SOME)
