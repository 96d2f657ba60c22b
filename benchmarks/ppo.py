"""The stage `train` with PPO against the PPO of trl 1.12, the last that TRL shipped, turn by turn.

    python benchmarks/ppo.py --model quickstart
    python benchmarks/ppo.py --model large --lora

Episodes a second, of the whole command and of the training in it; peak memory, against TRL's and against one model in
training; the judge's score by episode. The same models, prompts, episodes and steps. TRL's environment is made once, in
~/.cache/alignment-operator, with the versions of constraints.txt but for TRL's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import judged_folder
import random_llama
import turns
from process_tree import Cost, cost_of
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from alignment_api import digests
from alignment_api.cycle import Judge, Lora, Sampling, Training
from alignment_api.judges import RewardModel
from alignment_api.ppo import PPO
from alignment_api.stage import (
    Input,
    InputKind,
    OnlineParameters,
    Stage,
    StageConfig,
    StageReport,
    StageResult,
    TrainParameters,
)
from alignment_worker import prompts, rows
from alignment_worker.artifacts import BEST

HERE = Path(__file__).parent
ASSETS = HERE.parent / "examples" / "quickstart" / "quickstart-assets"
TRL = "1.12.0"
PARTS = 4  # of a batch
PER_PROMPT = 2
EPOCHS = 4  # TRL's default, and ours
TOKENS = 64  # of the longest completion
MISSING_EOS = 1.0
WORDS, PROMPTS, PROMPT_WORDS = 32768, 64, (30, 90)  # of the large model

# The stage as its Job runs it, and at last the seconds of the training alone, on the wall and of the processor.
TIMED = """
import json, sys, time
from alignment_worker import main, ppo_training

run = ppo_training.Loop.run

def timed(loop, *given):
    started = time.monotonic(), time.process_time()
    run(loop, *given)
    wall, cpu = time.monotonic() - started[0], time.process_time() - started[1]
    print(json.dumps({"wall": wall, "cpu": cpu}))

ppo_training.Loop.run = timed
sys.exit(main.main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Setting:
    """What differs between the models."""

    device_batch: int
    episodes: int
    learning_rate: float
    lora: bool

    @property
    def batch(self) -> int:
        return self.device_batch * PARTS


@dataclass(frozen=True)
class Trained:
    """What a command cost, and its training alone; the mean score of each batch with the episodes up to it."""

    cost: Cost
    wall: float
    cpu: float
    steps: int
    curve: list[tuple[int, float]]

    def figures(self) -> dict[str, float]:
        return {
            "wallSeconds": self.cost.wall_seconds,
            "cpuSeconds": self.cost.cpu_seconds,
            "peakMib": self.cost.peak_mib,
            "trainingWallSeconds": self.wall,
            "trainingCpuSeconds": self.cpu,
        }


def setting(given: argparse.Namespace) -> Setting:
    """Low-rank adapters get the operator's factor of twenty."""
    device_batch, episodes, rate = (32, 1280, 1e-4) if given.model == "quickstart" else (4, 64, 1e-6)
    return Setting(device_batch, given.episodes or episodes, rate * (20 if given.lora else 1), given.lora)


def environment() -> Path:
    """The Python of TRL's own environment, made if it is not there."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "alignment-operator" / f"trl-{TRL}"
    python, made = folder / "bin" / "python", folder / "made"
    if not made.exists():
        uv = str(Path(sys.prefix) / "bin" / "uv")
        pins = re.findall(r"^[\w.-]+==[^\\\n]+", (HERE.parent / "constraints.txt").read_text(), re.MULTILINE)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
            constraints.write("".join(f"{pin}\n" for pin in pins if not pin.startswith("trl==")))
            constraints.flush()
            subprocess.run(
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True
            )
            install = [uv, "pip", "install", "--quiet", "--python", str(python)]
            install += ["--constraints", constraints.name]
            subprocess.run([*install, f"trl=={TRL}", "peft"], check=True)
        made.touch()
    return python


def large(start: Path, reward: Path) -> None:
    """A policy and a reward model of its size.

    Every token is a word, so that what is sampled reads the same once it was text.
    """
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    words = {word: place for place, word in enumerate([*special, *(f"w{n}" for n in range(4, WORDS))])}
    inner = Tokenizer(WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    random_llama.policy(start, tokenizer)
    random_llama.reward_model(reward, tokenizer)


def prepare(work: Path, model: str, batch: int) -> None:
    """Models, prompts, their token ids for TRL, and answers for one model in training."""
    if model == "large":
        large(work / "start", work / "reward")
        draw = random.Random(0)
        asked: list[dict[str, Any]] = [
            {"prompt": "".join(f"w{draw.randrange(4, WORDS)} " for _ in range(draw.randint(*PROMPT_WORDS)))}
            for _ in range(PROMPTS)
        ]
        rows.write(work / "prompts.jsonl", asked)
    else:
        shutil.copytree(ASSETS / "policy", work / "start")
        shutil.copytree(ASSETS / "reward-sound", work / "reward")
        shutil.copy(ASSETS / "prompts.jsonl", work)
        asked = rows.load(work / "prompts.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(work / "start")
    ids = [prompts.encode(tokenizer, row["prompt"]) for row in asked]
    (work / "prompts.json").write_text(json.dumps([each for each in ids for _ in range(PER_PROMPT)]))
    draw = random.Random(1)
    answers = (
        {
            "prompt": asked[number % len(ids)]["prompt"],
            "prompt_ids": ids[number % len(ids)],
            "chosen_ids": [draw.randrange(4, len(tokenizer)) for _ in range(TOKENS)],
            "line": number + 1,
        }
        for number in range(2 * batch)
    )
    judged_folder.seal(work / "judge", BEST, answers)


def by_stage(work: Path, wanted: Setting, seed: int, variables: dict[str, str]) -> Trained:
    """`alignment_worker train`, as its Job runs it."""
    parameters = TrainParameters(
        training=Training(
            method="PPO",
            beta=0.1,
            # No batch ends early: TRL has no such rule, and the steps must be the same.
            ppo=PPO(
                total_episodes=wanted.episodes,
                epochs_per_batch=EPOCHS,
                target_kl=100,
                missing_eos_penalty=MISSING_EOS,
            ),
            **common(wanted, seed),
        ),
        online=OnlineParameters(
            sampling=Sampling(completions_per_prompt=PER_PROMPT, max_new_tokens=TOKENS, seed=seed),
            judge=Judge(reward_model=RewardModel(uri=(work / "reward").as_uri(), batch_size=64)),
        ),
    )
    inputs = {
        "prompts": as_input(work / "prompts.jsonl", InputKind.PROMPTS),
        "judge": as_input(work / "reward", InputKind.REWARD_MODEL),
    }
    cost, result = ran(work, ["-c", TIMED], inputs, parameters, variables)
    folder = work / "stage" / json.loads((work / "stage" / "manifest.json").read_bytes())["run"]
    log = rows.load(folder / "training-log.jsonl")
    curve = {row["batch"] * wanted.batch: row["reward"] - MISSING_EOS * row["truncated"] for row in log}
    said = last(cost)
    return Trained(cost, said["wall"], said["cpu"], result.counts["steps"], list(curve.items()))


def by_trl(work: Path, wanted: Setting, seed: int, variables: dict[str, str]) -> Trained:
    output = work / "trl"
    shutil.rmtree(output, ignore_errors=True)
    command = [str(environment()), "-W", "ignore", str(HERE / "trl_ppo.py"), "--model", str(work / "start")]
    command += ["--reward", str(work / "reward"), "--prompts", str(work / "prompts.json")]
    command += ["--output", str(output), "--learning-rate", str(wanted.learning_rate)]
    command += ["--episodes", str(wanted.episodes), "--device-batch", str(wanted.device_batch)]
    command += ["--parts", str(PARTS), "--tokens", str(TOKENS), "--seed", str(seed)]
    command += ["--lora"] if wanted.lora else []
    cost = ended(cost_of(command, variables))
    said = last(cost)
    curve = [(int(at), float(score)) for at, score in said["curve"]]
    return Trained(cost, said["wall"], said["cpu"], said["steps"], curve)


def one_model(work: Path, wanted: Setting, variables: dict[str, str]) -> Cost:
    """Supervised fine-tuning by the same stage on the same prompts, with answers of the greatest length."""
    parameters = TrainParameters(training=Training(method="BestOfN", **common(wanted, 0)))
    inputs = {"pairs": judged_folder.as_input(work / "judge")}
    return ran(work, ["-m", "alignment_worker"], inputs, parameters, variables)[0]


def common(wanted: Setting, seed: int) -> dict[str, Any]:
    return {
        "learning_rate": wanted.learning_rate,
        "per_device_batch_size": wanted.device_batch,
        "gradient_accumulation_steps": PARTS,
        "max_length": 256,
        "lora": Lora(rank=16, alpha=32) if wanted.lora else None,
        "checkpoint_every_steps": 1_000_000,
        "processes_per_node": 1,
        "seed": seed,
    }


def ran(
    work: Path,
    program: list[str],
    inputs: Mapping[str, Input],
    parameters: TrainParameters,
    variables: dict[str, str],
) -> tuple[Cost, StageResult]:
    """The stage train, from `start` with itself as reference, into `stage`."""
    shutil.rmtree(work / "stage", ignore_errors=True)
    start = as_input(work / "start", InputKind.MODEL)
    config = StageConfig(
        stage=Stage.TRAIN,
        owner_uid="uid",
        iteration=1,
        output=(work / "stage").as_uri(),
        inputs={"start": start, "reference": start, **inputs},
        parameters=parameters,
        seed=0,
    )
    (work / "stage.json").write_text(json.dumps(config.to_wire()))
    command = [sys.executable, *program, "train", "--config", str(work / "stage.json")]
    command += ["--report", str(work / "report"), "--progress", str(work / "progress")]
    cost = cost_of(command, variables)
    report = StageReport.decode((work / "report").read_text())
    if report.result is None:
        raise SystemExit(f"the stage failed: {report.failure}")
    return cost, report.result


def as_input(path: Path, kind: InputKind) -> Input:
    digest = digests.of_folder(path) if path.is_dir() else digests.of_file(path)
    return Input(uri=path.as_uri(), kind=kind, digest=digest)


def ended(cost: Cost) -> Cost:
    if cost.exit_status:
        raise SystemExit(f"ended with {cost.exit_status}:\n{cost.output}")
    return cost


def last(cost: Cost) -> dict[str, Any]:
    """What the command printed at last."""
    found: dict[str, Any] = json.loads(cost.output.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("quickstart", "large"), required=True)
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--episodes", type=int, help="1280 with quickstart, 64 with large")
    turns.options(parser)
    given = parser.parse_args()
    wanted = setting(given)
    if wanted.episodes % wanted.batch:
        parser.error(f"--episodes {wanted.episodes}: give a multiple of {wanted.batch}, a batch")
    variables = os.environ | ({"OMP_NUM_THREADS": str(given.threads)} if given.threads else {})
    environment()
    found: list[dict[str, Trained]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work, given.model, wanted.batch)
        imports = ended(cost_of([sys.executable, "-c", "import alignment_worker.train"], variables))
        alone = one_model(work, wanted, variables)
        for seed in range(given.rounds):
            order: Sequence[tuple[str, Callable[..., Trained]]] = (("stage", by_stage), ("trl", by_trl))
            row = {}
            for name, measured in order if seed % 2 == 0 else reversed(order):
                row[name] = measured(work, wanted, seed, variables)
                print(f"round {seed + 1}, {name}: {row[name].figures()}", file=sys.stderr, flush=True)
            if row["stage"].steps != row["trl"].steps:
                raise SystemExit(f"{row['stage'].steps} steps against {row['trl'].steps}")
            found.append(row)
    print(table(found, wanted.episodes))
    print()
    print(memory([row["stage"].cost.peak_mib for row in found], alone.peak_mib, imports.peak_mib))
    print()
    print(learning(found))
    if given.json:
        plain = [{name: one.figures() | {"curve": one.curve} for name, one in row.items()} for row in found]
        given.json.write_text(json.dumps(plain, indent=1))


def table(found: Sequence[dict[str, Trained]], episodes: int) -> str:
    """Medians, and the median of the rounds' ratios with their range."""
    lines = ["| | stage | trl 1.12 | ratio (least, most) |", "|---|---|---|---|"]
    columns: tuple[tuple[str, Callable[[Trained], float]], ...] = (
        ("episodes a second", lambda one: episodes / one.cost.wall_seconds),
        ("– of the training", lambda one: episodes / one.wall),
        ("episodes a CPU second", lambda one: episodes / one.cost.cpu_seconds),
        ("– of the training", lambda one: episodes / one.cpu),
        ("peak memory, MiB", lambda one: one.cost.peak_mib),
    )
    for label, value in columns:
        ours, theirs = ([value(row[name]) for row in found] for name in ("stage", "trl"))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        lines.append(
            f"| {label} | {median(ours):.4g} | {median(theirs):.4g} | "
            f"{median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f}) |"
        )
    return "\n".join(lines)


def memory(peaks: Sequence[float], alone: float, imports: float) -> str:
    """Against one model in training, as it is and without what the imports take."""
    peak = median(peaks)
    return "\n".join(
        (
            "| peak memory, MiB | PPO, four models | one model in training | ratio |",
            "|---|---|---|---|",
            f"| of the process | {peak:.0f} | {alone:.0f} | {peak / alone:.2f} |",
            f"| less imports ({imports:.0f}) | {peak - imports:.0f} | {alone - imports:.0f} | "
            f"{(peak - imports) / (alone - imports):.2f} |",
        )
    )


def learning(found: Sequence[dict[str, Trained]]) -> str:
    """The mean score of a batch, less what a missing EOS costs; mean over the rounds, at most ten batches."""
    batches = len(found[0]["stage"].curve)
    lines = ["| episodes | stage | trl 1.12 |", "|---|---|---|"]
    for place in sorted({round(n * (batches - 1) / 9) for n in range(10)}):
        scores = (fmean(row[name].curve[place][1] for row in found) for name in ("stage", "trl"))
        episode = found[0]["stage"].curve[place][0]
        lines.append(f"| {episode} | {' | '.join(f'{score:.3f}' for score in scores)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
