"""Live progress on stderr: a table that redraws itself in a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from alignment_api.stage import WORK, Stage
from alignment_operator.api import CYCLE
from alignment_operator.cli.program import command
from alignment_operator.local.jobs import StageProgress
from alignment_operator.local.run import Snapshot, Watch

LINE_EVERY_SECONDS = 10.0
_MARKS = {"Succeeded": "✓", "Failed": "✗", "Running": "▸", "Pending": "·"}


@contextmanager
def watching(state: Path) -> Iterator[Watch]:
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield Lines(console, state)
        return
    table = Redrawn(state)
    with Live(get_renderable=table.render, console=console, refresh_per_second=4):
        yield table


class Redrawn:
    """Every stage so far, one a row; the running one with its bar."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._seen: dict[str, Snapshot] = {}
        self._rates = Rates()

    def __call__(self, snapshot: Snapshot) -> None:
        self._seen[snapshot.manifest["metadata"]["uid"]] = snapshot

    def render(self) -> Group:
        shown: list[Text | Table] = []
        for snapshot in list(self._seen.values()):
            table = Table.grid(padding=(0, 2))
            for stage in stages_of(snapshot):
                self._add(table, stage, snapshot.progress)
            above = (title(snapshot), edit_that_waits(snapshot, self._state))
            shown += [*(Text(line, style="bold") for line in above if line), table]
        return Group(*shown)

    def _add(self, table: Table, stage: Mapping[str, Any], progress: StageProgress | None) -> None:
        mark = Text(
            _MARKS[stage["state"]], style={"Succeeded": "green", "Failed": "red"}.get(stage["state"], "cyan")
        )
        elapsed = spelled_seconds(seconds_of(stage))
        if stage["state"] in ("Succeeded", "Failed"):
            table.add_row(mark, stage["name"], elapsed, Text(counts_of(stage) or stage.get("reason", "")))
        elif progress is not None and progress.job == stage.get("job"):
            said = progress.said
            bar = ProgressBar(total=said.total or None, completed=said.done, width=24, pulse=not said.total)
            table.add_row(mark, stage["name"], elapsed, bar, Text(self._rates.told(progress)))
        else:
            table.add_row(mark, stage["name"], elapsed, Text(stage.get("message") or "starting"))


class Lines:
    """A line when a stage starts or ends, and every ten seconds in between."""

    def __init__(self, console: Console, state: Path) -> None:
        self._console = console
        self._state = state
        self._states: dict[tuple[str, str], str] = {}
        self._said_at = time.monotonic()
        self._rates = Rates()
        self._titles: set[str] = set()

    def __call__(self, snapshot: Snapshot) -> None:
        if (heading := title(snapshot)) not in self._titles:
            self._titles.add(heading)
            self._say(heading)
            self._say(edit_that_waits(snapshot, self._state))
        for stage in stages_of(snapshot):
            key = (heading, stage["name"])
            if self._states.get(key) != stage["state"]:
                self._states[key] = stage["state"]
                self._say(changed(stage))
        progress = snapshot.progress
        if progress is not None:
            told = self._rates.told(progress)
            if time.monotonic() - self._said_at >= LINE_EVERY_SECONDS:
                self._say(f"{progress.stage}: {told}")

    def _say(self, line: str) -> None:
        if line:
            self._said_at = time.monotonic()
            self._console.print(line, markup=False, soft_wrap=True)


class Rates:
    """Things a second of the running part of a stage, as its progress shows them."""

    def __init__(self) -> None:
        self._part: tuple[str, str, str] = ("", "", "")
        self._since = 0.0
        self._from = 0.0

    def told(self, progress: StageProgress) -> str:
        """done/total unit, rate, time left."""
        said = progress.said
        part = (progress.job, said.unit, said.detail)
        if part != self._part or said.done < self._from:
            self._part, self._since, self._from = part, time.monotonic(), said.done
        elapsed = time.monotonic() - self._since
        rate = (said.done - self._from) / elapsed if elapsed > 1 else None
        told = spelled_progress(said.done, said.total, said.unit, rate, said.seconds_left)
        return f"{told}, {said.detail}" if said.detail else told


def spelled_progress(
    done: float, total: float | None, unit: str, rate: float | None, seconds_left: float | None
) -> str:
    """85/345 prompts, 3.4/s, 1 min 16 s left."""
    told = [f"{done:g}" + (f"/{total:g}" if total else "") + f" {unit}".rstrip()]
    if rate:
        told.append(f"{rate:.3g}/s")
    if seconds_left is not None:
        told.append(f"{spelled_seconds(seconds_left)} left")
    return ", ".join(told)


def title(snapshot: Snapshot) -> str:
    """Whose progress it is."""
    metadata, status = snapshot.manifest["metadata"], snapshot.manifest.get("status", {})
    if snapshot.kind != CYCLE:
        return f"dataset {metadata['name']}"
    iteration = status.get("iteration")
    return f"cycle {metadata['name']}" + (f", iteration {iteration['number']}" if iteration else "")


def edit_that_waits(snapshot: Snapshot, state: Path) -> str:
    """What the iteration does not see of the manifest, and how to end it for that; empty if nothing."""
    metadata, iteration = snapshot.manifest["metadata"], snapshot.manifest.get("status", {}).get("iteration")
    if not snapshot.edited or not iteration:
        return ""
    edited = ", ".join(f"spec.{field}" for field in snapshot.edited)
    told = (
        f"iteration {iteration['number']} works from generation {iteration['generation']}; your edit of {edited} "
        f"(generation {metadata['generation']}) applies to the next"
    )
    if "outcome" in iteration:
        return told
    return f"{told}. To end this one: {command('cancel', metadata['name'], state)}"


def stages_of(snapshot: Snapshot) -> list[Mapping[str, Any]]:
    status = snapshot.manifest.get("status", {})
    if snapshot.kind != CYCLE:
        return [status["ingest"]] if "ingest" in status else []
    stages: list[Mapping[str, Any]] = status.get("iteration", {}).get("stages", [])
    return stages


def changed(stage: Mapping[str, Any]) -> str:
    """What there is to say of a stage whose state has changed; empty for one that has not begun."""
    match stage["state"]:
        case "Running":
            return f"{stage['name']}: started"
        case "Succeeded":
            return f"{stage['name']}: done in {spelled_seconds(seconds_of(stage))}, {counts_of(stage)}"
        case "Failed":
            return f"{stage['name']}: failed, {stage.get('reason', '')}"
    return ""


def counts_of(stage: Mapping[str, Any]) -> str:
    """What was done, the stage's own unit first; what there was none of is left out."""
    counts = stage.get("result", {}).get("counts", {})
    unit = WORK[Stage(stage["name"])]
    ordered = sorted(counts, key=lambda name: name != unit)
    return ", ".join(f"{counts[name]} {words(name)}" for name in ordered if counts[name])


def words(name: str) -> str:
    """meanTokens → mean tokens."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)


def seconds_of(stage: Mapping[str, Any]) -> float:
    if "startedAt" not in stage:
        return 0.0
    end = datetime.fromisoformat(stage["finishedAt"]) if "finishedAt" in stage else datetime.now(UTC)
    return max(0.0, (end - datetime.fromisoformat(stage["startedAt"])).total_seconds())


def spelled_seconds(seconds: float) -> str:
    """1 h 2 min, 3 min 4 s, 5 s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
