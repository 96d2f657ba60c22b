"""Reads the store of a cluster: a Job of the user's own that prints what it found, and is deleted."""

from __future__ import annotations

import secrets

from alignment_api import names
from alignment_api.iteration_report import ReadingConfig
from alignment_api.pods import PodDefaults
from alignment_operator.cli.cluster_job import answer_of
from alignment_operator.cluster import Cluster
from alignment_operator.local.reading import ReadingError
from alignment_operator.observed import Owner
from alignment_operator.render.reading import Reading, render_reading


class ClusterStore:
    """`pods`: the image and how it may run. `patience_seconds`: until its pod has ended. `kind`: the owner's."""

    def __init__(
        self,
        api: Cluster,
        owner: Owner,
        pods: PodDefaults,
        patience_seconds: float,
        kind: str = names.CYCLE_KIND,
    ) -> None:
        self._api = api
        self._owner = owner
        self._pods = pods
        self._patience = patience_seconds
        self._kind = kind

    async def read(self, config: ReadingConfig) -> bytes:
        """The answer to the config. Raises ReadingError, and what the API raises."""
        reading = Reading(
            names.reading_name(self._owner.name, secrets.token_hex(3)), config, self._pods, self._kind
        )
        try:
            manifest = render_reading(self._owner, reading)
        except ValueError as error:
            raise ReadingError(str(error)) from error
        return await answer_of(self._api, manifest, self._patience)
