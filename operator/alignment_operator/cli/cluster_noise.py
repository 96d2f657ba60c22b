"""An A/A run of a cycle on a cluster: a Job of the user's own computes, and the gates judge here."""

from __future__ import annotations

import asyncio
import secrets

import click

from alignment_api import names
from alignment_api.gates import GateResult
from alignment_api.noise import NoiseResults
from alignment_operator.api import CYCLE
from alignment_operator.cli.cluster_job import answer_of
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.noise import noise_of
from alignment_operator.cli.place import place
from alignment_operator.cli.store import Cycle, with_image
from alignment_operator.cluster import Cluster
from alignment_operator.local.reading import ReadingError
from alignment_operator.local.run import InterruptedRunError, interruptible
from alignment_operator.plan.noise import Noise
from alignment_operator.render.noise import OUTPUT, render_noise


async def measured(
    name: str, namespace: str | None, seed: int, seconds: int | None
) -> tuple[Noise, tuple[GateResult, ...]]:
    """What the gates say. `seconds`: that it may take, None for what the spec lets the stages.

    Raises CommandError, ReadingError, InterruptedRunError.
    """
    async with place(None, namespace) as where:
        if not isinstance(where.api, Cluster):
            raise CommandError(
                f"in the {where} give the manifest with -f; the cluster: kubectl align, or -n NAMESPACE",
                Exit.INVALID,
            )
        click.echo(where.heading(), err=True)
        cycle = await Cycle.of(where, await where.one(CYCLE, name))
        noise = noise_of(cycle.owner, cycle.spec, cycle.status, OUTPUT, seed)
        pods = with_image(noise.pods, cycle)
        if seconds is not None:
            pods = pods.model_copy(update={"active_deadline_seconds": seconds})
        job = names.noise_name(cycle.owner.name, secrets.token_hex(3))
        manifest = render_noise(cycle.owner, job, noise.configs, pods)
        stages = " and ".join(stage.value for stage in noise.stages)
        click.echo(f"# {stages}, by Job {job} in {cycle.owner.namespace}", err=True)
        try:
            with interruptible(lambda: None):
                answer = await answer_of(where.api, manifest, pods.active_deadline_seconds, _say)
        except asyncio.CancelledError:
            raise InterruptedRunError from None
    try:
        results = NoiseResults.model_validate_json(answer).results
    except ValueError as error:
        raise ReadingError(f"the worker of image {pods.image} answers as another release does") from error
    return noise, noise.verdicts(results)


def _say(waits: str) -> None:
    click.echo(f"# {waits}", err=True)
