"""What the API server does to our kinds before it stores them: validation, defaults, the immutable field.

And what it would let in, but nothing here can run.
"""

from __future__ import annotations

import copy

from alignment_api.cycle import AlignmentCycleSpec, Policy
from alignment_api.dataset import PreferenceDatasetSpec
from alignment_api.validation import Problem, parse_cycle, parse_dataset
from alignment_operator import schedules
from alignment_operator.api import CYCLE, DATASET, Kind, Manifest


class InvalidObjectError(Exception):
    """The object breaks the schema."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def admitted(kind: Kind, new: Manifest, old: Manifest | None) -> Manifest:
    """A copy with the defaults filled in; other kinds as they are. Raises InvalidObjectError."""
    manifest = copy.deepcopy(new)
    if kind not in (CYCLE, DATASET):
        return manifest
    spec, problems = _parsed(kind, manifest)
    if spec is None or problems:
        raise InvalidObjectError(problems)
    _require_no_server(spec)
    manifest["spec"] = spec.to_wire()
    if kind == CYCLE and old is not None:
        _require_same_model(manifest, old)
    return manifest


def _parsed(
    kind: Kind, manifest: Manifest
) -> tuple[AlignmentCycleSpec | PreferenceDatasetSpec | None, tuple[Problem, ...]]:
    spec, problems = parse_dataset(manifest) if kind == DATASET else parse_cycle(manifest)
    return spec, problems + schedules.problems(spec)


def _require_no_server(spec: AlignmentCycleSpec | PreferenceDatasetSpec) -> None:
    """Images run on clusters."""
    if isinstance(spec, AlignmentCycleSpec) and spec.prompts and (server := spec.sampling.server):
        message = "needs a cluster to run in; without one leave sampling.server out, and the worker samples"
        raise InvalidObjectError((Problem("spec.sampling.server.image", server.image, message),))


def _require_same_model(new: Manifest, old: Manifest) -> None:
    """`Policy`'s one transition rule, which only an API can judge."""
    model, was = new["spec"]["policy"]["model"], old["spec"]["policy"]["model"]
    if model != was:
        rule = next(rule for rule in Policy.rules if rule.holds is None)
        raise InvalidObjectError((Problem("spec.policy.model", model, f"{rule.message} (it was {was})"),))
