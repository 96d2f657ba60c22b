"""Which edits of the spec wait for the next iteration: all but those that are live, or from the next attempt."""

from __future__ import annotations

from typing import Any

from alignment_api.cycle import AlignmentCycleSpec

_LIVE = ("suspend", "trigger", "history")
_FROM_THE_NEXT_ATTEMPT = ("defaults", "stages")


def waiting(frozen: AlignmentCycleSpec, spec: AlignmentCycleSpec) -> tuple[str, ...]:
    """The fields of spec that differ from what the running iteration froze, images among them if they are named."""
    before, after = _later(frozen), _later(spec)
    fields = [field for field in AlignmentCycleSpec.model_fields if before.get(field) != after.get(field)]
    return tuple(fields + _images(frozen, spec))


def _later(spec: AlignmentCycleSpec) -> dict[str, Any]:
    # By the names of the model's fields: all of them are single words in the API too.
    wire = spec.model_dump(exclude={*_LIVE, *_FROM_THE_NEXT_ATTEMPT}, exclude_none=True)
    wire["promotion"].pop("targets", None)
    return wire


def _images(frozen: AlignmentCycleSpec, spec: AlignmentCycleSpec) -> list[str]:
    """A spec that names no image had the operator's own frozen, which is nobody's edit."""
    found = []
    if spec.defaults.image and spec.defaults.image != frozen.defaults.image:
        found.append("defaults.image")
    for stage in (frozen.stages or {}) | (spec.stages or {}):
        ours, theirs = spec.override(stage), frozen.override(stage)
        if (ours.image if ours else None) != (theirs.image if theirs else None):
            found.append(f"stages.{stage}.image")
    return found
