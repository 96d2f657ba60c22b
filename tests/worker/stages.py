"""Stages as a Job runs them: a config file, a command line, an exit code and a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment_api.stage import Input, InputKind, StageConfig, StageFailure, StageReport, StageResult
from alignment_worker.main import main

OWNER = "2f6a0c58-8c1e-4d3e-9a51-000000000001"


@dataclass(frozen=True)
class Finished:
    """How a stage ended."""

    code: int
    report: StageReport
    report_bytes: int
    folder: Path

    @property
    def result(self) -> StageResult:
        assert self.report.result is not None, self.report.failure
        return self.report.result

    @property
    def failure(self) -> StageFailure:
        assert self.report.failure is not None, self.report.result
        return self.report.failure

    def rows(self, name: str) -> list[dict[str, Any]]:
        manifest = json.loads((self.folder / "manifest.json").read_bytes())
        with (self.folder / manifest["run"] / name).open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]


def an_input(path: Path, kind: InputKind, digest: str | None = None) -> Input:
    return Input(uri=f"file://{path}", kind=kind, digest=digest)


def config(
    output: Path, inputs: Mapping[str, Input], parameters: Any, *, seed: int = 1, iteration: int = 1
) -> StageConfig:
    return StageConfig(
        stage=parameters.stage,
        owner_uid=OWNER,
        iteration=iteration,
        output=f"file://{output}",
        inputs=dict(inputs),
        parameters=parameters,
        seed=seed,
    )


def argv(job: Path, made: StageConfig) -> list[str]:
    """Write the config into the job's folder; the words that run it."""
    job.mkdir(parents=True, exist_ok=True)
    (job / "stage.json").write_text(json.dumps(made.to_wire()))
    return [
        made.stage.value,
        *("--config", str(job / "stage.json")),
        *("--report", str(job / "report")),
        *("--progress", str(job / "progress.json")),
    ]


def finished(job: Path, made: StageConfig, code: int) -> Finished:
    text = (job / "report").read_text()
    return Finished(
        code, StageReport.decode(text), len(text.encode()), Path(made.output.removeprefix("file://"))
    )


def run(job: Path, made: StageConfig) -> Finished:
    """In this process."""
    return finished(job, made, main(argv(job, made)))
