"""`python -m benchmarks.scale`: prints the tables of benchmarks/README.md."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.scale import audit, fleet, usage
from benchmarks.scale.bed import ScaleBed, scale_bed
from benchmarks.scale.floor import DONE
from tests.cluster.processes import Child, free_ports
from tests.cluster.waiting import wait_until

_HOURS = 3 * 3600.0


@dataclass(frozen=True)
class Load:
    """What one run took. `own` is the operator, or the loop of the floor."""

    wall_seconds: float
    component_cpu: Mapping[str, float]
    own_cpu: float
    own_peak_mib: float
    told: audit.Told

    @property
    def control_plane_cpu(self) -> float:
        """Without KWOK, which stands for kubelets."""
        return sum(seconds for name, seconds in self.component_cpu.items() if name != "kwok")


@click.group()
def main() -> None:
    """How the operator does with thousands of cycles. Nothing else may run on the machine meanwhile."""


@main.command()
@click.option("--cycles", "counts", multiple=True, type=int, default=(1000,), show_default=True)
@click.option("--cap", type=int, default=0, help="At most so many iterations at once.", show_default="all")
@click.option("--rounds", type=int, default=1, show_default=True)
@click.option(
    "--floor/--no-floor", "with_floor", default=True, help="The same Jobs without the operator too."
)
def active(counts: Sequence[int], cap: int, rounds: int, *, with_floor: bool) -> None:
    """An iteration of six Jobs for every cycle, all asked for at once, against the same Jobs without the operator."""
    print(
        "| cycles | | wall, s | control plane, CPU s | own CPU, s | own peak, MiB | gap p50, s | gap p99, s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for count in counts:
        for _ in range(rounds):
            _round(count, cap, with_floor=with_floor)


def _round(count: int, cap: int, *, with_floor: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="scale-", ignore_cleanup_errors=True) as scratch:
        with scale_bed(Path(scratch, "operator")) as bed:
            templates = Path(scratch, "jobs.json")
            ours = _operator_run(bed, count, cap)
            templates.write_text(json.dumps(fleet.jobs_of_one(bed.client)))
        _print(count, "operator", ours)
        if not with_floor:
            return
        with scale_bed(Path(scratch, "floor")) as bed:
            floor = _floor_run(bed, templates, count, cap)
        _print(count, "floor", floor)
    print(
        f"| {count} | ratio | {ours.wall_seconds / floor.wall_seconds:.2f} | "
        f"{ours.control_plane_cpu / floor.control_plane_cpu:.2f} | "
        f"{ours.own_cpu / ours.control_plane_cpu:.3f} of the control plane | | | |"
    )


@main.command()
@click.option("--cycles", "counts", multiple=True, type=int, default=(10_000,), show_default=True)
@click.option(
    "--seconds", type=float, default=180.0, show_default=True, help="How long it is watched at rest."
)
def idle(counts: Sequence[int], seconds: float) -> None:
    """Cycles of which nothing is asked: what a start costs, and what the time after it does."""
    print(
        "| idle cycles | ready, s | all looked at, s | CPU, s | peak, MiB | CPU a minute, s | writes a minute |"
    )
    print("|---|---|---|---|---|---|---|")
    for count in counts:
        with (
            tempfile.TemporaryDirectory(prefix="scale-", ignore_cleanup_errors=True) as scratch,
            scale_bed(Path(scratch, "idle")) as bed,
        ):
            _idle_run(bed, count, seconds)


def _operator_run(bed: ScaleBed, count: int, cap: int) -> Load:
    fleet.make_namespaces(bed.client, count)
    fleet.make_cycles(bed.client, count, run=True)
    child = _operator(bed, 0, *(["--max-active-iterations", str(cap)] if cap else []))
    return _load(bed, child, count, lambda: fleet.promoted(bed.client) == count)


def _floor_run(bed: ScaleBed, templates: Path, count: int, cap: int) -> Load:
    fleet.make_namespaces(bed.client, count)
    argv = [sys.executable, "-m", "benchmarks.scale.floor", str(templates), str(count), str(cap)]
    child = Child("floor", argv, bed.control_plane.folder / "logs" / "floor.log", _environment(bed))
    return _load(bed, child, count, lambda: DONE in child.log_end(1))


def _load(bed: ScaleBed, child: Child, count: int, done: Callable[[], bool]) -> Load:
    components = {**bed.control_plane.components, "kwok": bed.kwok}
    before = {name: usage.cpu_seconds(each.pid) for name, each in components.items()}
    since = bed.audit_log.stat().st_size
    began = time.monotonic()
    child.start()
    try:
        jobs = count * len(fleet.STAGES)
        made = audit.Tail(bed.audit_log, since)
        _wait(lambda: made.jobs() >= jobs, child)
        _wait(done, child)
        wall = time.monotonic() - began
        return Load(
            wall,
            {name: usage.cpu_seconds(each.pid) - before[name] for name, each in components.items()},
            usage.cpu_seconds(child.pid),
            usage.peak_mib(child.pid),
            audit.read(bed.audit_log, since),
        )
    finally:
        child.stop()


def _idle_run(bed: ScaleBed, count: int, seconds: float) -> None:
    fleet.make_namespaces(bed.client, count)
    fleet.make_cycles(bed.client, count, run=False)
    port = free_ports(1)[0]
    child = _operator(bed, port)
    child.start()
    _wait(lambda: fleet.looked_at(bed.client) == count, child)
    child.stop()
    began = time.monotonic()
    child.start()
    try:
        wait_until(lambda: _answers(port), "the operator is ready", 600)
        ready = time.monotonic() - began
        looked_at = _until_at_rest(child) - began
        start_cpu = usage.cpu_seconds(child.pid)
        since = bed.audit_log.stat().st_size
        time.sleep(seconds)
        minutes = seconds / 60
        requests = audit.read(bed.audit_log, since).requests
        writes = sum(
            n for request, n in requests.items() if request.split()[0] not in {"get", "list", "watch"}
        )
        cpu = (usage.cpu_seconds(child.pid) - start_cpu) / minutes
        peak = usage.peak_mib(child.pid)
    finally:
        child.stop()
    print(
        f"| {count} | {ready:.1f} | {looked_at:.1f} | {start_cpu:.1f} | {peak:.0f} | {cpu:.2f} | {writes / minutes:g} |"
    )


def _until_at_rest(child: Child) -> float:
    """When it last used a fifth of a second of CPU within two seconds."""
    busy = time.monotonic()
    used = usage.cpu_seconds(child.pid)
    while time.monotonic() - busy < 2.0:
        time.sleep(0.1)
        now = usage.cpu_seconds(child.pid)
        if now - used > 0.2:
            busy, used = time.monotonic(), now
    return busy


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _operator(bed: ScaleBed, health_port: int, *arguments: str) -> Child:
    command = Path(sys.executable).with_name("alignment-operator")
    argv = [str(command), "run", "--metrics-port", "0", "--health-port", str(health_port), *arguments]
    return Child("operator", argv, bed.control_plane.folder / "logs" / "operator.log", _environment(bed))


def _environment(bed: ScaleBed) -> dict[str, str]:
    return os.environ | {"KUBECONFIG": str(bed.kubeconfig)}


def _wait(condition: Callable[[], bool], child: Child) -> None:
    """Looks once a second, which costs little beside what is measured."""
    deadline = time.monotonic() + _HOURS
    while not condition():
        child.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done within {_HOURS:g} s")
        time.sleep(1.0)


def _print(count: int, name: str, load: Load) -> None:
    gaps = [audit.percentile(load.told.gaps, share) for share in (0.5, 0.99)]
    print(
        f"| {count} | {name} | {load.wall_seconds:.1f} | {load.control_plane_cpu:.1f} | {load.own_cpu:.1f} | "
        f"{load.own_peak_mib:.0f} | {gaps[0]:.3f} | {gaps[1]:.3f} |",
        flush=True,
    )
    requests = load.told.requests
    said = ", ".join(f"{request} {n}" for request, n in sorted(requests.items()))
    cpu = ", ".join(f"{part} {seconds:.1f}" for part, seconds in load.component_cpu.items())
    print(f"    {name}: CPU s: {cpu}", file=sys.stderr)
    print(f"    {name}: {sum(requests.values())} requests: {said}", file=sys.stderr)


if __name__ == "__main__":
    main()
