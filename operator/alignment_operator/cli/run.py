"""`alignctl run`: one iteration here, without a cluster."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import shlex
import sys
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path

import click

from alignment_operator.api import CYCLE
from alignment_operator.cli import not_there, report
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.inputs import STATE, Given, claims_of, complain, given, remember
from alignment_operator.cli.manifests import Located
from alignment_operator.cli.options import (
    claims_option,
    files_option,
    output_option,
    secrets_option,
    state_option,
)
from alignment_operator.cli.outcome import print_report
from alignment_operator.cli.printing import print_object
from alignment_operator.cli.program import program
from alignment_operator.cli.secrets import secrets_of
from alignment_operator.cli.watching import watching
from alignment_operator.local.admission import InvalidObjectError
from alignment_operator.local.claims import Claims
from alignment_operator.local.files import BusyError, CorruptFileError
from alignment_operator.local.run import (
    InterruptedRunError,
    Snapshot,
    StuckError,
    is_held,
    is_ready,
    is_suspended,
    run,
)
from alignment_operator.local.secrets import Secrets
from alignment_operator.local.worker import WorkerError
from alignment_operator.observe import UnreadableError

_OUTCOMES = {"Promoted": Exit.PROMOTED, "Rejected": Exit.REJECTED}


@click.command("run")
@files_option
@claims_option
@secrets_option
@state_option
@output_option
def command(
    files: tuple[Path, ...],
    claims: tuple[str, ...],
    secrets: tuple[str, ...],
    state: Path | None,
    output: str | None,
) -> None:
    """Run one iteration, or go on with the one that was stopped.

    PreferenceDatasets among the manifests are ingested first. Ctrl-C stops in order, and the same command goes on.

    Exit status: 0 promoted, 3 rejected, 4 held for a person or suspended, 1 a stage failed, 2 invalid manifest or
    usage, 130 interrupted.
    """
    manifests = given(files)
    manifests.refuse_several()
    if not manifests.cycles and not manifests.datasets:
        raise CommandError("no AlignmentCycle or PreferenceDataset in these files", Exit.INVALID)
    require_worker()
    state = state or STATE
    folders = claims_of(claims, manifests, state)
    documents = [*manifests.cycles, *manifests.datasets]
    keys = secrets_of(secrets, [document.value for document in documents])
    again = f"{program()} {shlex.join(sys.argv[1:])}"
    ended = _run(manifests, folders, keys, state, again)
    page = _page(ended[-1], state)
    if output:
        print_object(ended[-1].manifest, output)
    else:
        print_report(ended, folders, state, again, page)
    sys.exit(_status(ended))


def _run(manifests: Given, claims: Claims, secrets: Secrets, state: Path, again: str) -> list[Snapshot]:
    cycle = manifests.cycles[0].value if manifests.cycles else None
    datasets = [document.value for document in manifests.datasets]
    try:
        complain(asyncio.run(not_there.before_a_run(manifests, claims, state)))
        _log_to(state / "alignctl.log")
        remember(claims, manifests, state)
        with watching(state) as watch:
            return asyncio.run(run(cycle, datasets, claims, secrets, state, watch))
    except InvalidObjectError as error:
        complain(_located(error, manifests))
        raise
    except InterruptedRunError as error:
        raise CommandError(f"stopped; to go on where it stopped: {again}", Exit.INTERRUPTED) from error
    except (BusyError, StuckError, WorkerError, CorruptFileError, UnreadableError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror or error}; when that is mended, the same command goes on: {again}"
        raise CommandError(message) from error


def _page(last: Snapshot, state: Path) -> Path | None:
    """The HTML report; that it cannot be made changes nothing about how the iteration ended."""
    if (
        last.kind != CYCLE
        or is_suspended(last.manifest)
        or "iteration" not in last.manifest.get("status", {})
    ):
        return None
    try:
        return asyncio.run(report.of_a_run(last.manifest, state))
    except (CommandError, CorruptFileError, OSError) as error:
        click.echo(f"the HTML report could not be made: {error}", err=True)
        return None


def _log_to(file: Path) -> None:
    """What the operator would log on a cluster; the terminal shows progress and the report instead."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(file, maxBytes=1 << 20, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _located(error: InvalidObjectError, manifests: Given) -> list[Located]:
    document = (manifests.cycles or manifests.datasets)[0]
    return [document.located(problem) for problem in error.problems]


def _status(ended: Sequence[Snapshot]) -> Exit:
    last = ended[-1]
    if last.kind != CYCLE:
        return Exit.PROMOTED if all(is_ready(snapshot.manifest) for snapshot in ended) else Exit.FAILED
    if is_held(last.manifest) or is_suspended(last.manifest):
        return Exit.HELD
    iteration = last.manifest.get("status", {}).get("iteration", {})
    return _OUTCOMES.get(iteration.get("outcome", ""), Exit.FAILED)


def require_worker() -> None:
    missing = [
        name
        for name in ("alignment_worker", "torch", "transformers", "trl")
        if not importlib.util.find_spec(name)
    ]
    if missing:
        raise CommandError(
            f"not installed: {', '.join(missing)}. Stages run on this machine and need them: "
            "pip install 'alignment-operator[worker]'"
        )
