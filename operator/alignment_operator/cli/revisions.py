"""A dataset whose revisions a command reads, in a folder's store or a cluster's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
from pydantic import ValidationError

from alignment_api import names
from alignment_api.dataset import PreferenceDatasetSpec, PreferenceDatasetStatus
from alignment_api.iteration_report import ReadingConfig
from alignment_api.pods import PodDefaults
from alignment_api.validation import parse_dataset
from alignment_operator.api import DATASET, JOB, Manifest
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.place import Place, place
from alignment_operator.cli.store import Store, cluster_store, local_store
from alignment_operator.local.reading import ReadingError
from alignment_operator.observe.objects import owner_of
from alignment_operator.render.layout import WORKER

T = TypeVar("T")
image_option = click.option("--image", help="The worker's, on a cluster, where the dataset does not name it.")


@dataclass(frozen=True)
class Dataset:
    """Every method raises CommandError."""

    where: Place
    manifest: Manifest

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    def spec(self) -> PreferenceDatasetSpec:
        spec, problems = parse_dataset(self.manifest)
        if spec is None:
            raise CommandError(f"{self.name}: {problems[0]}")
        return spec

    def status(self) -> PreferenceDatasetStatus:
        try:
            return PreferenceDatasetStatus.from_wire(self.manifest.get("status") or {})
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise CommandError(
                f"the status of {self.name} is not one that this version wrote: {message}"
            ) from error

    async def read(
        self,
        config: ReadingConfig,
        parsed: Callable[[bytes], T],
        claims: Mapping[str, Path],
        image: str | None,
    ) -> T:
        """The answer from its store."""
        store = await self._store(claims, image)
        try:
            return parsed(await store.read(config))
        except (ReadingError, ValueError) as error:
            raise CommandError(f"the store could not be read: {error}") from error

    async def _store(self, claims: Mapping[str, Path], image: str | None) -> Store:
        if here := local_store(self.where, claims):
            return here
        pods = self.spec().defaults
        image = image or pods.image or await self._image_of_last_job()
        if image is None:
            raise CommandError("no Job is left that says which worker image it ran; name it by --image")
        resources = pods.resources.without_extended() if pods.resources else None
        settled: PodDefaults = pods.model_copy(update={"image": image, "resources": resources})
        return cluster_store(self.where, owner_of(self.manifest), settled, kind=names.DATASET_KIND)

    async def _image_of_last_job(self) -> str | None:
        last = self.manifest.get("status", {}).get("ingest", {}).get("job")
        namespace = self.manifest["metadata"]["namespace"]
        job = await self.where.api.get(JOB, namespace, last) if last else None
        containers = job["spec"]["template"]["spec"]["containers"] if job else []
        return next((each["image"] for each in containers if each["name"] == WORKER), None)


@asynccontextmanager
async def dataset_of(name: str | None, state: Path | None, namespace: str | None) -> AsyncIterator[Dataset]:
    """That of the name, or the only one. Raises CommandError."""
    async with place(state, namespace) as where:
        click.echo(where.heading(), err=True)
        yield Dataset(where, await where.one(DATASET, name or await _only(where)))


async def _only(where: Place) -> str:
    known = [item["metadata"]["name"] for item in await where.every(DATASET)]
    if len(known) != 1:
        told = ", ".join(known) or "none"
        raise CommandError(
            f"say which PreferenceDataset, by its name before the rest; there: {told}", Exit.INVALID
        )
    return str(known[0])
