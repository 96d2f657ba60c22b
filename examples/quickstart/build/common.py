"""What the policy and the reward models share: tokenizer, architecture, batches, the training loop."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tasks import FIRM, HEDGED, Sampler, splits
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast, set_seed

ASSETS = Path(__file__).resolve().parent.parent / "quickstart-assets"
CONTEXT = 256

CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' + (message['content'] | trim) -}}"
    "{%- if message['role'] == 'assistant' -%}{{- eos_token -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A BPE of 768 tokens over bytes; digits stand alone, so that arithmetic sees places and not pieces."""
    sampler = Sampler(random.Random(1), splits())
    corpus = [text for _ in range(20_000) for text in sampler.mixed()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d|[^\w\s]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=768,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    assert {len(tokenizer.encode(opener).ids) for opener in FIRM + HEDGED} == {3}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=special[3:],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def llama_config(tokenizer: PreTrainedTokenizerFast, layers: int = 6) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def encode(
    tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]
) -> tuple[list[list[int]], list[int]]:
    """Token ids of (prompt, answer), as the chat template makes them, and where each answer starts."""
    heads = tokenizer([f"<s><|user|>{prompt}<|assistant|>" for prompt, _ in pairs])["input_ids"]
    tails = tokenizer([f"{answer}</s>" for _, answer in pairs])["input_ids"]
    return [h + t for h, t in zip(heads, tails, strict=True)], [len(h) for h in heads]


def pad(rows: list[list[int]], value: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def by_length(ids: list[list[int]], groups: int = 4) -> list[list[int]]:
    """The rows of a batch in groups of like length: half of what is computed would be padding otherwise."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    size = math.ceil(len(order) / groups)
    return [order[start : start + size] for start in range(0, len(order), size)]


def fit(
    model: PreTrainedModel,
    loss_of: Callable[[], torch.Tensor],
    steps: int,
    learning_rate: float,
    label: str,
) -> None:
    """AdamW, linear warm-up, cosine to a tenth."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.98),
    )
    warmup = max(1, min(100, steps // 10))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    started, total = time.monotonic(), 0.0
    model.train()
    for step in range(1, steps + 1):
        loss = loss_of()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0 or step == steps:
            count = step % 100 or 100
            print(
                f"{label}: {step}/{steps}, loss {total / count:.3f}, {time.monotonic() - started:.0f} s",
                flush=True,
            )
            total = 0.0
    model.eval()


def batches(draw: Callable[[], tuple[str, ...]], size: int) -> Iterator[list[tuple[str, ...]]]:
    while True:
        yield [draw() for _ in range(size)]


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """In bf16, as real checkpoints come."""
    model.to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)
    tokenizer.backend_tokenizer.no_padding()  # a batch that was padded has left its mark
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # the weights come as 0600, and a worker's pod is another user


def seed_everything(seed: int, threads: int) -> None:
    torch.set_num_threads(threads)
    set_seed(seed)
