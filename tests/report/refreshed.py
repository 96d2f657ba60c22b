"""A dataset with two revisions, as its status tells of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.worker import tiny
from tests.worker.ingesting import Dataset

NAME = "feedback"


def revisions(folder: Path, embedding: Path | None = None) -> list[dict[str, Any]]:
    """Makes both, of which the second lacks p0, and has p3 and a labelled answer; their status with the URI's end."""
    dataset = Dataset(folder)
    some = tiny.pair_rows(4)
    thumb = {"prompt": "t", "completion": "said", "label": True}
    first = dataset.refresh(dataset.file("a.jsonl", some[:3]), embedding=embedding)
    second = dataset.refresh(
        dataset.file("a.jsonl", some[1:]), dataset.file("b.jsonl", [thumb]), embedding=embedding
    )
    return [
        {
            "number": number,
            "uri": str(number),
            "digest": done.result.manifest.digest,
            "sequence": done.result.counts["sequence"],
            "at": "2026-11-23T03:00:00Z",
        }
        for number, done in enumerate((first, second), 1)
    ]


def status(of: list[dict[str, Any]], prefix: str) -> dict[str, Any]:
    """With revisions below that URI."""
    first, second = ({**revision, "uri": f"{prefix}/{revision['uri']}"} for revision in of)
    return {"revision": second, "revisions": [first]}


def put(folder: Path, name: str, spec: dict[str, Any], status: dict[str, Any]) -> None:
    file = folder / ".alignment" / "objects" / "preferencedatasets" / "team" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"name": name, "namespace": "team", "uid": name, "resourceVersion": "1", "generation": 1}
    kind = {"apiVersion": "alignment.dev/v1alpha1", "kind": "PreferenceDataset"}
    file.write_text(json.dumps({**kind, "metadata": metadata, "spec": spec, "status": status}))


def told(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]
