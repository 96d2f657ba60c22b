"""What was edited since an iteration began, which it therefore does not see."""

from __future__ import annotations

from alignment_api import names
from alignment_api.cycle_status import Iteration
from alignment_api.validation import parse_cycle
from alignment_operator.api import CONTROLLER_REVISION, Api, Manifest
from alignment_operator.plan import edits
from alignment_operator.render.revision import parse_revision


async def unseen(api: Api, cycle: Manifest, iteration: Iteration) -> tuple[str, ...]:
    """The fields of spec that apply from the next iteration; none if nobody can tell what this one works from."""
    metadata = cycle["metadata"]
    name = names.revision_name(metadata["name"], iteration.number)
    revision = await api.get(CONTROLLER_REVISION, metadata["namespace"], name)
    spec, _ = parse_cycle(cycle)
    if revision is None or spec is None:
        return ()
    try:
        return edits.waiting(parse_revision(revision).spec, spec)
    except (ValueError, KeyError):  # the next pass says so
        return ()
