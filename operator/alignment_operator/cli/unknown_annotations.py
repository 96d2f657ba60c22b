"""Annotations of our group that nobody would act on: a verb that is misspelt, or that the kind does not know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from alignment_api import names, wording
from alignment_api.model import GROUP
from alignment_api.validation import Problem

_VERBS = {names.CYCLE_KIND: names.VERBS, names.DATASET_KIND: ("run",)}


def problems(manifest: Any) -> Iterator[Problem]:
    """Of a document of any form; none for what is not ours."""
    metadata = manifest.get("metadata") if isinstance(manifest, dict) else None
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    verbs = _VERBS.get(str(manifest.get("kind"))) if isinstance(manifest, dict) else None
    if not verbs or not isinstance(annotations, dict):
        return
    for key, value in annotations.items():
        group, _, verb = str(key).partition("/")
        if group == GROUP and verb not in verbs:
            message = wording.suggestion(verb, verbs, f"is not an annotation of {GROUP} here", "annotations")
            yield Problem(f'metadata.annotations["{key}"]', json.dumps(value, default=str), message)
