"""Sampling as transformers itself does it, on a file of prompts: static batches of `generate`, or continuous batching.

    python benchmarks/plain_sample.py --model DIR --prompts FILE --output FILE --way static --rows 512 …

Static batches hold prompts of like length, so that padding wastes least. Prints one JSON object: tokens sampled, up to
and with the EOS of each answer.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, ContinuousBatchingConfig, GenerationConfig

_PAGE = 32  # tokens of a page of the cache; transformers' 256 are made for long contexts
_TOKENS_AT_ONCE = 1024


def encoded(tokenizer: Any, prompt: Any) -> list[int]:
    text = prompt
    if not isinstance(prompt, str):
        text = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(text, add_special_tokens=isinstance(prompt, str))["input_ids"]
    return ids


def static(
    model: Any, prompts: Sequence[list[int]], settings: GenerationConfig, rows: int
) -> list[list[int]]:
    pad = model.generation_config.pad_token_id
    size = max(1, rows // settings.num_return_sequences)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    found: list[list[int]] = [[] for _ in range(len(prompts) * settings.num_return_sequences)]
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        longest = max(len(prompts[index]) for index in batch)
        ids = torch.tensor([[pad] * (longest - len(prompts[i])) + prompts[i] for i in batch])
        mask = torch.tensor([[0] * (longest - len(prompts[i])) + [1] * len(prompts[i]) for i in batch])
        answers = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        for place, row in enumerate(answers[:, longest:].tolist()):
            prompt, sample = divmod(place, settings.num_return_sequences)
            found[batch[prompt] * settings.num_return_sequences + sample] = row
    return found


def continuous(
    model: Any, prompts: Sequence[list[int]], settings: GenerationConfig, rows: int
) -> list[list[int]]:
    longest = max(map(len, prompts)) + settings.max_new_tokens
    own = ContinuousBatchingConfig(
        page_size=_PAGE,
        num_blocks=rows * (longest // _PAGE + 1),
        max_batch_tokens=max(rows, _TOKENS_AT_ONCE),
        max_requests_per_batch=rows,
    )
    done = model.generate_batch(
        inputs=list(prompts), generation_config=settings, continuous_batching_config=own
    )
    return [answer.generated_tokens for answer in done.values()]


def cut(row: list[int], eos: Collection[int]) -> list[int]:
    end = next((place for place, token in enumerate(row) if token in eos), len(row) - 1)
    return row[: end + 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--way", choices=("static", "continuous"), required=True)
    parser.add_argument("--rows", type=int, required=True, help="answers that are generated at once")
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--max-new-tokens", type=int, required=True)
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
    eos = model.generation_config.eos_token_id
    settings = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        num_return_sequences=given.samples,
        max_new_tokens=given.max_new_tokens,
        eos_token_id=eos,
        pad_token_id=model.generation_config.pad_token_id,
    )
    torch.manual_seed(0)
    asked = [json.loads(line)["prompt"] for line in given.prompts.read_text().splitlines()]
    prompts = [encoded(tokenizer, prompt) for prompt in asked]
    way = static if given.way == "static" else continuous  # both see to it that no gradients are kept
    answers = way(model, prompts, settings, given.rows)
    answers = [cut(row, eos if isinstance(eos, list) else [eos]) for row in answers]
    texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
    with given.output.open("w") as file:
        for ids, text in zip(answers, texts, strict=True):
            file.write(json.dumps({"ids": ids, "text": text}) + "\n")
    print(json.dumps({"answers": len(answers), "tokens": sum(map(len, answers))}))


if __name__ == "__main__":
    main()
