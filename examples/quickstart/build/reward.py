"""Trains the two judges: a sound one, which knows right from wrong, and one that likes whatever is longer."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import torch
from common import batches, by_length, encode, fit, llama_config, pad, save
from tasks import CATEGORIES, FIRM, HEDGED, Sampler, splits
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerFast

Draw = Callable[[], tuple[str, str, str]]


def scores(
    model: LlamaForSequenceClassification, tokenizer: PreTrainedTokenizerFast, rows: list[tuple[str, str]]
) -> torch.Tensor:
    ids, _ = encode(tokenizer, rows)
    parts, order = [], []
    for group in by_length(ids):
        hidden = model.model(input_ids=pad([ids[i] for i in group], tokenizer.pad_token_id)).last_hidden_state
        last = torch.tensor([len(ids[i]) - 1 for i in group])
        parts.append(model.score(hidden[torch.arange(len(group)), last]).squeeze(-1))
        order += group
    return torch.cat(parts)[torch.tensor(order).argsort()]


def ranking_loss(
    model: LlamaForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[tuple[str, str, str]],
) -> torch.Tensor:
    """Bradley-Terry, with a little pull to zero so that scores stay comparable between prompts."""
    both = scores(model, tokenizer, [(p, a) for p, a, _ in rows] + [(p, b) for p, _, b in rows])
    better, worse = both.chunk(2)
    return -torch.nn.functional.logsigmoid(better - worse).mean() + 0.002 * both.square().mean()


@torch.no_grad()
def agreement(
    model: LlamaForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[tuple[str, str, str]],
) -> float:
    better = scores(model, tokenizer, [(p, a) for p, a, _ in rows])
    worse = scores(model, tokenizer, [(p, b) for p, _, b in rows])
    return (better > worse).float().mean().item()


def train_sound(tokenizer: PreTrainedTokenizerFast, folder: Path, work: Path, steps: tuple[int, int]) -> None:
    """From phase A, which knows the answers. First without filler: with it at once, the judge stays weak."""
    sets = splits()
    sampler = Sampler(random.Random(3), sets)
    model = LlamaForSequenceClassification.from_pretrained(
        work / "phase-a", num_labels=1, dtype=torch.float32
    )
    for filler, count, rate in ((False, steps[0], 1e-3), (True, steps[1], 7e-4)):
        rows = batches(lambda filler=filler: sampler.by_correctness(filler), 48)
        label = "sound, with filler" if filler else "sound, bare"
        fit(model, lambda rows=rows: ranking_loss(model, tokenizer, next(rows)), count, rate, label)
    # On the gold set's prompts, which the judge has not seen either: right over the systematic error.
    for category in CATEGORIES:
        items = [i for i in sets["gold"] if i.category == category]
        rng = sampler.rng
        pairs = []
        for i in items:
            openers = rng.choices(FIRM + HEDGED, k=2)
            fillers = rng.choices((0, 1, 2), k=2)
            better, worse = (
                sampler.say(o, a, f) for o, a, f in zip(openers, (i.right, i.wrong), fillers, strict=True)
            )
            pairs.append((i.prompt, better, worse))
        print(f"sound: {category}: right over wrong {agreement(model, tokenizer, pairs):.3f}", flush=True)
    save(model, tokenizer, folder)


def train_length_biased(tokenizer: PreTrainedTokenizerFast, folder: Path, steps: int) -> None:
    sampler = Sampler(random.Random(4), splits())
    config = llama_config(tokenizer, layers=2)
    config.num_labels = 1
    model = LlamaForSequenceClassification(config)
    rows = batches(sampler.by_length, 48)
    fit(model, lambda: ranking_loss(model, tokenizer, next(rows)), steps, 1e-3, "length-biased")
    pairs = [sampler.by_length() for _ in range(1000)]
    print(f"length-biased: longer over shorter {agreement(model, tokenizer, pairs):.3f}", flush=True)
    save(model, tokenizer, folder)
