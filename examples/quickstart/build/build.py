"""Builds examples/quickstart/quickstart-assets from nothing. How, and what comes out: see README.md here."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path

import torch
from common import ASSETS, seed_everything, train_tokenizer
from policy import decode, generate, train_base, train_policy
from reward import train_length_biased, train_sound
from tasks import right, splits
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

# Each part starts from its own seed, so that rebuilding one alone gives what the whole build gives.
PARTS = {"data": 10, "base": 11, "policy": 15, "sound": 12, "length": 13, "pairs": 14}


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{path.name}: {len(rows)} rows")


def write_pairs(tokenizer: PreTrainedTokenizerFast, assets: Path) -> None:
    """Offline preferences: M_0's answers to prompts of their own, right ones chosen, wrong ones rejected."""
    model = LlamaForCausalLM.from_pretrained(assets / "policy", dtype=torch.float32)
    items, rng = splits()["pairs"], random.Random(5)
    eos = tokenizer.eos_token_id
    rows: list[dict[str, object]] = []
    for item, answers in zip(
        items, generate(model, tokenizer, [i.prompt for i in items], samples=16), strict=True
    ):
        texts = sorted({decode(tokenizer, a) for a in answers if a[-1] == eos})
        chosen = [t for t in texts if right(item, t)]
        rejected = [t for t in texts if not right(item, t)]
        rng.shuffle(chosen)
        rng.shuffle(rejected)
        for better, worse in list(zip(chosen, rejected, strict=False))[:2]:
            row: dict[str, object] = {"prompt": item.row()["prompt"]}
            row |= {
                n: [{"role": "assistant", "content": t}] for n, t in (("chosen", better), ("rejected", worse))
            }
            rows.append(row)
    write(assets / "pairs.jsonl", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, default=ASSETS, help="where to write (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="where phase A is kept (default: a temporary folder)")
    parser.add_argument(
        "--only", choices=PARTS, nargs="+", default=list(PARTS), help="rebuild some parts alone"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="two are faster if nothing else runs, but round otherwise"
    )
    parser.add_argument("--base-steps", type=int, default=2200)
    parser.add_argument("--policy-steps", type=int, default=800)
    parser.add_argument("--sound-steps", type=int, nargs=2, default=(400, 700), metavar=("BARE", "FILLER"))
    parser.add_argument("--length-steps", type=int, default=200)
    args = parser.parse_args()
    assets: Path = args.assets
    assets.mkdir(parents=True, exist_ok=True)
    work = args.work or Path(tempfile.mkdtemp())
    tokenizer = train_tokenizer()
    for part, seed in PARTS.items():
        if part not in args.only:
            continue
        seed_everything(seed, args.threads)
        if part == "data":
            for name, items in splits().items():
                if name != "pairs":
                    write(assets / f"{name}.jsonl", [item.row() for item in items])
        elif part == "base":
            train_base(tokenizer, work, args.base_steps)
        elif part == "policy":
            train_policy(tokenizer, assets / "policy", work, args.policy_steps)
        elif part == "sound":
            train_sound(tokenizer, assets / "reward-sound", work, tuple(args.sound_steps))
        elif part == "length":
            train_length_biased(tokenizer, assets / "reward-length-biased", args.length_steps)
        else:
            write_pairs(tokenizer, assets)


if __name__ == "__main__":
    main()
