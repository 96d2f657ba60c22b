"""Trains M_0 from scratch: phase A teaches right answers, phase B answers of mixed quality."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from common import batches, by_length, encode, fit, llama_config, pad, save
from tasks import Item, Sampler, right, splits
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def next_token_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: list) -> torch.Tensor:
    """Cross entropy of the answers alone."""
    ids, starts = encode(tokenizer, rows)
    total = torch.zeros(())
    for group in by_length(ids):
        inputs = pad([ids[i] for i in group], tokenizer.pad_token_id)
        labels = pad([[-100] * starts[i] + ids[i][starts[i] :] for i in group], -100)
        # Right padding and causal attention: no position that counts sees a pad, so no mask is needed.
        hidden = model.model(input_ids=inputs).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        kept = targets != -100
        total = total + torch.nn.functional.cross_entropy(
            model.lm_head(hidden[kept]), targets[kept], reduction="sum"
        )
    return total / sum(len(row) - start for row, start in zip(ids, starts, strict=True))


@torch.no_grad()
def generate(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    *,
    samples: int = 0,
    max_new_tokens: int = 64,
    batch: int = 300,
) -> list[list[list[int]]]:
    """Per prompt, its completions as token ids with EOS: one greedy (samples = 0), or several at T = 1."""
    model.eval()
    out: list[list[list[int]]] = []
    heads = [f"<s><|user|>{prompt}<|assistant|>" for prompt in prompts]
    step = max(1, batch // max(1, samples))
    for start in range(0, len(heads), step):
        inputs = tokenizer(
            heads[start : start + step], return_tensors="pt", padding=True, padding_side="left"
        )
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=samples > 0,
            temperature=1.0 if samples else None,
            top_k=0 if samples else None,
            num_return_sequences=samples or 1,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        rows = model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], generation_config=config
        )[:, inputs["input_ids"].shape[1] :].tolist()
        eos = tokenizer.eos_token_id
        cut = [row[: row.index(eos) + 1] if eos in row else row for row in rows]
        out += [cut[i : i + (samples or 1)] for i in range(0, len(cut), samples or 1)]
    return out


def decode(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True)


def accuracy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, items: list[Item]
) -> tuple[dict[str, float], float]:
    """Greedy accuracy by category and kind, and the mean of the tokens."""
    answers = [a[0] for a in generate(model, tokenizer, [i.prompt for i in items])]
    marks: dict[str, list[bool]] = {}
    for item, answer in zip(items, answers, strict=True):
        for group in (item.category, f"{item.category}/{item.kind}", "all"):
            marks.setdefault(group, []).append(right(item, decode(tokenizer, answer)))
    means = {group: round(sum(m) / len(m), 3) for group, m in sorted(marks.items())}
    return means, sum(map(len, answers)) / len(answers)


def train_base(tokenizer: PreTrainedTokenizerFast, work: Path, steps: int) -> None:
    """Phase A: right answers, from nothing. The sound reward model starts from it too."""
    sets = splits()
    sampler = Sampler(random.Random(2), sets)
    model = LlamaForCausalLM(llama_config(tokenizer))
    print(f"policy: {model.num_parameters():,} parameters")
    rows = batches(sampler.clean, 64)
    fit(model, lambda: next_token_loss(model, tokenizer, next(rows)), steps, 2e-3, "phase A")
    print(f"after phase A: gold {accuracy(model, tokenizer, sets['gold'])}", flush=True)
    model.save_pretrained(work / "phase-a")


def train_policy(tokenizer: PreTrainedTokenizerFast, folder: Path, work: Path, steps: int) -> None:
    """Phase B: answers of mixed quality. What comes out is M_0."""
    sets = splits()
    sampler = Sampler(random.Random(6), sets)
    model = LlamaForCausalLM.from_pretrained(work / "phase-a", dtype=torch.float32)
    rows = batches(sampler.mixed, 64)
    fit(model, lambda: next_token_loss(model, tokenizer, next(rows)), steps, 1e-3, "phase B")
    print(f"after phase B: gold {accuracy(model, tokenizer, sets['gold'])}", flush=True)
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    save(model, tokenizer, folder)
