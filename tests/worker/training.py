"""Tiny random models and pairs for the tests of the stage `train`, and the stage as a Job runs it."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from alignment_api import digests
from alignment_api.cycle import Training
from alignment_api.stage import Input, InputKind, Stage, StageConfig, StageReport, TrainParameters
from alignment_worker import main
from alignment_worker.generate import Decoding, generate
from alignment_worker.models import load_policy
from alignment_worker.sample import answer_of

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}<eos>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<bos>", "<eos>", "<|user|>", "<|assistant|>", "<|system|>"]
WORDS = "abcdefghijklmnopqrstuvwxyz0123456789 .,?\n"


def tokenizer(*, pad: bool = True, template: bool = True) -> PreTrainedTokenizerFast:
    """One token a character."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, "<unk>", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>" if pad else None,
    )
    made.add_special_tokens({"additional_special_tokens": SPECIAL[3:]})
    if template:
        made.chat_template = TEMPLATE
    return made


def llama(
    folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, tied: bool = True, **kwargs: bool
) -> Path:
    """A Llama of two layers."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=tied, **_sizes()))
    return _saved(model, folder, dtype, tokenizer(**kwargs))


def qwen(
    folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.bfloat16, tied: bool = False, **kwargs: bool
) -> Path:
    """A Qwen3 of two layers, in bf16, with a head of its own."""
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(Qwen3Config(tie_word_embeddings=tied, head_dim=16, **_sizes()))
    return _saved(model, folder, dtype, tokenizer(**kwargs))


def _sizes() -> dict[str, int]:
    return {
        "vocab_size": len(SPECIAL) + 1 + len(WORDS),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 128,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


def _saved(model: Any, folder: Path, dtype: torch.dtype, words: PreTrainedTokenizerFast) -> Path:
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=[2], pad_token_id=0)
    model.to(dtype).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def sampled_pairs(count: int = 24, *, seed: int = 0, longest: int = 12) -> list[dict[str, Any]]:
    """Rows as the judge stage writes them."""
    draw = random.Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return [draw.randrange(10, 40) for _ in range(draw.randint(low, high))]

    return [
        {
            "prompt": f"p{number}",
            "chosen": "c",
            "rejected": "r",
            "prompt_ids": [1, *ids(3, longest)],
            "chosen_ids": [*ids(2, longest), 2],
            "rejected_ids": [*ids(2, longest), 2],
        }
        for number in range(count)
    ]


def file_for(method: str) -> str:
    """What of the judge stage's a method reads."""
    return "best.jsonl" if method == "BestOfN" else "pairs.jsonl"


def judged_pairs(
    policy: Path, count: int = 24, *, seed: int = 0, temperature: float = 1.0
) -> list[dict[str, Any]]:
    """Rows as the judge stage writes them, sampled from `policy`: answers that end, and answers that were cut off."""
    model = load_policy("policy", policy)
    draw = random.Random(seed)
    prompts = [[1, *(draw.randrange(10, 40) for _ in range(draw.randint(3, 12)))] for _ in range(count)]
    decoding = Decoding(samples=2, temperature=temperature, top_p=1.0, max_new_tokens=24, seed=seed)
    rows = []
    for number, pair in enumerate(generate(model, prompts, range(count), decoding)):
        chosen, rejected = (answer_of(completion, f"{number}") for completion in pair)
        rows.append(
            {
                "prompt": f"p{number}",
                "chosen": chosen["text"],
                "rejected": rejected["text"],
                "prompt_ids": prompts[number],
                "chosen_ids": chosen["ids"],
                "rejected_ids": rejected["ids"],
                "chosen_log_probs": chosen["log_probs"],
                "rejected_log_probs": rejected["log_probs"],
                "line": number + 1,
            }
        )
    return rows


def sealed(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A finished stage's folder with one file of rows."""
    file = folder / "run-0" / name
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = {
        "contractVersion": 1,
        "stage": "judge",
        "configHash": "0",
        "run": "run-0",
        "files": {f"run-0/{name}": digests.of_file(file)},
        "result": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@dataclass(frozen=True)
class Finished:
    """How the stage ended."""

    code: int
    report: StageReport
    folder: Path

    @property
    def run_folder(self) -> Path:
        return self.folder / str(json.loads((self.folder / "manifest.json").read_bytes())["run"])

    @property
    def model(self) -> Path:
        return self.run_folder / "model"

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in (self.run_folder / "training-log.jsonl").read_text().splitlines()
        ]


def config(
    output: Path, inputs: Mapping[str, tuple[Path, InputKind]], parameters: TrainParameters
) -> StageConfig:
    """The StageConfig of the stage train over folders of this machine."""
    return StageConfig(
        stage=Stage.TRAIN,
        owner_uid="uid",
        iteration=1,
        output=output.as_uri(),
        inputs={role: Input(uri=path.as_uri(), kind=kind) for role, (path, kind) in inputs.items()},
        parameters=parameters,
        seed=0,
    )


def training(**settings: Any) -> Training:
    """Settings that move a tiny model in few steps."""
    defaults = {
        "beta": None if settings.get("method") == "BestOfN" else 0.1,
        "learning_rate": 1e-3,
        "epochs": 2,
        "per_device_batch_size": 4,
        "gradient_accumulation_steps": 1,
    }
    return Training(**(defaults | settings))


def arguments(made: StageConfig, folder: Path) -> list[str]:
    """The worker's command line for a config; the report goes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "stage.json"
    file.write_text(json.dumps(made.to_wire()))
    return [
        "train",
        "--config",
        str(file),
        "--report",
        str(folder / "report"),
        "--progress",
        str(folder / "progress"),
    ]


def finish(made: StageConfig, folder: Path) -> Finished:
    """Run the stage in this process, from its command line to its report."""
    code = main.main(arguments(made, folder))
    report = StageReport.decode((folder / "report").read_text())
    return Finished(code, report, Path(made.output.removeprefix("file://")))
