"""Which rows of a revision have prompts that are nearest in meaning to what a person asks for."""

from __future__ import annotations

import json

from alignment_api import digests
from alignment_api.iteration_report import Match, Matches, SearchConfig
from alignment_worker.embedding import Embedder
from alignment_worker.failures import InputMissingError
from alignment_worker.ingestion import vectors
from alignment_worker.ingestion.comparing import START, example_of, opened, pairs_of
from alignment_worker.store import DERIVED, Places


def search(config: SearchConfig, places: Places) -> Matches:
    """Raises InputMissingError, DigestMismatchError, InvalidModelError, StoreConflictError, OSError.

    What is shown is read from the revision's own rows, which its digest names; the table only says which.
    """
    folder, model = opened(config.revision, places), places.path(config.model)
    if not model.is_dir():
        raise InputMissingError(
            f"{config.model} ({model}) is not there; spec.curation.embedding.model names it"
        )
    table = vectors.opened(folder.file(DERIVED), digests.of_folder(model))
    if table is None:
        raise InputMissingError(
            f"{config.revision.uri} has no vectors of the model {config.model}: refresh the dataset"
        )
    found = vectors.nearest(table, Embedder(model).of([config.words])[0].numpy(), config.most)
    matches: dict[int, Match] = {}
    with pairs_of(folder).open("rb") as file:
        for line in file:
            ordinal = int(line[len(START) : line.index(b",")])
            if ordinal in found:
                percent = round(100 * found[ordinal], 1)
                matches[ordinal] = Match(percent=percent, row=example_of(json.loads(line)))
    return Matches(matches=[matches[ordinal] for ordinal in found if ordinal in matches])
