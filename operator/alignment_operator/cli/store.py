"""Where a command reads artifacts, and what it can tell of an iteration with their help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import click
from pydantic import ValidationError

from alignment_api import names
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import AlignmentCycleStatus
from alignment_api.iteration_report import ReadingConfig, ReportConfig, Results, ResultsConfig
from alignment_api.pods import PodDefaults
from alignment_api.stage import Stage, StageResult
from alignment_api.validation import parse_cycle
from alignment_operator.api import CONTROLLER_REVISION, Manifest, RefusedError
from alignment_operator.cli.errors import CommandError
from alignment_operator.cli.place import Place
from alignment_operator.cli.program import command
from alignment_operator.explain.account import (
    Account,
    iterations_uri,
    of_an_earlier,
    of_the_last,
    report_config,
)
from alignment_operator.local.claims import Claims
from alignment_operator.local.reading import LocalStore, ReadingError
from alignment_operator.observe.objects import owner_of
from alignment_operator.observed import Frozen, Owner
from alignment_operator.plan.iteration import settled_pods
from alignment_operator.render.revision import parse_revision

PATIENCE_SECONDS = 300.0


class Store(Protocol):
    """Answers a config. Raises ReadingError."""

    async def read(self, config: ReadingConfig) -> bytes: ...


@dataclass(frozen=True)
class Cycle:
    """A cycle, parsed; `frozen` by number, what is still there."""

    where: Place
    owner: Owner
    spec: AlignmentCycleSpec
    status: AlignmentCycleStatus
    frozen: Mapping[int, Frozen]

    @classmethod
    async def of(cls, where: Place, manifest: Manifest) -> Cycle:
        """Raises CommandError."""
        metadata = manifest["metadata"]
        spec, problems = parse_cycle(manifest)
        if spec is None:
            raise CommandError(f"{metadata['name']}: {problems[0]}")
        try:
            status = AlignmentCycleStatus.of(manifest.get("status"))
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise CommandError(
                f"the status of {metadata['name']} is not one that this version wrote: {message}"
            ) from error
        return cls(where, owner_of(manifest), spec, status, await _frozen(where, metadata))

    @property
    def newest(self) -> Frozen | None:
        """What the last iteration froze, if it is still there."""
        return self.frozen.get(max(self.frozen, default=0))

    def numbers(self) -> list[int]:
        """Of the iterations that the status knows, the newest first."""
        last = [self.status.iteration.number] if self.status.iteration else []
        return list(dict.fromkeys([*last, *(row.number for row in self.status.history)]))

    def chosen(self, number: int | None) -> int:
        """The one that is asked for, or the last. Raises CommandError."""
        known = self.numbers()
        if not known:
            raise CommandError(f"{self.owner.name} has had no iteration")
        if number is None:
            return known[0]
        if number not in known:
            told = ", ".join(map(str, known))
            raise CommandError(f"iteration {number} of {self.owner.name} is not known; known are {told}")
        return number

    def verb(self, verb: str) -> str:
        """The command that says it."""
        if self.where.state is not None:
            return command(verb, self.owner.name, self.where.state)
        return f"kubectl align {verb} {self.owner.name} -n {self.owner.namespace}"


async def _frozen(where: Place, metadata: Manifest) -> dict[int, Frozen]:
    """One that cannot be read is as if it were gone."""
    labels = {names.LABEL_OWNER_UID: metadata["uid"]}
    found = {}
    for revision in await where.api.list(CONTROLLER_REVISION, metadata["namespace"], labels):
        try:
            frozen = parse_revision(revision)
        except (ValueError, KeyError):
            continue
        found[frozen.number] = frozen
    return found


def local_store(where: Place, claims: Mapping[str, Path]) -> Store | None:
    """None on a cluster. Raises CommandError for claims there."""
    if where.state is not None:
        return LocalStore(Claims.recalled(claims, where.state))
    if claims:
        raise CommandError(
            "--claim says where claims are on this machine; on a cluster they are where they are"
        )
    return None


def cluster_store(
    where: Place,
    owner: Owner,
    pods: PodDefaults,
    patience: float = PATIENCE_SECONDS,
    kind: str = names.CYCLE_KIND,
) -> Store:
    """Read by a Job of that owner."""
    from alignment_operator.cli.cluster_store import ClusterStore  # noqa: PLC0415 - a folder needs no client
    from alignment_operator.cluster import Cluster  # noqa: PLC0415

    assert isinstance(where.api, Cluster)
    return ClusterStore(where.api, owner, pods, patience, kind)


def store_of(
    cycle: Cycle, claims: Mapping[str, Path], number: int, patience: float = PATIENCE_SECONDS
) -> Store:
    """A folder's, or a cluster's: that with the image of the iteration. Raises CommandError."""
    if here := local_store(cycle.where, claims):
        return here
    frozen = cycle.frozen.get(number) or cycle.newest
    pods = settled_pods(frozen.spec if frozen else cycle.spec, Stage.PROMOTE)
    return cluster_store(cycle.where, cycle.owner, with_image(pods, cycle), patience)


def with_image(pods: PodDefaults, cycle: Cycle) -> PodDefaults:
    """Where they name none, the one that the operator gave its last iteration. Raises CommandError."""
    image = pods.image or (cycle.newest.spec.defaults.image if cycle.newest else None)
    if image is None:
        raise CommandError(
            f"no ControllerRevision of {cycle.owner.name} is left that says which worker image it ran; set "
            "spec.defaults.image"
        )
    return pods.model_copy(update={"image": image})


async def accounts_of(cycle: Cycle, numbers: Sequence[int], claims: Mapping[str, Path]) -> list[Account]:
    """Of each iteration what is known; the store is read only for those that status has no more than a row of."""
    last = cycle.status.iteration
    earlier = [number for number in numbers if last is None or number != last.number]
    results = await _results(cycle, earlier, claims) if earlier else {}
    accounts = []
    for number in numbers:
        frozen = cycle.frozen.get(number)
        if last is not None and number == last.number:
            accounts.append(of_the_last(last, frozen, cycle.status.tested))
        else:
            row = next(row for row in cycle.status.history if row.number == number)
            accounts.append(of_an_earlier(row, cycle.status, frozen, results.get(number, {})))
    return accounts


async def _results(
    cycle: Cycle, numbers: Sequence[int], claims: Mapping[str, Path]
) -> Mapping[int, Mapping[Stage, StageResult]]:
    """Nothing, and a line that says why, if the store cannot be read: the rest can be told without it."""
    if cycle.where.state is None:
        told = ", ".join(map(str, numbers))
        click.echo(
            f"# reading iteration {told} from the store, by a Job in {cycle.owner.namespace}", err=True
        )
    config = ResultsConfig(iterations=iterations_uri(cycle.owner, cycle.spec), numbers=list(numbers))
    try:
        data = await store_of(cycle, claims, numbers[0]).read(config)
        return Results.of(data).iterations
    except (ReadingError, RefusedError, ValueError) as error:
        click.echo(f"# the store could not be read: {error}", err=True)
        return {}


def config_of(cycle: Cycle, account: Account) -> ReportConfig:
    """What the worker draws."""
    approve, reject = cycle.verb("approve"), cycle.verb("reject")
    return report_config(cycle.owner, cycle.status, account, cycle.spec, approve, reject)


def report_command(cycle: Cycle, number: int) -> str:
    """For people who want to see more."""
    which = "" if number == cycle.numbers()[0] else f" --iteration {number}"
    return f"{cycle.verb('report')}{which}"
