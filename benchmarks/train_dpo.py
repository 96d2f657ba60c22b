"""The stage `train` against TRL's own DPO script on the same rows, turn by turn: tokens a second, and peak memory.

    python benchmarks/train_dpo.py --model quickstart
    python benchmarks/train_dpo.py --model large --pairs 64 --lora

Both commands are measured from start to end, with everything that they import, load and store. The stage is given what
it has in an iteration: rows that were sampled, with the log-probabilities recorded then. Making them is not measured.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import judged_folder
import random_llama
import turns
from process_tree import Cost, cost_of
from transformers import AutoTokenizer

from alignment_api import digests
from alignment_api.cycle import Lora, Training
from alignment_api.stage import Input, InputKind, Stage, StageConfig, StageReport, TrainParameters
from alignment_worker import logprobs, models, rows, train_pairs
from alignment_worker.artifacts import PAIRS
from alignment_worker.rows import Pair

HERE = Path(__file__).parent
ASSETS = HERE.parent / "examples" / "quickstart" / "quickstart-assets"
BATCH = 32
# Words, so that prompts are longer than answers, as they are mostly.
PROMPT_WORDS, ANSWER_WORDS = (30, 90), (10, 60)


def texts(model: str, count: int) -> list[dict[str, Any]]:
    """The quickstart's own pairs, again and again; for the large model longer ones, of the same words."""
    own: list[dict[str, Any]] = rows.load(ASSETS / "pairs.jsonl")
    if model == "quickstart":
        return [own[number % len(own)] for number in range(count)]
    draw = random.Random(0)
    return [
        {
            "prompt": words(draw, *PROMPT_WORDS),
            "chosen": words(draw, *ANSWER_WORDS),
            "rejected": words(draw, *ANSWER_WORDS),
        }
        for _ in range(count)
    ]


def words(draw: random.Random, low: int, high: int) -> str:
    """So many of those that the quickstart's prompts are made of."""
    return "".join(f" {draw.choice(_known())}" for _ in range(draw.randint(low, high)))


@cache
def _known() -> list[str]:
    pairs = rows.load(ASSETS / "pairs.jsonl")
    return sorted({word for row in pairs for word in row["prompt"][0]["content"].split()})


def judged(start: Path, pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as the judge stage writes them: token ids, and what sampling would have recorded of them."""
    policy = models.load_policy("start", start)
    found = [
        train_pairs.tokenised(
            policy.tokenizer, Pair(1, row["prompt"], row["chosen"], row["rejected"]), policy.eos_ids
        )
        for row in pairs
    ]
    asked = [pair.prompt for pair in found]
    chosen = logprobs.log_probs(policy, asked, [pair.chosen for pair in found])
    rejected = logprobs.log_probs(policy, asked, [pair.rejected for pair in found])
    return [
        {
            **{name: row[name] for name in ("prompt", "chosen", "rejected")},
            "prompt_ids": pair.prompt,
            "chosen_ids": pair.chosen,
            "rejected_ids": pair.rejected,
            "chosen_log_probs": better,
            "rejected_log_probs": worse,
            "line": number,
        }
        for number, (row, pair, better, worse) in enumerate(
            zip(pairs, found, chosen, rejected, strict=True), start=1
        )
    ]


def tokens_of(judged_rows: Sequence[dict[str, Any]]) -> int:
    return sum(
        2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in judged_rows
    )


def by_stage(
    work: Path, learning_rate: float, environment: dict[str, str], *, lora: bool = False, processes: int = 1
) -> tuple[Cost, int]:
    """`alignment_worker train`, as its Job runs it; the tokens that it trained on."""
    command = stage_command(work, learning_rate, lora=lora, processes=processes)
    cost = turns.ended(cost_of(command, environment))
    result = StageReport.decode((work / "report").read_text()).result
    assert result is not None
    if result.counts["referenceFromSampling"] != result.counts["pairs"]:
        raise SystemExit("the stage did not take the log-probabilities that were recorded")
    return cost, tokens_of(rows.load(work / "judge" / judged_folder.RUN / PAIRS))


def stage_command(work: Path, learning_rate: float, *, lora: bool = False, processes: int = 1) -> list[str]:
    """Trains `work`/start on the folder `judge`; the file `progress` tells how far it is."""
    output = work / "stage"
    shutil.rmtree(output, ignore_errors=True)
    start = work / "start"
    digest = digests.of_folder(start)
    each = min(4, BATCH // processes)
    training = Training(
        beta=0.1,
        learning_rate=learning_rate,
        per_device_batch_size=each,
        gradient_accumulation_steps=BATCH // (each * processes),
        lora=Lora(rank=16, alpha=32) if lora else None,
        checkpoint_every_steps=1_000_000,
        processes_per_node=processes,
    )
    config = StageConfig(
        stage=Stage.TRAIN,
        owner_uid="uid",
        iteration=1,
        output=f"file://{output}",
        inputs={
            "start": Input(uri=f"file://{start}", kind=InputKind.MODEL, digest=digest),
            "reference": Input(uri=f"file://{start}", kind=InputKind.MODEL, digest=digest),
            "pairs": judged_folder.as_input(work / "judge"),
        },
        parameters=TrainParameters(training=training, sampled_by=digest),
        seed=0,
    )
    (work / "stage.json").write_text(json.dumps(config.to_wire()))
    command = [sys.executable, "-m", "alignment_worker", "train", "--config", str(work / "stage.json")]
    return [*command, "--report", str(work / "report"), "--progress", str(work / "progress")]


def by_script(work: Path, given: argparse.Namespace, environment: dict[str, str]) -> tuple[Cost, int]:
    output = work / "script"
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, str(HERE / "plain_dpo.py"), "--model", str(work / "start")]
    command += ["--pairs", str(work / "pairs.jsonl"), "--output", str(output), "--batch", str(BATCH)]
    command += ["--learning-rate", str(given.learning_rate)]
    command += ["--lora"] if given.lora else []
    command += ["--keep-activations"] if given.keep_activations else []
    cost = turns.ended(cost_of(command, environment))
    return cost, int(json.loads(cost.output.splitlines()[-1])["tokens"])


def prepare(work: Path, given: argparse.Namespace) -> None:
    if given.model == "large":
        random_llama.policy(work / "start", AutoTokenizer.from_pretrained(ASSETS / "policy"))
    else:
        shutil.copytree(ASSETS / "policy", work / "start")
    pairs = texts(given.model, given.pairs)
    rows.write(work / "pairs.jsonl", pairs)
    judged_folder.seal(work / "judge", PAIRS, judged(work / "start", pairs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("quickstart", "large"), required=True)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--lora", action="store_true")
    parser.add_argument(
        "--keep-activations", action="store_true", help="TRL's script recomputes them otherwise"
    )
    turns.options(parser)
    given = parser.parse_args()
    given.learning_rate = 1e-5 if given.lora else 5e-7
    environment = turns.environment(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work, given)
        contenders = {
            "stage": lambda: by_stage(work, given.learning_rate, environment, lora=given.lora),
            "TRL's script": lambda: by_script(work, given, environment),
        }
        found = turns.taken(given.rounds, contenders)
    turns.told(found, given.json)


if __name__ == "__main__":
    main()
