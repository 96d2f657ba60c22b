"""Inference logs as a test writes them, and refreshes of a dataset that reads one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment_api.sources import LogJudge
from alignment_api.stage import (
    IngestedFiles,
    IngestedFilter,
    IngestedLog,
    IngestedSource,
    IngestParameters,
    Input,
    InputKind,
)
from tests.worker import stages, tiny
from tests.worker.stages import Finished, an_input


def answered(
    prompt: str, *answers: str, minute: int = 0, digests: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Answers to one prompt, each to somebody else, so that nothing says which is better."""
    return [
        {
            "kind": "chat",
            "id": f"{prompt}/{number}",
            "at": f"2026-11-23T09:{minute:02}:{number:02}.000Z",
            "digest": digests[number] if digests else None,
            "request": {"messages": [{"role": "user", "content": prompt}], "user": f"{prompt}/{number}"},
            "response": {
                "choices": [{"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]
            },
        }
        for number, answer in enumerate(answers)
    ]


def said(prompt: str, number: int, **what: str) -> dict[str, Any]:
    """Feedback on that answer to the prompt."""
    return {"kind": "feedback", "id": f"{prompt}/{number}", "at": "2026-11-23T10:00:00.000Z", **what}


@dataclass
class LoggedDataset:
    """A log, its judge, and files of what people said; each refresh goes on from the last that succeeded."""

    folder: Path
    last: Finished | None = None
    number: int = 0

    def log(self, *records: dict[str, Any], name: str = "a.jsonl") -> None:
        tiny.write_rows(self.folder / "log" / name, records)

    def people(self, rows: list[dict[str, Any]]) -> None:
        tiny.write_rows(self.folder / "people.jsonl", rows)

    def refresh(
        self,
        judge: dict[str, Any] | None = None,
        model: Path | None = None,
        *,
        filter_model: Path | None = None,
        flag_below: float = 0.5,
        action: Any = "Label",
        keep: bool = True,
        **parameters: Any,
    ) -> Finished:
        """`model`: a reward model as judge, `filter_model` the filter's. `keep`: what succeeds is gone on from."""
        config = self.config(judge, model, filter_model, flag_below, action, **parameters)
        done = stages.run(self.folder / "jobs", config)
        if done.code == 0 and keep:
            self.last = done
        return done

    def config(
        self,
        judge: dict[str, Any] | None,
        model: Path | None = None,
        filter_model: Path | None = None,
        flag_below: float = 0.5,
        action: Any = "Label",
        **parameters: Any,
    ) -> Any:
        self.number += 1
        inputs: dict[str, Input] = {}
        sources = [
            IngestedSource(
                name="production",
                inference_log=IngestedLog(
                    format="OpenAI", judge=LogJudge.from_wire(judge) if judge is not None else None
                ),
            )
        ]
        inputs["source/production"] = an_input(self.folder / "log", InputKind.INFERENCE_LOG)
        if (self.folder / "people.jsonl").exists():
            sources.append(IngestedSource(name="people", files=IngestedFiles()))
            inputs["source/people"] = an_input(self.folder / "people.jsonl", InputKind.PAIRS)
        if model is not None:
            inputs["judge/production"] = an_input(model, InputKind.REWARD_MODEL)
        if (self.folder / "known.jsonl").exists():
            inputs["verifier/production"] = an_input(self.folder / "known.jsonl", InputKind.CHECKABLE_PROMPTS)
        if filter_model is not None:
            inputs["filter"] = an_input(filter_model, InputKind.FILTER_MODEL)
            parameters["filter"] = IngestedFilter(flag_below=flag_below, action=action)
        if (self.folder / "gold.jsonl").exists():
            inputs["goldSet/0"] = an_input(self.folder / "gold.jsonl", InputKind.PROMPTS)
        if self.last is not None:
            inputs["base"] = an_input(self.last.folder, InputKind.STAGE, self.last.result.manifest.digest)
        made = IngestParameters(
            sources=sources, judgements=f"file://{self.folder / 'judgements'}", **parameters
        )
        output = self.folder / "revisions" / str(self.number)
        return stages.config(output, inputs, made, iteration=self.number)

    @property
    def journal(self) -> list[dict[str, Any]]:
        file = self.folder / "judgements" / "production.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]


def judged(done: Finished) -> list[tuple[str, str, str]]:
    """Prompt, chosen and rejected answer of the pairs that the judge made."""
    return sorted(
        (row["prompt"][0]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"])
        for row in done.rows("pairs.jsonl")
        if row.get("labelled_by") == "judge"
    )
