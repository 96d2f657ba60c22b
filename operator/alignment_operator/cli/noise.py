"""`alignctl noise`: an A/A run. The incumbent against itself, by the gates of the cycle, here or on a cluster."""

from __future__ import annotations

import asyncio
import secrets as random_numbers
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.text import Text

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import AlignmentCycleStatus
from alignment_api.gates import Gate, GateResult, Verdict
from alignment_api.iteration_report import Measured
from alignment_api.numbers import number
from alignment_api.stage import Located, Stage
from alignment_api.validation import parse_cycle
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.inputs import STATE, claims_of, given
from alignment_operator.cli.options import (
    claims_option,
    files_or_name_option,
    namespace_option,
    secrets_option,
    state_option,
)
from alignment_operator.cli.outcome import STYLES
from alignment_operator.cli.plan import as_it_is
from alignment_operator.cli.printing import console_for, print_table
from alignment_operator.cli.program import program
from alignment_operator.cli.run import require_worker
from alignment_operator.cli.secrets import secrets_of
from alignment_operator.cli.simulation import owner_of
from alignment_operator.cli.watching import LINE_EVERY_SECONDS, Rates
from alignment_operator.explain.measured import measured_of
from alignment_operator.local.files import CorruptFileError
from alignment_operator.local.jobs import StageProgress
from alignment_operator.local.noise import StageFailedError, measure
from alignment_operator.local.reading import ReadingError
from alignment_operator.local.run import InterruptedRunError
from alignment_operator.local.worker import WorkerError
from alignment_operator.observed import Owner
from alignment_operator.plan import tested
from alignment_operator.plan.noise import Noise, alarms

_SEEDS = 2**31
_SIGNING_KEY = "spec.promotion.signature.privateKeySecretRef"  # for what is promoted


@click.command("noise")
@click.argument("name", required=False)
@files_or_name_option
@claims_option
@secrets_option
@state_option
@click.option("--seed", type=click.IntRange(min=0), help="Of the draws.  [default: another one each time]")
@namespace_option
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    help="Seconds that a cluster may take.  [default: activeDeadlineSeconds of both stages]",
)
def command(
    name: str | None,
    files: tuple[Path, ...],
    claims: tuple[str, ...],
    secrets: tuple[str, ...],
    state: Path | None,
    seed: int | None,
    namespace: str | None,
    timeout: int | None,
) -> None:
    """Measure the noise: what the gates see when the incumbent is compared with itself (an A/A run).

    Of the cycle NAME on a cluster, or with -f of a manifest, here. Nothing is trained or promoted, no iteration is
    counted, and what the stages make is deleted.

    On a cluster a Job of your own does it. That takes leave to create, get and delete jobs, to list pods and to get
    their logs.

    Exit status: 0 no gate took the noise for more, 3 one did, 1 a stage failed or a gate could not judge, 2 invalid
    manifest or usage, 130 interrupted.
    """
    here = {"-f": files, "--claim": claims, "--secret": secrets, "--state": state}
    there = {"NAME": name, "-n": namespace, "--timeout": timeout}
    if bool(name) == bool(files):
        raise CommandError("name a cycle on the cluster, or give its manifest with -f", Exit.INVALID)
    if misplaced := [option for option, value in (here if name else there).items() if value]:
        where = "here, with -f" if name else "on a cluster, with NAME"
        raise CommandError(f"{misplaced[0]} is for an A/A run {where}", Exit.INVALID)
    drawn = random_numbers.randbelow(_SEEDS) if seed is None else seed
    try:
        noise, gates = (
            _on_cluster(name, namespace, drawn, timeout)
            if name
            else _here(files, claims, secrets, state, drawn)
        )
    except InterruptedRunError as error:
        again = f"{program()} {shlex.join(sys.argv[1:])}"
        raise CommandError(
            f"stopped, and nothing is kept; to begin anew: {again}", Exit.INTERRUPTED
        ) from error
    except (StageFailedError, WorkerError, ReadingError, CorruptFileError, OSError) as error:
        raise CommandError(str(error)) from error
    _print(noise, gates)
    if any(gate.verdict is Verdict.ERROR for gate in gates):
        sys.exit(Exit.FAILED)
    sys.exit(Exit.REJECTED if alarms(gates) else 0)


def _on_cluster(
    name: str, namespace: str | None, seed: int, seconds: int | None
) -> tuple[Noise, tuple[GateResult, ...]]:
    from alignment_operator.cli.cluster_noise import measured  # noqa: PLC0415 - a folder needs no client

    return asyncio.run(measured(name, namespace, seed, seconds))


def _here(
    files: tuple[Path, ...], claims: tuple[str, ...], secrets: tuple[str, ...], state: Path | None, seed: int
) -> tuple[Noise, tuple[GateResult, ...]]:
    manifests = given(files)
    document = manifests.cycle()
    require_worker()
    state = state or STATE
    folders = claims_of(claims, manifests, state)
    keys = secrets_of(secrets, [document.value], unread=[_SIGNING_KEY])
    manifest = as_it_is(document.value, state)
    spec, _ = parse_cycle(manifest)
    assert spec is not None
    status = AlignmentCycleStatus.of(manifest.get("status"))
    with tempfile.TemporaryDirectory(prefix="alignment-noise-") as name:
        folder = Path(name).resolve()
        noise = noise_of(owner_of(manifest), spec, status, folder.as_uri(), seed)
        return noise, asyncio.run(measure(noise, folders, keys, folder, _Lines()))


def noise_of(
    owner: Owner, spec: AlignmentCycleSpec, status: AlignmentCycleStatus, output: str, seed: int
) -> Noise:
    """Raises CommandError if there is no judge yet to ask."""
    if spec.reward is not None and spec.evaluation.comparison is not None:
        raise CommandError(
            "spec.reward: each iteration trains its judge anew, so there is none to ask here. Name one that is there "
            "already in a copy of the manifest: spec.judge.rewardModel.uri, without spec.reward",
            Exit.INVALID,
        )
    promoted = status.promoted
    return Noise(
        owner=owner,
        spec=spec,
        incumbent=Located(uri=promoted.uri, digest=promoted.digest) if promoted else None,
        level_percent=tested.level(spec, status.tested),
        output=output,
        seed=seed,
    )


class _Lines:
    """On stderr, when a stage starts, and every ten seconds in between."""

    def __init__(self) -> None:
        self._rates = Rates()
        self._stage: Stage | None = None
        self._said_at = 0.0

    def __call__(self, stage: Stage, progress: StageProgress | None) -> None:
        if stage is not self._stage:
            self._stage = stage
            self._say(f"{stage.value}: started")
        if progress is not None and progress.stage == stage.value:
            told = self._rates.told(progress)
            if time.monotonic() - self._said_at >= LINE_EVERY_SECONDS:
                self._say(f"{stage.value}: {told}")

    def _say(self, line: str) -> None:
        self._said_at = time.monotonic()
        click.echo(line, err=True)


def _print(noise: Noise, gates: Sequence[GateResult]) -> None:
    console = console_for()
    model = noise.incumbent.uri if noise.incumbent else noise.spec.policy.model
    console.print(Text(f"{noise.owner.name}: {model} against itself, seed {noise.seed}", style="bold"))
    console.print()
    rows: list[tuple[str | Text, ...]] = []
    for gate in gates:
        verdict = Text(gate.verdict.value, style=STYLES[gate.verdict])
        rows.append((gate.name.value, verdict, "", "", "", "", ""))
        for each in measured_of(gate, noise.spec):
            size = str(each.measurement.n)
            told = each.label, each.estimate(), each.interval(), each.allowed()
            rows.append(("", "", *told, within_the_noise(gate.name, each), size))
    print_table(
        console,
        ("GATE", "VERDICT", "MEASURED", "ESTIMATE", "INTERVAL", "ALLOWED", "WITHIN THE NOISE", "N"),
        rows,
    )
    console.print()
    for line in _summary(noise, gates):
        console.print(Text(line), soft_wrap=True)


def within_the_noise(gate: Gate, measured: Measured) -> str:
    """Limits by which this gate could not have told the equal model from another; empty where there is no limit.

    The win rate passes above its limit, so noise alone passes limits below its interval. The others forbid what is
    beyond theirs, so noise alone reaches limits inside their interval.
    """
    low, high = measured.measurement.low, measured.measurement.high
    if gate is Gate.WIN_RATE:
        return (
            f"below {number(low, measured.digits)}" if measured.least is not None and low is not None else ""
        )
    told = []
    if measured.most is not None and high is not None:
        told.append(f"below {number(high, measured.digits)}")
    if measured.least is not None and low is not None:
        told.append(f"above {number(low, measured.digits)}")
    return ", ".join(told)


def _summary(noise: Noise, gates: Sequence[GateResult]) -> list[str]:
    unable = [gate for gate in gates if gate.verdict is Verdict.ERROR]
    lines = [f"{gate.name.value} could not judge: {gate.message}" for gate in unable]
    alarmed = alarms(tuple(gates))
    lines += [f"{gate.name.value} took noise for more: {gate.message}" for gate in alarmed]
    if not alarmed and not unable:
        lines.append("No gate took the noise for more.")
    confidence = noise.spec.evaluation.confidence_percent
    lines.append(
        f"This is one draw: about {100 - confidence:g} of 100 such intervals leave out what is true, and limits should "
        "stand well outside of them."
    )
    if noise.spec.evaluation.gold_set.temperature == 0:
        lines.append(
            "Gold answers are greedy here: an equal model gives the same, and the gold set has no such noise."
        )
    if noise.left_out:
        named = " and ".join(gate.value for gate in noise.left_out)
        lines.append(f"Left out: {named}, for an equal model diverges by nothing and is trained on nothing.")
    return lines
