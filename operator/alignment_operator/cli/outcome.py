"""What was decided and why, at the end of a local run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from alignment_api import digests, names
from alignment_api.conditions import ConditionType, find
from alignment_api.gates import Verdict
from alignment_operator.api import CYCLE, Manifest
from alignment_operator.cli.printing import console_for, print_table
from alignment_operator.cli.program import command
from alignment_operator.cli.watching import edit_that_waits, seconds_of, spelled_seconds
from alignment_operator.local.claims import Claims
from alignment_operator.local.run import Snapshot, dataset_status, is_held, is_suspended
from alignment_operator.plan.dataset_result import left_out

STYLES = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.ERROR: "red",
}


def print_report(
    ended: Sequence[Snapshot], claims: Claims, state: Path, again: str, page: Path | None = None
) -> None:
    """`again` is the command that was typed, `page` the HTML report."""
    console = console_for()
    for snapshot in ended:
        if snapshot.kind == CYCLE:
            _Report(console, snapshot, claims, state, again, page).print()
        else:
            _print_dataset(console, snapshot.manifest, claims, state)


def print_gates(console: Console, gates: Sequence[Mapping[str, Any]]) -> None:
    """Gate, verdict, and the sentence with its numbers."""
    rows: list[tuple[str | Text, ...]] = []
    for gate in gates:
        verdict = Text(gate["verdict"], style=STYLES[Verdict(gate["verdict"])])
        rows.append((gate["name"], verdict, gate["message"]))
        rows += [("", Text("warning", style="yellow"), warning) for warning in gate.get("warnings", [])]
    print_table(console, ("GATE", "VERDICT", "WHY"), rows)


class _Report:
    def __init__(
        self, console: Console, snapshot: Snapshot, claims: Claims, state: Path, again: str, page: Path | None
    ) -> None:
        cycle = snapshot.manifest
        self._console = console
        self._edit = edit_that_waits(snapshot, state)
        self._name = cycle["metadata"]["name"]
        self._held = is_held(cycle)
        self._suspended = is_suspended(cycle)
        self._status = cycle.get("status", {})
        self._iteration = self._status.get("iteration")
        self._claims = claims
        self._state = state
        self._again = again
        self._page = page

    def print(self) -> None:
        stalled = next(
            (item for item in self._status.get("conditions", []) if item["type"] == "Stalled"), None
        )
        if stalled and stalled["status"] == "True":
            self._say(f"{self._name} is stalled: {stalled['reason']}: {stalled['message']}")
        if self._suspended:
            self._say(
                f"{self._name} is suspended, and nothing starts. Set spec.suspend to false, then: {self._again}"
            )
        if self._iteration is None or self._suspended:
            return
        self._say("")
        outcome = "held for a person" if self._held else self._iteration.get("outcome", "not decided")
        took = spelled_seconds(seconds_of(self._iteration))
        heading = f"{self._name}, iteration {self._iteration['number']}: {outcome}"
        self._console.print(
            Text(heading, style="bold"), Text(f"({self._iteration.get('reason', '')}, {took})")
        )
        gates = self._iteration.get("gates")
        message = self._iteration.get("message", "")
        # The table below says the rest, gate by gate.
        self._say(message.partition(". ")[0] if gates else message)
        if gates:
            self._say("")
            print_gates(self._console, gates)
        self._print_places()
        self._say("")
        self._print_next()

    def _print_places(self) -> None:
        if self._iteration.get("incumbent") or self._iteration.get("candidate"):
            self._say("")
        rows = {"candidate": self._iteration.get("candidate"), "incumbent": self._iteration.get("incumbent")}
        for role, located in rows.items():
            if located:
                self._say(
                    f"{role + ':':<11} {self._path(located['uri'])}  {digests.short(located['digest'])}"
                )
        promoted = self._status.get("promoted")
        if promoted:
            self._say(f"{'promoted:':<11} iteration {promoted['iteration']}, {self._path(promoted['uri'])}")

        if self._page:
            self._say(f"{'report:':<11} {_from_here(self._page)}")

    def _print_next(self) -> None:
        number = self._iteration["number"]
        if self._edit:
            self._say(self._edit)
        match "Held" if self._held else self._iteration.get("outcome"):
            case "Promoted":
                uri = self._status["promoted"]["uri"]
                self._say(f"The promoted model is a folder that transformers loads: {self._path(uri)}")
                self._say(f"The next iteration starts from it: {self._again}")
            case "Rejected":
                self._say("The incumbent stays. The candidate is kept for inspection, in the folder above.")
                self._say(f"Change the manifest, or try again with other samples: {self._again}")
            case "Held":
                approve, reject = (command(verb, self._name, self._state) for verb in ("approve", "reject"))
                self._say("A person decides:")
                self._say(f"  {approve}    and then promote it by: {self._again}")
                self._say(f"  {reject}     refuses it at once")
            case "Failed":
                for log in self._failed_logs():
                    self._say(f"log: {log}")
                if claim := re.search(r"pvc://([^/\s]+)\S* is not there", self._iteration.get("message", "")):
                    self._say(f"Or give the folder that is pvc://{claim[1]}: --claim {claim[1]}=DIR")
                self._say(f"When that is mended, start iteration {number + 1}: {self._again}")
            case "Cancelled" | "RolledBack":
                self._say(f"To start iteration {number + 1}: {self._again}")

    def _failed_logs(self) -> list[Path]:
        failed: Mapping[str, Any] = next(
            (stage for stage in self._iteration["stages"] if stage["state"] == "Failed"), {}
        )
        pods = sorted(
            (self._state / "jobs").glob(f"{failed.get('job', '-')}-*"), key=lambda pod: pod.stat().st_mtime
        )
        return [pod / "log" for pod in pods[-1:]]

    def _path(self, uri: str) -> str:
        return _path(uri, self._claims)

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


def _from_here(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _path(uri: str, claims: Claims) -> str:
    with suppress(ValueError, OSError):
        return _from_here(claims.path(uri))
    return uri


def _print_dataset(console: Console, dataset: Manifest, claims: Claims, state: Path) -> None:
    status = dataset_status(dataset)
    ready, name, revision = (
        find(status.conditions, ConditionType.READY),
        dataset["metadata"]["name"],
        status.revision,
    )

    def say(line: str) -> None:
        console.print(Text(line), soft_wrap=True)

    if ready and ready.status == "True" and revision:
        say(f"dataset {name}: revision {revision.number}, {ready.message}")
        if status.rows and left_out(status.rows):
            folder = _path(revision.uri, claims)
            say(
                f"what was left out, and why: {next(Path(folder).glob(f'run-*/{names.REJECTED_ROWS}'), folder)}"
            )
    elif ready:
        say(f"dataset {name}: {ready.reason}: {ready.message}")
        say(f"logs: {state / 'jobs'}")
