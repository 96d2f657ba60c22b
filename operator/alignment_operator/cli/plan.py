"""`alignctl plan`: what an iteration would do, without doing it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.text import Text

from alignment_api.cycle import AlignmentCycleSpec, Gates, Training
from alignment_api.cycle_status import AlignmentCycleStatus, Promoted
from alignment_api.judges import ComparisonJudge, trained_here
from alignment_api.stage import (
    CollectParameters,
    CompareParameters,
    EvaluateParameters,
    IngestParameters,
    JudgeParameters,
    PromoteParameters,
    RewardParameters,
    SampleParameters,
    StageConfig,
    TrainParameters,
)
from alignment_operator import schedules
from alignment_operator.api import CYCLE, Manifest
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.inputs import STATE, claims_of, given, namespace_of
from alignment_operator.cli.options import claims_option, files_option, state_option
from alignment_operator.cli.printing import console_for, print_table
from alignment_operator.cli.simulation import Simulated, SimulatedCycle, simulate_cycle, simulate_dataset
from alignment_operator.local.claims import Claims
from alignment_operator.local.directory import Directory


@click.command("plan")
@files_option
@claims_option
@state_option
def command(files: tuple[Path, ...], claims: tuple[str, ...], state: Path | None) -> None:
    """Say what the next iteration would do: its stages, their inputs and amounts, and what the gates ask.

    Rows are counted, and inputs looked for, in the folders that claims are on this machine. Nothing is written.
    """
    manifests = given(files)
    if not manifests.cycles and not manifests.datasets:
        raise CommandError("no AlignmentCycle or PreferenceDataset in these files", Exit.INVALID)
    state = state or STATE
    counting = Counting(claims_of(claims, manifests, state))
    datasets = [document.value for document in manifests.datasets]
    for dataset in datasets:
        _print_stages(f"dataset {dataset['metadata']['name']}", simulate_dataset(dataset), counting)
    for document in manifests.cycles:
        manifest = as_it_is(document.value, state)
        simulated = simulate_cycle(manifest, datasets)
        iteration = simulated.frozen.number
        _print_stages(f"cycle {simulated.owner.name}, iteration {iteration}", simulated, counting)
        _print_decision(simulated, AlignmentCycleStatus.of(manifest.get("status")).promoted)
        console_for().print(Text(f"Started by {started_by(simulated.frozen.spec, datetime.now(UTC))}."))


def started_by(spec: AlignmentCycleSpec, now: datetime) -> str:
    """What starts an iteration on a cluster, and when the schedule does so next."""
    if spec.suspend:
        return "nothing while spec.suspend is true"
    ways = []
    if spec.trigger and spec.trigger.schedule:
        following = schedules.around(spec.trigger.schedule, spec.trigger.time_zone, now)[1]
        when = f"{following:%Y-%m-%dT%H:%MZ}" if following else "never"
        ways.append(f"the schedule '{spec.trigger.schedule}' in {spec.trigger.time_zone}, next at {when}")
    if spec.trigger and spec.trigger.new_pairs:
        ways.append(f"{spec.trigger.new_pairs} new pairs")
    return ", or ".join([*ways, "the annotation alignment.dev/run"])


class Counting:
    """Rows of the JSON Lines files that are on this machine."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._uris: dict[str, str] = {}
        self._wanted: set[str] = set()  # what the iteration must find; the rest its stages make

    def note(self, config: StageConfig, role: str) -> str:
        """Rows of an input, or that it is not there; empty if there is nothing to say."""
        item = config.inputs[role]
        if item.digest is None:
            self._wanted.add(item.uri)
        if (count := self.rows(config, role)) is not None:
            return f" ({count} rows)"
        path = self._claims.path(item.uri)
        if item.uri in self._wanted and not path.exists():
            return (
                f" (not there: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path})"
            )
        return ""

    def rows(self, config: StageConfig, role: str) -> int | None:
        """None if the file is not here, or another format. A role is what the last stage that had it was given."""
        self._uris |= {role: item.uri for role, item in config.inputs.items()}
        if role not in self._uris:
            return None
        with suppress(OSError, ValueError):
            path = self._claims.path(self._uris[role])
            if path.suffix == ".jsonl":
                with path.open("rb") as file:
                    return sum(1 for line in file if line.strip())
        return None


def as_it_is(manifest: Manifest, state: Path) -> Manifest:
    """The manifest with the identity and status that an earlier local run gave it."""
    if not (state / "objects").is_dir():
        return manifest
    metadata = manifest["metadata"]
    live = asyncio.run(Directory(state).get(CYCLE, namespace_of(manifest), metadata["name"]))
    if live is None:
        return manifest
    return {**manifest, "metadata": {**live["metadata"], **metadata}, "status": live.get("status", {})}


def _print_stages(heading: str, simulated: Simulated, counting: Counting) -> None:
    console = console_for()
    console.print(Text(heading, style="bold"))
    rows = []
    for job in simulated.jobs:
        config = job.config
        rows.append((config.stage.value, amount(config, counting)))
        for role, item in sorted(config.inputs.items()):
            rows.append(("", f"  {role}: {item.uri}{counting.note(config, role)}"))
        rows.append(("", f"  → {config.output}"))
    print_table(console, ("STAGE", "WHAT"), rows)
    console.print()


def _print_decision(simulated: SimulatedCycle, promoted: Promoted | None) -> None:
    console = console_for()
    spec = simulated.frozen.spec
    print_table(console, ("GATE", "PASSES"), list(limits(spec.gates)))
    inconclusive = "is held for a person" if spec.gates.on_inconclusive == "Hold" else "is rejected"
    console.print(Text(f"A candidate that no gate fails and some gate cannot pass {inconclusive}."))
    who = "as soon as every gate passed"
    if spec.promotion.mode == "Manual" or (promoted and promoted.rolled_back):
        who = "once a person approves it"
    console.print(
        Text(f"It is promoted {who}; then these follow: {targets(spec) or 'nothing, no targets are named'}")
    )
    console.print()


def amount(config: StageConfig, counting: Counting) -> str:
    """What a stage would do, in numbers, with every default resolved."""
    match config.parameters:
        case RewardParameters() as reward:
            return _rewarded(reward)
        case SampleParameters() as sample:
            return _sampled(sample, counting.rows(config, "prompts"))
        case JudgeParameters(judge=judge):
            return f"every completion, by {named(judge)}; pairs {judge.pairs}, margin at least {judge.min_margin:g}"
        case TrainParameters() as train:
            return _trained(train, counting.rows(config, "prompts"))
        case EvaluateParameters() as evaluate:
            return _evaluated(
                evaluate, counting.rows(config, "goldSet"), counting.rows(config, "heldOutPrompts")
            )
        case CompareParameters(comparison=comparison, judge=judge):
            judged = named(comparison.judge or judge)
            least, most = comparison.min_comparisons, comparison.max_comparisons
            held_out = counting.rows(config, "heldOutPrompts")
            if held_out is not None and held_out < least:
                many = f"{held_out} comparisons, fewer than minComparisons ({least}),"
            else:
                many = f"{least} to {most if held_out is None else min(most, held_out)} comparisons"
            return f"candidate against incumbent, {many} by {judged}"
        case PromoteParameters() | CollectParameters() | IngestParameters() as chores:
            return _done(chores)


def _done(chores: PromoteParameters | CollectParameters | IngestParameters) -> str:
    """Of the stages that compute on no model."""
    match chores:
        case PromoteParameters():
            return "seals measurements, verdicts and digests as the evidence; only if the gates let it"
        case CollectParameters():
            return "deletes what retention lets go"
        case IngestParameters():
            return "reads the sources, sets aside what is no pair, seals a revision"


def _rewarded(parameters: RewardParameters) -> str:
    reward, training = parameters.reward, parameters.training
    batch = training.per_device_batch_size * training.gradient_accumulation_steps
    return (
        f"a reward model on every pair of the datasets, at least {reward.min_pairs}; learning rate "
        f"{reward.learning_rate:g}, {_epochs(reward.epochs)} in steps of {batch} pairs, at most {training.max_length} "
        f"tokens, precision {training.precision}"
    )


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _sampled(sample: SampleParameters, rows: int | None) -> str:
    sampling, wanted = sample.sampling, sample.per_iteration
    known = [number for number in (rows, wanted) if number is not None]
    prompts = min(known) if rows is not None else wanted
    each = sampling.completions_per_prompt
    many = (
        f"{prompts} prompts × {each} = {prompts * each} completions"
        if prompts
        else f"every prompt × {each} completions"
    )
    if prompts and wanted and prompts < wanted:
        many += f" (perIteration is {wanted})"
    if sample.spread == "Clusters":
        many += ", spread over the clusters of the datasets' prompts"
    by = f", by the server {sampling.server.image}" if sampling.server else ""
    return (
        f"{many}, at most {sampling.max_new_tokens} new tokens, temperature {sampling.temperature:g}, "
        f"top-p {sampling.top_p:g}{by}"
    )


_TRAINED_ON = {"DPO": "pairs", "IPO": "pairs", "KTO": "rows", "BestOfN": "answers"}


def _trained(train: TrainParameters, prompts: int | None) -> str:
    training = train.training
    assert training.learning_rate is not None
    lora = training.lora
    how = f"LoRA of rank {lora.rank}, alpha {lora.alpha}" if lora else "full fine-tuning"
    batch = training.per_device_batch_size * training.gradient_accumulation_steps
    beta = "" if training.beta is None else f"β {training.beta:g}, "
    further = "".join(f", {name} {value}" for name, value in (training.arguments or {}).items())
    amount = _online(train, batch, prompts) if train.online else _on_pairs(training, batch)
    return (
        f"{training.method}, {how}, {beta}learning rate {training.learning_rate:g}, {amount}, "
        f"precision {training.precision}{further}"
    )


def _on_pairs(training: Training, batch: int) -> str:
    return (
        f"{_epochs(training.epochs)} in steps of {batch} {_TRAINED_ON[training.method]}, at most "
        f"{training.max_length} tokens"
    )


def _online(train: TrainParameters, batch: int, rows: int | None) -> str:
    online, ppo = train.online, train.training.ppo
    assert online is not None
    assert ppo is not None
    sampling = online.sampling
    known = [number for number in (rows, online.per_iteration) if number is not None]
    on = f"{min(known)} prompts" if known else "every prompt"
    return (
        f"{ppo.total_episodes // batch} batches of {batch} completions on {on}, {ppo.epochs_per_batch} steps on each, "
        f"at most {sampling.max_new_tokens} new tokens, temperature {sampling.temperature:g}, scored by "
        f"{named(online.judge)}"
    )


def _evaluated(evaluate: EvaluateParameters, gold: int | None, held_out: int | None) -> str:
    items = "the gold set" if gold is None else f"{gold} gold items"
    prompts = "the held-out prompts" if held_out is None else f"{held_out} held-out prompts"
    each = evaluate.gold_set.samples_per_item
    return (
        f"{items} × {each} at temperature {evaluate.gold_set.temperature:g} and {prompts}, for candidate and "
        f"incumbent; intervals at {evaluate.confidence_percent:g} %"
    )


def named(judge: ComparisonJudge | None) -> str:
    if trained_here(judge):
        return "the reward model that the stage reward trains"
    if judge is not None and judge.reward_model is not None:
        return f"the reward model {judge.reward_model.uri}"
    if judge is not None and judge.llm is not None:
        return f"{judge.llm.model} at {judge.llm.base_url}, in both orders"
    return "the verifier"


def limits(gates: Gates) -> Iterator[tuple[str, str]]:
    """Each gate that is asked, and what it asks."""
    if gates.contamination:
        what = "left out" if gates.contamination.action == "Exclude" else "reason to refuse"
        yield "contamination", f"gold and held-out prompts in what is trained on are {what}"
    gold = gates.gold_set
    own = "".join(f", {item.name} {item.max_drop_points:g}" for item in gold.categories or [])
    initial = _from_initial(gold.max_drop_from_initial_points, "points")
    asked = (
        f"a gold set that would not show a drop of {gold.max_undetected_drop_points:g} points is inconclusive"
        if gold.mode == "NoHarm"
        else "a larger drop must be ruled out"
    )
    yield "goldSet", f"no category drops by more than {gold.max_drop_points:g} points{own}{initial}; {asked}"
    length = gates.length_drift
    initial = _from_initial(length.max_increase_from_initial_percent, "%")
    shorter = (
        "" if length.max_decrease_percent is None else f", at most {length.max_decrease_percent:g} % shorter"
    )
    yield "lengthDrift", f"answers at most {length.max_increase_percent:g} % longer{initial}{shorter}"
    if collapse := gates.collapse:
        initial = _from_initial(collapse.max_distinct_drop_from_initial_percent, "%")
        drop = f"distinct-2 drops by at most {collapse.max_distinct_drop_percent:g} %{initial}"
        yield "collapse", f"{drop}, or answers depend on their prompts as before"
    if divergence := gates.divergence:
        limit = divergence.max_nats_per_token_from_initial
        initial = _from_initial(limit, "nats")
        yield (
            "divergence",
            f"at most {divergence.max_nats_per_token:g} nats a token from the incumbent{initial}",
        )
    if wins := gates.win_rate:
        share = wins.false_discovery_percent
        among = (
            ""
            if share is None
            else f"; false ones among all that pass: {share:g} % at most, by their e-values"
        )
        yield "winRate", f"the win rate's lower bound is above {wins.min_percent:g} %{among}"
    if gates.reward_hacking:
        yield "rewardHacking", "the training judge's wins come with a gain that counts"


def _from_initial(limit: float | None, unit: str) -> str:
    return "" if limit is None else f" ({limit:g} {unit} from M_0)"


def targets(spec: AlignmentCycleSpec) -> str:
    named = []
    for target in spec.promotion.targets or []:
        if target.config_map:
            digest = f", digest in {target.config_map.digest_key}" if target.config_map.digest_key else ""
            named.append(f"ConfigMap {target.config_map.name}, key {target.config_map.key}{digest}")
        if target.inference_service:
            named.append(f"InferenceService {target.inference_service.name}")
    return ", ".join(named)
