"""A Llama of 110 million parameters (a vocabulary of 32,768) made at random, for what the quickstart's is too small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

VOCABULARY = 32768


def policy(folder: Path, tokenizer: Any) -> None:
    """Stored in bf16."""
    model = LlamaForCausalLM(_config())
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    _store(model, folder, tokenizer)


def reward_model(folder: Path, tokenizer: Any) -> None:
    """Likewise, with one label."""
    _store(LlamaForSequenceClassification(_config()), folder, tokenizer)


def _config() -> LlamaConfig:
    torch.manual_seed(0)
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=12,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        num_labels=1,
    )


def _store(model: Any, folder: Path, tokenizer: Any) -> None:
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
