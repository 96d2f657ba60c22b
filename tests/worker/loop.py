"""The stages of one iteration on tiny models, each fed by the one before; `train` is stood in for by another model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment_api import digests
from alignment_api.cycle import Comparison, GoldSet, HeldOutPrompts, Judge, Sampling
from alignment_api.evidence import Evidence
from alignment_api.judges import ComparisonJudge, RewardModel, Verifier
from alignment_api.stage import (
    CompareParameters,
    EvaluateParameters,
    Input,
    InputKind,
    JudgeParameters,
    PromoteParameters,
    SampleParameters,
    StageConfig,
)
from tests.worker import ingesting, stages, tiny
from tests.worker.stages import OWNER, Finished, an_input

VERIFIER = ComparisonJudge(verifier=Verifier())


@dataclass(frozen=True)
class Loop:
    """Configs of an iteration's stages in one folder of a store."""

    folder: Path
    policy: Path
    candidate: Path
    reward: Path

    def data(self, name: str, rows: list[dict[str, Any]]) -> Path:
        return tiny.write_rows(self.folder / "data" / f"{name}.jsonl", rows)

    def measured_on(self) -> dict[str, Input]:
        return {
            "goldSet": an_input(self.data("gold", tiny.gold_rows()), InputKind.GOLD_SET),
            "heldOutPrompts": an_input(
                self.data("heldout", tiny.held_out_rows()), InputKind.CHECKABLE_PROMPTS
            ),
        }

    def sample(self, prompts: list[dict[str, Any]] | None = None, **settings: Any) -> StageConfig:
        per_iteration = settings.pop("per_iteration", None)
        file = self.data("prompts", prompts or tiny.prompt_rows(9))
        sampling = Sampling(**{"completions_per_prompt": 4, "max_new_tokens": 12} | settings)
        inputs = {
            "policy": an_input(self.policy, InputKind.MODEL),
            "prompts": an_input(file, InputKind.PROMPTS),
            **self.measured_on(),
        }
        parameters = SampleParameters(sampling=sampling, per_iteration=per_iteration)
        return stages.config(self.folder / "sample", inputs, parameters)

    def judge(self, sampled: Finished, **settings: Any) -> StageConfig:
        model = RewardModel(uri=f"file://{self.reward}", batch_size=4)
        inputs = {
            "samples": an_input(self.folder / "sample", InputKind.STAGE, sampled.result.manifest.digest),
            "judge": an_input(self.reward, InputKind.REWARD_MODEL),
        }
        parameters = JudgeParameters(judge=Judge(reward_model=model, **settings))
        return stages.config(self.folder / "judge", inputs, parameters)

    def evaluate(self, *, initial: bool = False, temperature: float = 0, samples: int = 1) -> StageConfig:
        inputs = {
            "candidate": an_input(self.candidate, InputKind.MODEL, digests.of_folder(self.candidate)),
            "policy": an_input(self.policy, InputKind.MODEL),
            **self.measured_on(),
        }
        if initial:
            inputs["initial"] = an_input(self.policy, InputKind.MODEL)
        gold, held_out = inputs["goldSet"].uri, inputs["heldOutPrompts"].uri
        parameters = EvaluateParameters(
            gold_set=GoldSet(uri=gold, max_new_tokens=8, temperature=temperature, samples_per_item=samples),
            held_out_prompts=HeldOutPrompts(uri=held_out, max_new_tokens=12),
            temperature=1.0,
            top_p=1.0,
            confidence_percent=95,
        )
        return stages.config(self.folder / "evaluate", inputs, parameters)

    def compare(
        self, evaluated: Finished, judge: ComparisonJudge | None = VERIFIER, **settings: Any
    ) -> StageConfig:
        training_judge = Judge(reward_model=RewardModel(uri=f"file://{self.reward}"))
        inputs = {
            "answers": an_input(self.folder / "evaluate", InputKind.STAGE, evaluated.result.manifest.digest),
            "judge": an_input(self.reward, InputKind.REWARD_MODEL),
        }
        parameters = CompareParameters(
            comparison=Comparison(judge=judge, **{"min_comparisons": 5} | settings),
            judge=training_judge,
            min_percent=50,
            confidence_percent=95,
        )
        return stages.config(self.folder / "compare", inputs, parameters)

    def promote(self, **changed: Any) -> StageConfig:
        digest = digests.of_folder(self.candidate)
        known: dict[str, Any] = {
            "namespace": "default",
            "cycle": "tiny",
            "cycle_uid": OWNER,
            "iteration": 1,
            "spec": {},
            "incumbent_digest": digests.of_folder(self.policy),
            "candidate_uri": f"file://{self.candidate}",
            "candidate_digest": digest,
            "inputs": {},
            "stages": [],
            "gates": [],
        }
        evidence = Evidence(**known | {key: value for key, value in changed.items() if key in known})
        parameters = PromoteParameters(
            evidence=evidence,
            evidence_digest=changed.get("evidence_digest", evidence.digest()),
            cycle_prefix=f"file://{self.folder}",
        )
        inputs = {"candidate": an_input(self.candidate, InputKind.MODEL, digest)}
        return stages.config(self.folder / "promote", inputs, parameters)

    def ingest(self, rows: list[dict[str, Any]], number: int = 1) -> StageConfig:
        return ingesting.config(self.folder, {"people": self.data("people", rows)}, number)

    def run(self, config: StageConfig) -> Finished:
        return stages.run(self.folder / "jobs" / config.stage.value, config)
