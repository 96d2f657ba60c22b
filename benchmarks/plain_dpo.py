"""DPO as TRL's own script does it (trl/scripts/dpo.py), on a file of pairs: its defaults, in FP32.

    python benchmarks/plain_dpo.py --model DIR --pairs FILE --output DIR

Prints one JSON object: tokens trained on, steps, and the seconds of the training loop alone.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from datasets import load_dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--batch", type=int, required=True, help="pairs of one optimizer step")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--keep-activations", action="store_true")
    given = parser.parse_args()
    size = min(4, given.batch)
    config = DPOConfig(
        output_dir=str(given.output),
        beta=0.1,
        learning_rate=given.learning_rate,
        num_train_epochs=1,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=given.batch // size,
        max_length=1024,
        model_init_kwargs={"dtype": "float32"},
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **({"activation_checkpointing": False} if given.keep_activations else {}),
    )
    lora = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
    rows = load_dataset(
        "json", data_files=str(given.pairs), split="train", cache_dir=str(given.output / "cache")
    )
    trainer = DPOTrainer(
        model=str(given.model), args=config, train_dataset=rows, peft_config=lora if given.lora else None
    )
    tokens = sum(
        2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])
        for row in trainer.train_dataset
    )
    trainer.train()
    trainer.save_model(str(given.output))
    seconds = next(entry["train_runtime"] for entry in trainer.state.log_history if "train_runtime" in entry)
    print(json.dumps({"tokens": tokens, "steps": trainer.state.global_step, "seconds": seconds}))


if __name__ == "__main__":
    main()
