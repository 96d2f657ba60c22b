"""The stage `collect`: deletes what retention lets go, of a cycle's iterations or of a dataset's refreshes.

Makes collected.json: what was `deleted` and `kept`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from alignment_api.stage import CollectParameters
from alignment_worker import collect_iterations
from alignment_worker.failures import InvalidConfigError
from alignment_worker.ingestion import collect_revisions
from alignment_worker.store import Outcome
from alignment_worker.workspace import Workspace

FILE = "collected.json"


def run(workspace: Workspace) -> Outcome:
    """Raises InvalidConfigError, OSError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, CollectParameters)
    deleted: Sequence[int | str]
    kept: Sequence[int | str]
    if parameters.iterations is not None:
        deleted, kept = collect_iterations.collect(workspace, parameters.iterations)
    elif parameters.revisions is not None:
        deleted, kept = collect_revisions.collect(workspace, parameters.revisions)
    else:
        raise InvalidConfigError("parameters: name one of iterations, revisions")
    (workspace.run_folder / FILE).write_text(json.dumps({"deleted": deleted, "kept": kept}))
    counts = {"folders": len(deleted) + len(kept), "deleted": len(deleted), "kept": len(kept)}
    return Outcome(counts=counts)
