"""The contract between operator and worker: what a stage gets, what it reports, how it exits.

A stage is `python -m alignment_worker STAGE --config FILE`. FILE holds a `StageConfig`; the container's
termination message holds a `StageReport` of at most `MAX_REPORT_BYTES`.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, ValidationError

from alignment_api import digests, packing, uris
from alignment_api.curation import Conflicts, FileFormat, FilterAction, LogFormat, OnPersonalData
from alignment_api.cycle import (
    Comparison,
    DatasetReference,
    GoldSet,
    HeldOutPrompts,
    Judge,
    Lora,
    PythonGrader,
    RewardTraining,
    Sampling,
    Training,
)
from alignment_api.evidence import Evidence
from alignment_api.judges import SecretKey, SecretReference
from alignment_api.measurements import Measurement
from alignment_api.model import Model
from alignment_api.prompts import Spread
from alignment_api.signature import Signature
from alignment_api.sources import LogJudge

CONTRACT_VERSION = 1
MAX_REPORT_BYTES = 2048
MAX_MESSAGE_LENGTH = 1200
DIVERGED_AT = "divergedAtStep"  # a count; `steps` is then the one that the model is from
STORE_FULL = "StoreFull"  # a failure's reason that is waited out, like an input that is missing


class Stage(StrEnum):
    """One step of an iteration, one Job; `ingest` is a PreferenceDataset's refresh. `collect` comes after both."""

    REWARD = "reward"
    SAMPLE = "sample"
    JUDGE = "judge"
    TRAIN = "train"
    EVALUATE = "evaluate"
    COMPARE = "compare"
    PROMOTE = "promote"
    COLLECT = "collect"
    INGEST = "ingest"


# What each stage must have done at least once to be done at all: a key of StageResult.counts.
WORK = {
    Stage.REWARD: "steps",
    Stage.SAMPLE: "completions",
    Stage.JUDGE: "judgements",
    Stage.TRAIN: "steps",
    Stage.EVALUATE: "answers",
    Stage.COMPARE: "comparisons",
    Stage.PROMOTE: "sealed",
    Stage.COLLECT: "folders",
    Stage.INGEST: "read",
}


class ExitCode(IntEnum):
    """64 to 79: the input or the spec is at fault, and no retry helps. Anything else unknown is retried."""

    DONE = 0
    INPUT_MISSING = 63  # not there yet: waits until pendingDeadlineSeconds
    INVALID_CONFIG = 64  # the StageConfig cannot be read, or contradicts itself
    INVALID_ROW = 65  # a row of a data file: no prompt, broken UTF-8, a gold item without answer
    INVALID_MODEL = 66  # no weights, pickled weights, no tokenizer, no chat template where one is needed
    DIGEST_MISMATCH = 67  # an input is not what the iteration froze
    NO_PROMPTS = 68  # nothing to sample on
    TOO_FEW_PAIRS = 69  # nothing to train on
    NO_WORK_DONE = 70  # a stage that trained, sampled or compared nothing
    TRAINING_DIVERGED = 71  # loss not finite
    TOO_MANY_CATEGORIES = 72  # more than 16, or a report that does not fit
    STORE_CONFLICT = 73  # another stage's manifest stands where this one's belongs
    JUDGE_STALE = 74  # a judge that people's labels do not show to be better than chance
    JUDGE_BUDGET_EXHAUSTED = 75  # an LLM judge has cost what spec.judge.llm.budget lets it
    JUDGE_REFUSED = 76  # an LLM judge's endpoint does not take the request: key, model, address
    JUDGE_UNUSABLE = 77  # an LLM judge whose replies say no preference too often
    CONTAMINATED = (
        78  # rows to train on hold gold or held-out prompts, and spec.gates.contamination forbids it
    )
    SIGNATURE_NOT_VERIFIED = 79  # a model's signature is missing, or not of spec.promotion.signature's keys

    @property
    def reason(self) -> str:
        """As conditions spell it: CamelCase."""
        return "".join(word.capitalize() for word in self.name.split("_"))

    @property
    def users_fault(self) -> bool:
        return 64 <= self <= 79


class InputKind(StrEnum):
    """What an input is, and so how it is checked and digested."""

    MODEL = "Model"  # folder of a causal language model with tokenizer; digest of the folder
    REWARD_MODEL = "RewardModel"  # folder of a sequence classifier with one label; digest of the folder
    EMBEDDING_MODEL = "EmbeddingModel"  # folder of a model whose states embed a text; digest of the folder
    FILTER_MODEL = "FilterModel"  # folder of a classifier or a causal language model; digest of the folder
    PROMPTS = "Prompts"  # file of rows with `prompt`; digest of the file
    CHECKABLE_PROMPTS = "CheckablePrompts"  # the same with `answer` and `grader`
    GOLD_SET = "GoldSet"  # the same with `answer`, `grader` and `category`
    PAIRS = "Pairs"  # files of a PreferenceDataset's source; digest of the file, or of all by name
    INFERENCE_LOG = "InferenceLog"  # files of such a source; digest of all by name
    STAGE = "Stage"  # folder of a finished stage; digest of its manifest.json


Digest = Annotated[str, StringConstraints(pattern=digests.PATTERN)]
Count = Annotated[int, Field(ge=0, le=2**53)]  # every JSON reader has it exactly
Key = Annotated[str, StringConstraints(max_length=128)]  # a role, a count, a measurement or a category


class Input(Model):
    """Something a stage reads. With a digest it is verified; without one it is checked, digested and reported."""

    uri: str
    kind: InputKind
    digest: Digest | None = None


class SampleParameters(Model):
    """Inputs: policy; prompts, or for each dataset prompts/NAME, its revision."""

    stage: Literal["sample"] = "sample"
    sampling: Sampling
    per_iteration: int | None = None
    spread: Spread | None = None


class RewardParameters(Model):
    """Inputs: backbone, dataset/NAME, goldSet, heldOutPrompts. Of `training` what spec.reward leaves to it."""

    stage: Literal["reward"] = "reward"
    reward: RewardTraining
    training: Training
    datasets: list[DatasetReference]
    confidence_percent: float
    refuse_leaked: bool = False  # as in TrainParameters


class JudgeParameters(Model):
    """Inputs: samples; judge if a reward model; dataset/NAME, whose pairs it is checked on, unless it is a verifier."""

    stage: Literal["judge"] = "judge"
    judge: Judge
    confidence_percent: float = 95.0


class OnlineParameters(Model):
    """What a method needs that samples while it trains."""

    sampling: Sampling
    judge: Judge
    per_iteration: int | None = None
    spread: Spread | None = None
    confidence_percent: float = 95.0


class TrainParameters(Model):
    """Inputs: start, reference, pairs (of the judge stage, unless offline), dataset/NAME.

    With `online`: start, reference, prompts or prompts/NAME; if the judge is a reward model, judge and dataset/NAME,
    whose pairs it is checked on.
    With `near_percent`: embedding, and prompts or prompts/NAME if there are any.
    """

    stage: Literal["train"] = "train"
    training: Training
    datasets: list[DatasetReference] = Field(default_factory=list)
    sampled_by: Digest | None = None  # of the model that the pairs were sampled from
    online: OnlineParameters | None = None
    near_percent: float | None = (
        None  # 100 times the cosine from which prompts are flagged as near-duplicates
    )
    refuse_leaked: bool = (
        False  # stop if a dataset's row holds a gold or held-out prompt, rather than leave it out
    )


class EvaluateParameters(Model):
    """Inputs: candidate, policy, goldSet, heldOutPrompts, and initial if a limit from M_0 is set.

    `divergence`: roles of the models from which the candidate's divergence is measured.
    """

    stage: Literal["evaluate"] = "evaluate"
    gold_set: GoldSet
    held_out_prompts: HeldOutPrompts
    temperature: float
    top_p: float
    confidence_percent: float
    divergence: list[Literal["policy", "initial"]] = Field(default_factory=list)


class CompareParameters(Model):
    """Inputs: answers (of the evaluate stage), judge and comparisonJudge if reward models; dataset/NAME, whose pairs a
    comparison judge is checked on."""

    stage: Literal["compare"] = "compare"
    comparison: Comparison
    judge: Judge | None = None
    min_percent: float
    confidence_percent: float
    level_percent: float | None = None  # of the win rate's test by e-values, where one is asked for


SIGNED_ROLES = ("policy", "initial", "start", "reference")  # inputs whose signatures are verified
SIGNED = "signed"  # a count of the stage promote


class PromoteParameters(Model):
    """Inputs: candidate, which is signed if the config has a signature; the count `signed` says so."""

    stage: Literal["promote"] = "promote"
    evidence: Evidence
    evidence_digest: Digest
    cycle_prefix: str


class KeptIterations(Model):
    """Of a cycle's iterations up to StageConfig.iteration, only these keep their artifacts."""

    cycle_prefix: str
    kept: list[int]
    keep_promoted: int  # so many of the newest in the ledger stay, whatever `kept` says


class KeptRevisions(Model):
    """Of a dataset's refreshes up to the one after which StageConfig.output is named, only these stay."""

    dataset_prefix: str
    kept: list[str]  # names of folders
    newest: int  # so many of the newest revisions in the store stay, whatever `kept` says


class CollectParameters(Model):
    """No inputs. Exactly one of both: a cycle's, or a dataset's."""

    stage: Literal["collect"] = "collect"
    iterations: KeptIterations | None = None
    revisions: KeptRevisions | None = None


class IngestedFiles(Model):
    """How the files of a source are read."""

    format: FileFormat = "Auto"
    columns: dict[str, str] = Field(default_factory=dict)
    credentials_secret_ref: SecretReference | None = None


class IngestedLog(Model):
    """How an inference log is read. An LLM's key is in the environment, as `sources.token_variable` names it."""

    format: LogFormat
    feedback: bool = True
    sample_percent: float = 100.0
    credentials_secret_ref: SecretReference | None = None
    judge: LogJudge | None = None


class IngestedFilter(Model):
    """Which answers are flagged, and what becomes of them."""

    flag_below: float
    action: FilterAction


class IngestedProject(Model):
    """A project of Label Studio; the token is in the environment, as `sources.token_variable` names it."""

    url: str
    project: int
    push_pairs: int = 0
    token_secret_ref: SecretKey


class IngestedSource(Model):
    """One source, of exactly one kind. Of a bucket, what its Secret has is in the environment, as
    `sources.credentials_prefix` names it."""

    name: str
    files: IngestedFiles | None = None
    inference_log: IngestedLog | None = None
    label_studio: IngestedProject | None = None

    @property
    def credentials(self) -> SecretReference | None:
        """The Secret for its bucket."""
        place = self.files or self.inference_log
        return place.credentials_secret_ref if place else None


class IngestParameters(Model):
    """Inputs: source/NAME; goldSet/N; base, the revision in force, whose ordinals are kept. Sources in their order.

    With the input embedding, prompts and answers are embedded; `similarity_percent`: near-duplicates are left out;
    `near_gold_percent`: prompts that are alike to those of goldSet/N are flagged.
    With `filter`: filter, the model. Of a log's judge: judge/NAME, its reward model, or verifier/NAME, its prompts.
    `judgements`: URI of the folder that keeps an LLM's replies from one refresh to the next.
    """

    stage: Literal["ingest"] = "ingest"
    sources: list[IngestedSource]
    conflicts: Conflicts = "Drop"
    max_pairs_per_source: int | None = None
    similarity_percent: float | None = None
    near_gold_percent: float | None = None
    filter: IngestedFilter | None = None
    judgements: str | None = None
    pii: OnPersonalData | None = None


Parameters = (
    RewardParameters
    | SampleParameters
    | JudgeParameters
    | TrainParameters
    | EvaluateParameters
    | CompareParameters
    | PromoteParameters
    | CollectParameters
    | IngestParameters
)


class Expected(Model):
    """What later stages need of the inputs. The first stage looks, so that nothing is computed in vain."""

    held_out_prompts: int = Field(
        0, description="At least so many rows: evaluation.comparison.minComparisons."
    )
    gold_categories: list[Key] = Field([], description="Categories that gates.goldSet.categories names.")
    lora: Lora | None = Field(None, description="Adapters that fit the policy: training.lora.")
    python_grader: bool = Field(
        False, description="Whether rows may have the grader Python: evaluation.pythonGrader."
    )
    max_length: int | None = Field(
        None, description="Tokens that hold a prompt and more: training.maxLength."
    )
    clusters: bool | None = Field(
        None, description="Whether datasets' prompts must be in clusters: prompts.spread."
    )


class StageConfig(Model):
    """Everything that a stage needs to know; equal configs compute equal things."""

    contract_version: int = CONTRACT_VERSION
    stage: Stage
    owner_uid: str
    iteration: int
    output: str = Field(description="URI of the stage's own folder in the store.")
    inputs: dict[str, Input]
    expected: Expected | None = None
    parameters: Annotated[Parameters, Field(discriminator="stage")]
    python_grader: PythonGrader | None = None  # where the stage may run what the model wrote
    signature: Signature | None = None  # promote: sign with it; others: the policy's line must carry one
    seed: int

    @property
    def shards(self) -> int:
        """Pods that each do a part of the stage for themselves."""
        return self.parameters.sampling.shards if isinstance(self.parameters, SampleParameters) else 1

    @property
    def nodes(self) -> int:
        """Pods that compute the stage together, or not at all."""
        return self.parameters.training.nodes if isinstance(self.parameters, TrainParameters) else 1


class Located(Model):
    """Something in the store, bound to its content."""

    uri: str = Field(max_length=uris.MAX_STORED_LENGTH, description="Where it is.")
    digest: Digest = Field(description="Of its content.")


class StageResult(Model):
    """What a finished stage reports."""

    manifest: Located = Field(description="The stage's folder and the digest of its manifest.json.")
    inputs: dict[Key, Digest] = Field(
        {}, max_length=64, description="Digests of the inputs that came without one."
    )
    model: Located | None = Field(
        None,
        description="The model that it trained (reward; train: the candidate) or measured (evaluate, compare).",
    )
    counts: dict[Key, Count] = Field(
        {}, max_length=128, description="Work really done: prompts, pairs, steps, comparisons."
    )
    measurements: dict[Key, Measurement] = Field(
        {}, max_length=32, description="By the names in measurements.py."
    )
    by_category: dict[Key, Annotated[dict[Key, Measurement], Field(max_length=16)]] = Field(
        {},
        max_length=32,
        description="The same, for each category of prompts or rows that name one; of `ingest`, for each source whose "
        "judge was checked.",
    )


class StageFailure(Model):
    """Why a stage stopped."""

    reason: Annotated[str, StringConstraints(max_length=128)] = Field(
        description="CamelCase, as ExitCode.reason, or Interrupted, StoreFull, Crashed."
    )
    message: Annotated[str, StringConstraints(max_length=MAX_MESSAGE_LENGTH)] = Field(
        description="For the user: where, what, and what to do."
    )


class ReportTooLargeError(ValueError):
    """A report that does not fit the termination message even when compressed."""


class StageReport(Model):
    """The termination message: exactly one of result, failure and part."""

    contract_version: int = CONTRACT_VERSION
    result: StageResult | None = None
    failure: StageFailure | None = None
    part: int | None = None  # its index: this pod's part is done, and another pod reports the whole

    def encode(self) -> str:
        """JSON of at most MAX_REPORT_BYTES; packed where it would be longer. Raises ReportTooLargeError.

        Numbers keep four significant digits, or eleven bits when packed.
        """
        wire = self.to_wire()
        text = packing.plain(wire)
        if len(text.encode()) <= MAX_REPORT_BYTES:
            return text
        text = packing.packed(wire)
        if len(text) > MAX_REPORT_BYTES:
            raise ReportTooLargeError(f"the report needs {len(text)} bytes; the limit is {MAX_REPORT_BYTES}")
        return text

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises ValueError if the text is not a report of this contract version."""
        try:
            report = cls.from_wire(packing.unpacked(text))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"not a stage report: {where or 'all of it'}: {first['msg']}") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not a stage report: {error}") from error
        said = (report.result, report.failure, report.part)
        if report.contract_version != CONTRACT_VERSION or sum(each is not None for each in said) != 1:
            raise ValueError(f"not a stage report of contract version {CONTRACT_VERSION}")
        return report
