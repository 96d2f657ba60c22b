"""Tiny random models of several architectures, and data files, for the worker's tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<bos>", "<eos>", "<|user|>", "<|assistant|>", "<|system|>"]
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .,?"
EOS = 2


def tokenizer(*, pad: bool = True, template: bool = True, adds_bos: bool = True) -> PreTrainedTokenizerFast:
    """One token a character; BOS before every text, as Llama's and Gemma's do."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, "<unk>", *CHARACTERS])}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    if adds_bos:
        inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>" if pad else None,
        additional_special_tokens=SPECIAL[3:],
    )
    if template:
        made.chat_template = TEMPLATE
    return made


def llama(folder: Path, *, seed: int = 0, positions: int = 128, **options: bool) -> Path:
    """Chat template, pad token, tied embeddings, FP32."""
    return _saved(
        LlamaForCausalLM, LlamaConfig(**_sizes(positions), tie_word_embeddings=True), folder, seed, options
    )


def qwen(folder: Path, *, seed: int = 0, positions: int = 128, **options: bool) -> Path:
    """No pad token, no chat template, no BOS, a head of its own, BF16."""
    options = {"pad": False, "template": False, "adds_bos": False} | options
    config = Qwen2Config(**_sizes(positions), tie_word_embeddings=False)
    return _saved(Qwen2ForCausalLM, config, folder, seed, options, torch.bfloat16)


def gemma(folder: Path, *, seed: int = 0, positions: int = 128, **options: bool) -> Path:
    """Layers with a sliding window of 8 tokens, two ways to end an answer."""
    config = Gemma3TextConfig(**_sizes(positions), head_dim=16, sliding_window=8, query_pre_attn_scalar=16)
    return _saved(Gemma3ForCausalLM, config, folder, seed, options, eos=[EOS, 9])


def reward_model(folder: Path, *, seed: int = 0, pad: bool = True, labels: int = 1) -> Path:
    """A Llama with one score."""
    config = LlamaConfig(**_sizes(128), num_labels=labels)
    if not pad:
        config.pad_token_id = None
    return _saved(LlamaForSequenceClassification, config, folder, seed, {"pad": pad}, scale=0.5)


def with_tokens(folder: Path, *tokens: str, **special: str) -> Path:
    """Its tokenizer gets tokens that the model has no embeddings for."""
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    words.add_tokens(list(tokens))
    words.add_special_tokens(special)
    words.save_pretrained(folder)
    return folder


def _sizes(positions: int) -> dict[str, Any]:
    return {
        "vocab_size": len(SPECIAL) + 1 + len(CHARACTERS),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": positions,
        "bos_token_id": 1,
        "eos_token_id": EOS,
        "pad_token_id": 0,
    }


def _saved(
    kind: Any,
    config: Any,
    folder: Path,
    seed: int,
    options: Mapping[str, bool],
    dtype: torch.dtype = torch.float32,
    eos: Sequence[int] = (EOS,),
    scale: float = 0.3,
) -> Path:
    torch.manual_seed(seed)
    model = kind(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(0.0, scale)
    if kind is not LlamaForSequenceClassification:
        model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=list(eos), pad_token_id=0)
    model.to(dtype).save_pretrained(folder)
    tokenizer(**options).save_pretrained(folder)
    return folder


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def prompt_rows(count: int, prefix: str = "say ") -> list[dict[str, Any]]:
    """Plain strings of different lengths."""
    return [{"prompt": prefix + "a" * (number % 7) + str(number)} for number in range(count)]


def gold_rows(count: int = 12) -> list[dict[str, Any]]:
    """Two categories; a Regex that about half of random answers match, so that both outcomes occur."""
    return [
        {
            "prompt": f"gold {number}",
            "answer": "[a-m0-4]$",
            "grader": "Regex",
            "category": "facts" if number % 2 else "code",
        }
        for number in range(count)
    ]


def held_out_rows(count: int = 12) -> list[dict[str, Any]]:
    return [row | {"prompt": f"held {number}"} for number, row in enumerate(gold_rows(count))]


def pair_rows(count: int = 8) -> list[dict[str, Any]]:
    return [{"prompt": f"p{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(count)]
