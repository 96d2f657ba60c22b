"""One iteration by hand: the work of the quickstart's cycle in one process, by plain transformers and TRL.

    python benchmarks/fused_script.py --assets examples/quickstart/quickstart-assets --output DIR

It is what somebody would write who knows both libraries well and wants nothing but the numbers: no digests, no
manifests, no checkpoints, no gates, no second process. Sampling, scoring, pairs, DPO, gold and held-out answers before
and after, the comparison. Prints one JSON object with the seconds of each part and what came out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

STARTED = time.monotonic()
os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl import DPOConfig, DPOTrainer  # noqa: E402

from alignment_worker.graders import is_right  # noqa: E402

SAMPLES, NEW_TOKENS, ROWS, SCORED = 6, 64, 512, 256


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices, the longest first."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    return [order[start : start + size] for start in range(0, len(order), size)]


@torch.inference_mode()  # type: ignore[untyped-decorator]
def answers(
    model: Any, tokenizer: Any, prompts: Sequence[Any], samples: int, *, greedy: bool
) -> list[list[list[int]]]:
    """Token ids of `samples` answers to each prompt, EOS counted."""
    texts = [tokenizer.apply_chat_template(p, add_generation_prompt=True, tokenize=False) for p in prompts]
    found: list[list[list[int]]] = [[] for _ in prompts]
    tokenizer.padding_side = "left"
    for batch in batches([len(text) for text in texts], ROWS // samples):
        inputs = tokenizer(
            [texts[index] for index in batch], return_tensors="pt", padding=True, add_special_tokens=False
        )
        rows = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=NEW_TOKENS,
            do_sample=not greedy,
            num_return_sequences=samples,
            **({} if greedy else {"temperature": 1.0, "top_p": 1.0, "top_k": 0}),
        )[:, inputs["input_ids"].shape[1] :].tolist()
        eos = tokenizer.eos_token_id
        cut = [row[: row.index(eos) + 1] if eos in row else row for row in rows]
        for place, index in enumerate(batch):
            found[index] = cut[place * samples : (place + 1) * samples]
    return found


@torch.inference_mode()  # type: ignore[untyped-decorator]
def scores(model: Any, tokenizer: Any, asked: Sequence[tuple[Any, str]]) -> list[float]:
    texts = [
        tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": text}], tokenize=False)
        for prompt, text in asked
    ]
    found = [0.0] * len(texts)
    tokenizer.padding_side = "right"
    for batch in batches([len(text) for text in texts], SCORED):
        inputs = tokenizer(
            [texts[index] for index in batch], return_tensors="pt", padding=True, add_special_tokens=False
        )
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, 0]
        for index, score in zip(batch, logits.tolist(), strict=True):
            found[index] = score
    return found


@torch.inference_mode()  # type: ignore[untyped-decorator]
def log_probabilities(model: Any, pad: int, sequences: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    """Of each answer after its prompt, in nats."""
    found = [0.0] * len(sequences)
    for batch in batches([len(p) + len(a) for p, a in sequences], SCORED):
        rows = [sequences[index][0] + sequences[index][1] for index in batch]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        each = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)[:, :-1]
        each = each.gather(2, ids[:, 1:, None]).squeeze(2)
        for place, index in enumerate(batch):
            first = len(sequences[index][0])
            found[index] = float(each[place, first - 1 : len(rows[place]) - 1].sum())
    return found


def measure(
    model: Any, tokenizer: Any, gold: list[dict[str, Any]], held_out: list[dict[str, Any]]
) -> dict[str, Any]:
    """Gold accuracy; held-out answers, and how much they depend on their prompt."""
    said = answers(model, tokenizer, [row["prompt"] for row in gold], 1, greedy=True)
    right = [
        is_right(row["grader"], row["answer"], tokenizer.decode(ids, skip_special_tokens=True))
        for row, (ids,) in zip(gold, said, strict=True)
    ]
    drawn = [
        ids for (ids,) in answers(model, tokenizer, [row["prompt"] for row in held_out], 1, greedy=False)
    ]
    prompts = [
        tokenizer(
            tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False),
            add_special_tokens=False,
        )["input_ids"]
        for row in held_out
    ]
    shifted = prompts[1:] + prompts[:1]
    own, other = (
        log_probabilities(model, tokenizer.pad_token_id, list(zip(asked, drawn, strict=True)))
        for asked in (prompts, shifted)
    )
    return {
        "right": right,
        "texts": [tokenizer.decode(ids, skip_special_tokens=True) for ids in drawn],
        "tokens": [len(ids) for ids in drawn],
        "dependence": sum(own) - sum(other),
    }


def pairs_of(
    rows: list[dict[str, Any]], texts: list[list[str]], lengths: list[list[int]], marks: list[float]
) -> list[Any]:
    """The best and the worst of each prompt; of equals the shorter is chosen."""
    pairs = []
    for number, row in enumerate(rows):
        own = marks[number * SAMPLES : (number + 1) * SAMPLES]
        best = min(range(SAMPLES), key=lambda k: (-own[k], lengths[number][k]))
        worst = min(range(SAMPLES), key=lambda k: own[k])
        if own[best] > own[worst]:
            chosen, rejected = (
                [{"role": "assistant", "content": texts[number][index]}] for index in (best, worst)
            )
            pairs.append({"prompt": row["prompt"], "chosen": chosen, "rejected": rejected})
    return pairs


def train(model: Any, tokenizer: Any, pairs: list[Any], folder: Path) -> None:
    config = DPOConfig(
        output_dir=str(folder),
        learning_rate=2e-4,
        beta=0.1,
        num_train_epochs=3,
        per_device_train_batch_size=32,
        activation_checkpointing=False,
        precompute_ref_log_probs=True,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    DPOTrainer(model, args=config, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer).train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--judge", default="reward-sound")
    given = parser.parse_args()
    seconds: dict[str, float] = {}
    since = STARTED

    def passed(part: str) -> None:
        nonlocal since
        now = time.monotonic()
        seconds[part], since = round(now - since, 2), now
        print(f"{part}: {seconds[part]} s", file=sys.stderr, flush=True)

    torch.manual_seed(0)
    passed("start")
    tokenizer = AutoTokenizer.from_pretrained(given.assets / "policy")
    model = AutoModelForCausalLM.from_pretrained(given.assets / "policy", dtype=torch.float32)
    prompts, gold, held_out = (
        read(given.assets / f"{name}.jsonl") for name in ("prompts", "gold", "heldout")
    )
    sampled = answers(model, tokenizer, [row["prompt"] for row in prompts], SAMPLES, greedy=False)
    passed("sample")
    judge = AutoModelForSequenceClassification.from_pretrained(
        given.assets / given.judge, dtype=torch.float32
    )
    texts = [[tokenizer.decode(ids, skip_special_tokens=True) for ids in several] for several in sampled]
    marks = scores(
        judge,
        tokenizer,
        [(row["prompt"], text) for row, some in zip(prompts, texts, strict=True) for text in some],
    )
    pairs = pairs_of(prompts, texts, [[len(ids) for ids in several] for several in sampled], marks)
    passed("judge")
    before = measure(model, tokenizer, gold, held_out)
    passed("evaluate")
    evaluated = seconds["evaluate"]
    train(model, tokenizer, pairs, given.output)
    model.to(torch.bfloat16).save_pretrained(given.output)
    passed("train")
    model = AutoModelForCausalLM.from_pretrained(given.output, dtype=torch.float32)
    after = measure(model, tokenizer, gold, held_out)
    passed("evaluate")
    seconds["evaluate"] = round(seconds["evaluate"] + evaluated, 2)
    won = [
        0.5 + (is_right(row["grader"], row["answer"], new) - is_right(row["grader"], row["answer"], old)) / 2
        for row, new, old in zip(held_out, after["texts"], before["texts"], strict=True)
    ]
    rewards = [
        scores(
            judge,
            tokenizer,
            [(row["prompt"], text) for row, text in zip(held_out, said["texts"], strict=True)],
        )
        for said in (after, before)
    ]
    passed("compare")
    result = {
        "seconds": seconds,
        "pairs": len(pairs),
        "goldPercent": [round(100 * sum(said["right"]) / len(gold), 1) for said in (before, after)],
        "lengthRatio": round(sum(after["tokens"]) / sum(before["tokens"]), 2),
        "winPercent": round(100 * sum(won) / len(won), 1),
        "rewardWinPercent": round(
            100 * sum(new > old for new, old in zip(*rewards, strict=True)) / len(held_out), 1
        ),
        "dependence": [round(said["dependence"] / len(held_out), 2) for said in (before, after)],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
