"""`alignctl render`: the Jobs that an iteration would create, as YAML."""

from __future__ import annotations

from pathlib import Path

import click

from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.inputs import given
from alignment_operator.cli.options import files_option
from alignment_operator.cli.printing import text_of
from alignment_operator.cli.simulation import Simulated, simulate_cycle, simulate_dataset
from alignment_operator.render import render_job


@click.command("render")
@files_option
def command(files: tuple[Path, ...]) -> None:
    """Print the Jobs of an iteration, as if every stage succeeded.

    What is not known before it runs is written as such: UID, xxxxxx at the end of a name, <digest of …>.
    """
    manifests = given(files)
    if not manifests.cycles and not manifests.datasets:
        raise CommandError("no AlignmentCycle or PreferenceDataset in these files", Exit.INVALID)
    datasets = [document.value for document in manifests.datasets]
    simulated = [simulate_dataset(dataset) for dataset in datasets]
    simulated += [simulate_cycle(document.value, datasets) for document in manifests.cycles]
    for owner in simulated:
        for text in jobs_of(owner):
            click.echo(f"---\n{text}", nl=False)


def jobs_of(simulated: Simulated) -> list[str]:
    """The YAML of each Job, unknown digests replaced by what they are of."""
    texts = []
    for job in simulated.jobs:
        text = text_of(render_job(simulated.owner, job, simulated.settings))
        for digest, what in simulated.unknown.items():
            text = text.replace(digest, f"<{what}>")
        texts.append(text)
    return texts
