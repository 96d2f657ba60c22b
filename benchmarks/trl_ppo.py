"""PPO as trl 1.12 does it, the last release that had it, on files of prompts and models, in FP32 on the CPU.

    python benchmarks/trl_ppo.py --model DIR --reward DIR --prompts FILE --output DIR

Runs in an environment of its own, which `ppo.py` makes; nothing of this project is imported. Prints one JSON object:
steps, the seconds of the training alone (on the wall, of the processor), and the mean score of every batch with the
episodes up to it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl.experimental.ppo import PPOConfig, PPOTrainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--reward", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True, help="JSON: a list of lists of token ids")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--episodes", type=int, required=True)
    parser.add_argument("--device-batch", type=int, required=True, help="completions in memory at once")
    parser.add_argument("--parts", type=int, required=True, help="so many of them are a batch")
    parser.add_argument("--tokens", type=int, required=True, help="of the longest completion")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--lora", action="store_true")
    given = parser.parse_args()
    config = PPOConfig(
        output_dir=str(given.output),
        learning_rate=given.learning_rate,
        total_episodes=given.episodes,
        per_device_train_batch_size=given.device_batch,
        gradient_accumulation_steps=given.parts,
        response_length=given.tokens,
        stop_token="eos",
        temperature=1.0,
        kl_coef=0.1,
        missing_eos_penalty=1.0,
        whiten_rewards=True,
        num_sample_generations=0,
        seed=given.seed,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
    )
    tokenizer = AutoTokenizer.from_pretrained(given.model, padding_side="left")
    lora = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
    scorer, value = (
        AutoModelForSequenceClassification.from_pretrained(given.reward, dtype=torch.float32, num_labels=1)
        for _ in range(2)
    )
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32),
        ref_model=None,
        reward_model=scorer,
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": json.loads(given.prompts.read_text())}),
        peft_config=lora if given.lora else None,
    )
    started = time.monotonic(), time.process_time()
    trainer.train()
    wall, cpu = time.monotonic() - started[0], time.process_time() - started[1]
    trainer.save_model(str(given.output))
    rows = [row for row in trainer.state.log_history if "objective/scores" in row]
    curve = [[row["episode"], row["objective/scores"]] for row in rows]
    print(json.dumps({"steps": len(rows) * config.num_ppo_epochs, "wall": wall, "cpu": cpu, "curve": curve}))


if __name__ == "__main__":
    main()
