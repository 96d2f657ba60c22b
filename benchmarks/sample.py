"""The stage `sample` against `model.generate` in static batches and against transformers' continuous batching.

    python benchmarks/sample.py --model quickstart
    python benchmarks/sample.py --model large --prompts 64

The same prompts and settings, turn by turn: tokens a second, from the start of each command to its end. The tokens
are drawn anew by each, so their number differs a little.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import random_llama
import turns
from process_tree import Cost, cost_of
from train_dpo import ASSETS, PROMPT_WORDS, words
from transformers import AutoTokenizer, GenerationConfig

from alignment_api.cycle import Sampling
from alignment_api.stage import Input, InputKind, SampleParameters, Stage, StageConfig, StageReport
from alignment_worker import rows

HERE = Path(__file__).parent
SAMPLES = {"quickstart": 6, "large": 4}
MAX_NEW_TOKENS = {"quickstart": 64, "large": 128}
ROWS = {"quickstart": 512, "large": 48}  # answers at once: what the stage takes for these models
# A model made at random ends an answer with this share of its tokens, so that lengths differ as they do in service.
ENDS = 0.02


def prepare(work: Path, given: argparse.Namespace) -> None:
    own = rows.load(ASSETS / "prompts.jsonl")
    prompts = [{"prompt": own[number % len(own)]["prompt"]} for number in range(given.prompts)]
    if given.model == "quickstart":
        shutil.copytree(ASSETS / "policy", work / "policy")
    else:
        random_llama.policy(work / "policy", AutoTokenizer.from_pretrained(ASSETS / "policy"))
        ends = [2, *range(3, 3 + int(ENDS * 32768))]
        GenerationConfig(bos_token_id=1, eos_token_id=ends, pad_token_id=0).save_pretrained(work / "policy")
        draw = random.Random(0)
        prompts = [{"prompt": words(draw, *PROMPT_WORDS)} for _ in prompts]
    rows.write(work / "prompts.jsonl", prompts)


def by_stage(work: Path, given: argparse.Namespace, environment: dict[str, str]) -> tuple[Cost, int]:
    """`alignment_worker sample`, as its Job runs it."""
    output = work / "stage"
    shutil.rmtree(output, ignore_errors=True)
    config = StageConfig(
        stage=Stage.SAMPLE,
        owner_uid="uid",
        iteration=1,
        output=f"file://{output}",
        inputs={
            "policy": Input(uri=f"file://{work / 'policy'}", kind=InputKind.MODEL),
            "prompts": Input(uri=f"file://{work / 'prompts.jsonl'}", kind=InputKind.PROMPTS),
        },
        parameters=SampleParameters(
            sampling=Sampling(
                completions_per_prompt=SAMPLES[given.model], max_new_tokens=MAX_NEW_TOKENS[given.model]
            ),
            per_iteration=None,
        ),
        seed=0,
    )
    (work / "stage.json").write_text(json.dumps(config.to_wire()))
    command = [sys.executable, "-m", "alignment_worker", "sample", "--config", str(work / "stage.json")]
    cost = turns.ended(cost_of([*command, "--report", str(work / "report")], environment))
    result = StageReport.decode((work / "report").read_text()).result
    assert result is not None
    return cost, result.counts["tokens"]


def by_transformers(
    way: str, work: Path, given: argparse.Namespace, environment: dict[str, str]
) -> tuple[Cost, int]:
    command = [sys.executable, str(HERE / "plain_sample.py"), "--model", str(work / "policy"), "--way", way]
    command += ["--prompts", str(work / "prompts.jsonl"), "--output", str(work / "answers.jsonl")]
    command += ["--rows", str(ROWS[given.model]), "--samples", str(SAMPLES[given.model])]
    command += ["--max-new-tokens", str(MAX_NEW_TOKENS[given.model])]
    cost = turns.ended(cost_of(command, environment))
    said = json.loads(cost.output.splitlines()[-1])
    if said["answers"] != given.prompts * SAMPLES[given.model]:
        raise SystemExit(
            f"{way}: {said['answers']} answers instead of {given.prompts * SAMPLES[given.model]}"
        )
    return cost, int(said["tokens"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("quickstart", "large"), required=True)
    parser.add_argument("--prompts", type=int, default=345)
    turns.options(parser)
    given = parser.parse_args()
    environment = turns.environment(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work, given)
        contenders = {
            "stage": lambda: by_stage(work, given, environment),
            "generate, static batches": lambda: by_transformers("static", work, given, environment),
            "continuous batching": lambda: by_transformers("continuous", work, given, environment),
        }
        found = turns.taken(given.rounds, contenders)
    turns.told(found, given.json)


if __name__ == "__main__":
    main()
