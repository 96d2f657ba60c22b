"""Refreshes of a dataset whose sources are in a bucket, as their Job runs them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from alignment_api.judges import SecretReference
from alignment_api.sources import credentials_prefix
from alignment_api.stage import (
    IngestedFiles,
    IngestedLog,
    IngestedSource,
    IngestParameters,
    Input,
    InputKind,
    StageConfig,
)
from tests.buckets.server import KEYS
from tests.worker import stages
from tests.worker.stages import Finished

SECRET = SecretReference(name="buckets")


def pairs(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"prompt": f"p{n}", "chosen": f"good {n}", "rejected": f"bad {n}"}
        for n in range(start, start + count)
    ]


def lines(some: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in some)


@dataclass
class Dataset:
    """Each refresh goes on from the last that succeeded. `environment` is what the pod has of the Secret."""

    folder: Path
    patch: pytest.MonkeyPatch
    last: Finished | None = field(default=None)
    number: int = 0

    def reach(self, url: str, **variables: str) -> None:
        """Of every source's Secret; a variable that is empty is not in it."""
        given = {**KEYS, "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1", **variables}
        for index in range(3):
            for name, value in given.items():
                self.patch.setenv(f"{credentials_prefix(index)}{name}", value)

    def config(self, *uris: str, log: bool = False, secret: SecretReference | None = SECRET) -> StageConfig:
        """Of sources `a`, `b`, …"""
        sources, inputs = [], {}
        for name, uri in zip("abc", uris, strict=False):
            given = None if uri.startswith("file") else secret
            files = None if log else IngestedFiles(credentials_secret_ref=given)
            logged = IngestedLog(format="OpenAI", credentials_secret_ref=given) if log else None
            sources.append(IngestedSource(name=name, files=files, inference_log=logged))
            kind = InputKind.INFERENCE_LOG if log else InputKind.PAIRS
            inputs[f"source/{name}"] = Input(uri=uri, kind=kind)
        if self.last is not None:
            digest = self.last.result.manifest.digest
            inputs["base"] = stages.an_input(self.last.folder, InputKind.STAGE, digest)
        output = self.folder / "revisions" / str(self.number)
        return stages.config(output, inputs, IngestParameters(sources=sources), iteration=self.number)

    def run(self, made: StageConfig) -> Finished:
        done = stages.run(self.folder / "jobs", made)
        if done.code == 0:
            self.last = done
        return done

    def refresh(self, *uris: str, log: bool = False, secret: SecretReference | None = SECRET) -> Finished:
        self.number += 1
        return self.run(self.config(*uris, log=log, secret=secret))


def prompts(done: Finished) -> list[str]:
    return [row["prompt"] for row in done.rows("pairs.jsonl")]
