"""Iterations that the planner's world decided, with artifacts of theirs in a folder, as the worker seals them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignment_api.cycle_status import AlignmentCycleStatus
from alignment_api.iteration_report import ReportConfig
from alignment_api.stage import Stage, StageResult
from alignment_operator.explain.account import of_the_last, report_config
from alignment_operator.observed import Owner
from alignment_worker import rows
from alignment_worker.iteration_report.__main__ import answer
from alignment_worker.store import Outcome, Places, StageFolder
from tests.operator.plan_world import World

Row = dict[str, Any]
PLAIN = "The answer is 4. It could hardly be more."
CLAIM = "models"


def answers(count: int = 12, text: Callable[[int], str] = lambda index: f"{PLAIN} {index}") -> list[Row]:
    """A row for each held-out prompt, as `evaluate` keeps them; every third candidate's answer is longer."""

    def side(index: int, longer: int) -> Row:
        ids = list(range(4 + index % 5 + longer))
        return {"ids": ids, "text": text(index), "truncated": False, "entropy": 0.4, "dependence": 1.0}

    return [
        {
            "prompt": [{"role": "user", "content": f"What is 2 plus {index}? {text(index)}"}],
            "category": "reasoning" if index % 2 else "facts",
            "line": index + 1,
            "candidate": side(index, 6 if index % 3 == 0 else 0),
            "incumbent": {**side(index, 0), "text": "I would guess 4."},
        }
        for index in range(count)
    ]


def comparisons(said: Sequence[Row]) -> list[Row]:
    """Of ten, seven are won, one is a tie and two are lost."""
    found = []
    for index, row in enumerate(said):
        won = 1.0 if index % 10 < 7 else 0.5 if index % 10 == 7 else 0.0
        reward = {"candidate": index % 7 + won, "incumbent": float(index % 7), "won": won or 1.0}
        scores = {"candidate": won, "incumbent": 1 - won, "won": won}
        longer = len(row["candidate"]["ids"]) > 1.2 * len(row["incumbent"]["ids"])
        found.append({"line": row["line"], **scores, "longer": longer, "reward": reward})
    return found


def gold(count: int = 20, text: Callable[[int], str] = lambda index: f"{PLAIN} {index}") -> list[Row]:
    """Every fifth item is forgotten, every seventh learned."""
    return [
        {
            "prompt": f"How much is {index} plus 1? {text(index)}",
            "answer": str(index + 1),
            "grader": "Numeric",
            "category": "reasoning",
            "line": index + 1,
            "candidate": {"texts": [text(index)], "right": [index % 5 != 0]},
            "incumbent": {"texts": ["I would guess so."], "right": [index % 7 != 0 or index == 0]},
        }
        for index in range(count)
    ]


def training_log(steps: int = 30) -> list[Row]:
    return [
        {
            "step": step,
            "loss": 0.7 - step / 100,
            "rewardMargin": step / 50,
            "rewardAccuracy": 0.5 + step / 100,
        }
        for step in range(1, steps + 1)
    ]


def files(
    text: Callable[[int], str] = lambda index: f"{PLAIN} {index}", count: int = 12
) -> dict[str, list[Row]]:
    """By stage and file, what the report reads."""
    said = answers(count, text)
    return {
        "evaluate/answers.jsonl": said,
        "evaluate/gold.jsonl": gold(20, text),
        "compare/comparisons.jsonl": comparisons(said),
        "train/training-log.jsonl": training_log(),
    }


@dataclass
class Stored:
    """`folder` stands for the claim of the store."""

    folder: Path
    world: World = field(default_factory=lambda: World(annotations={"alignment.dev/run": "1"}))

    def settle(self, artifacts: dict[str, list[Row]] | None = None) -> Stored:
        """To the end of the iteration, or until a person is asked; then its artifacts are there."""
        self.world.settle()
        return self.seal(artifacts)

    def seal(self, artifacts: dict[str, list[Row]] | None = None) -> Stored:
        """Artifacts of every stage that has a result, and status with the digests of their manifests."""
        for entry in self.world.iteration["stages"]:
            if "result" in entry:
                result = StageResult.from_wire(entry["result"])
                mine = {
                    name: value
                    for name, value in (artifacts or files()).items()
                    if name.startswith(entry["name"])
                }
                sealed = self._sealed(Stage(entry["name"]), result, mine)
                entry["result"] = sealed.to_wire()
        return self

    def _sealed(self, stage: Stage, result: StageResult, artifacts: dict[str, list[Row]]) -> StageResult:
        configs = (job.config for job in self.world.jobs.values())
        config = next(config for config in configs if config.output == result.manifest.uri)
        folder = StageFolder(self.path(stage), config, "0" * 64)
        with folder.run() as run:
            for name, content in artifacts.items():
                rows.write(run / name.partition("/")[2], content)
            outcome = Outcome(result.counts, result.measurements, result.by_category, result.model)
            return folder.seal(run, outcome, result.inputs)

    @property
    def number(self) -> int:
        number: int = self.world.iteration["number"]
        return number

    @property
    def iterations(self) -> Path:
        return self.folder / "cycles" / "team" / "support" / "uid-1" / "iterations"

    def path(self, stage: Stage) -> Path:
        return self.iterations / str(self.number) / stage.value

    def config(self) -> ReportConfig:
        status = AlignmentCycleStatus.of(self.world.status)
        assert status.iteration is not None
        account = of_the_last(status.iteration, self.world.frozen.get(status.iteration.number))
        owner = Owner("team", "support", "uid-1", 1, "1", {})
        spec = self.world.spec
        return report_config(
            owner, status, account, spec, "alignctl approve support", "alignctl reject support"
        )

    def places(self) -> Places:
        return Places({CLAIM: self.folder})

    def html(self) -> str:
        return answer(json.dumps(self.config().to_wire()).encode(), self.places()).decode()
