"""The spec of `AlignmentCycle`: what a user writes. The status is in `cycle_status.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, StringConstraints, WithJsonSchema

from alignment_api import names, trainer_arguments
from alignment_api.judges import ComparisonJudge, Uri, trained_here
from alignment_api.model import ListMap, Model, Rule
from alignment_api.pods import EnvironmentVariable, PodDefaults, PodSettings, Resources
from alignment_api.ppo import PPO, SPEC_RULES, TRAINING_RULES
from alignment_api.prompts import PROMPTS_RULES, Prompts
from alignment_api.signature import Signature
from alignment_api.trigger import Trigger

ObjectName = Annotated[str, StringConstraints(pattern=names.NAME_PATTERN, max_length=63)]
Percent = Annotated[float, Field(ge=0, le=100)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Whose = Literal["Previous", "Initial"]
Method = Literal["DPO", "IPO", "KTO", "BestOfN", "PPO"]
Scalar = Annotated[
    bool | int | float | str,
    PlainValidator(trainer_arguments.scalar),
    WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True}),  # a structural schema has no unions
]
StageWithSettings = Literal["reward", "sample", "judge", "train", "evaluate", "compare", "promote"]
MAX_SHARDS = 32
MAX_NODES = 64


class Policy(Model):
    """The model being aligned."""

    model: Uri = Field(description="M_0, the model that the cycle starts from. It cannot be changed later.")
    reference: Whose = Field(
        "Previous", description="What the KL term anchors to. Previous: the incumbent. Initial: M_0."
    )
    start: Whose = Field(
        "Previous", description="Where training starts from. Previous: the incumbent. Initial: M_0."
    )

    rules = (
        Rule(
            "self.model == oldSelf.model",
            "is immutable; make another cycle for another model",
            ".model",
            None,
        ),
    )


class Store(Model):
    """Where artifacts live."""

    uri: Uri = Field(
        description="Folder for artifacts. Each object has its own below it, NAMESPACE/NAME/UID/, and shares it "
        "with no other."
    )


class DatasetReference(Model):
    """A PreferenceDataset of this namespace whose pairs are trained on."""

    name: ObjectName = Field(description="The PreferenceDataset's name.")
    weight: float | None = Field(
        None, gt=0, le=1000, description="Pairs drawn for each pair that was sampled. Absent: up to maxPairs."
    )
    max_pairs: int | None = Field(None, ge=1, description="Most pairs of it in one iteration. Absent: all.")


class SamplingServer(Model):
    """A server of OpenAI's completions that takes and returns token ids, such as vLLM (docs/sampling-server.md)."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(
        description="The server's image. Its entrypoint is run."
    )
    args: list[Annotated[str, StringConstraints(max_length=4096)]] | None = Field(
        None,
        max_length=64,
        description="Further arguments, behind those that vLLM needs; all of them, if one holds $(MODEL).",
    )
    resources: Resources | None = Field(
        None,
        description="Requests and limits of the server's container. The worker then gets no accelerator.",
    )
    env: list[EnvironmentVariable] | None = Field(
        None, max_length=64, description="Further environment variables of the server."
    )


class Sampling(Model):
    """How completions are sampled from the incumbent."""

    completions_per_prompt: int = Field(4, ge=2, le=64, description="N, the completions of one prompt.")
    temperature: float = Field(1.0, gt=0, le=10, description="Softmax temperature.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="Nucleus: the least set of tokens with this probability."
    )
    max_new_tokens: int = Field(512, ge=1, le=131_072, description="Longest completion, in tokens.")
    seed: Seed | None = Field(None, description="Absent: from the iteration number.")
    shards: int = Field(
        1, ge=1, le=MAX_SHARDS, description="Pods that sample side by side, each its part of the prompts."
    )
    server: SamplingServer | None = Field(
        None, description="What samples, beside the worker in its pod. Absent: transformers, in the worker."
    )


class LengthPenalty(Model):
    """What an answer's length costs its score, before pairs are made (docs/judges.md)."""

    type: Literal["None", "Linear", "Residual"] = Field(
        "None",
        description="Linear: score − coefficient × tokens. Residual: the score less its own within-prompt slope on "
        "length.",
    )
    coefficient: float | None = Field(None, gt=0, le=1e6, description="Score a token; Linear alone.")

    rules = (
        Rule(
            cel="(has(self.type) && self.type == 'Linear') == has(self.coefficient)",
            message="is what Linear takes a token, and no other type has one",
            field_path=".coefficient",
            holds=lambda penalty: (penalty.type == "Linear") == (penalty.coefficient is not None),
        ),
    )


class Judge(ComparisonJudge):
    """What ranks the sampled completions, and how pairs are made of the ranking."""

    pairs: Literal["BestWorst", "BestRandom", "AllPairs"] = Field(
        "BestWorst",
        description="Which pairs of one prompt are kept; of equally good answers the shorter is chosen.",
    )
    min_margin: float = Field(
        0.0, ge=0, description="Pairs whose scores are closer than this are dropped and counted."
    )
    length_penalty: LengthPenalty | None = Field(None, description="Absent: length costs nothing.")
    short_correct_percent: float = Field(
        0.0,
        ge=0,
        le=90,
        description="At least this share of pairs prefers the shorter of two correct answers, if there are so many. Of "
        "prompts with `answer` and `grader`.",
    )


class RewardTraining(Model):
    """A reward model, trained on the pairs of spec.datasets before anything is sampled (docs/reward-model.md).

    What is not said here is said by spec.training: batch, maxLength, precision, checkpoints, seed.
    """

    model: Uri = Field(
        description="Backbone: a causal language model, or a sequence classifier with one label."
    )
    epochs: int = Field(1, ge=1, le=1000, description="Passes over the pairs.")
    learning_rate: float = Field(1e-5, gt=0, le=1, description="At the first step; it falls linearly to 0.")
    min_pairs: int = Field(
        2000,
        ge=2,
        le=1_000_000_000,
        description="Fewer usable pairs: the stage fails with reason TooFewPairs.",
    )


class Lora(Model):
    """Low-rank adapters instead of full fine-tuning."""

    rank: int = Field(16, ge=1, le=1024, description="Rank of the update.")
    alpha: int = Field(32, ge=1, le=4096, description="Scale: the update is multiplied by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapters' input.")
    target_modules: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        "all-linear", description="`all-linear`, or a comma-separated list of module names."
    )


class Training(Model):
    """How the candidate is trained."""

    method: Method = Field(
        "DPO", description="The training method; docs/methods.md says when to choose which."
    )
    beta: float | None = Field(
        None,
        gt=0,
        le=100,
        description="KL strength: larger stays closer to the reference. Absent: 0.1 for DPO, KTO and PPO, 1 for IPO. "
        "BestOfN has none.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Absent: 5e-7 for DPO, IPO and KTO, 1e-5 for BestOfN, 1e-6 for PPO; with LoRA 20 times that.",
    )
    epochs: int = Field(1, ge=1, le=1000, description="Passes over the pairs.")
    per_device_batch_size: int = Field(
        4, ge=1, le=4096, description="Pairs in memory at once; rows for KTO, answers for BestOfN and PPO."
    )
    gradient_accumulation_steps: int = Field(8, ge=1, le=4096, description="Batches summed into one step.")
    max_length: int = Field(
        1024,
        ge=2,
        le=1_048_576,
        description="Tokens of prompt and completion; a longer pair is dropped and counted.",
    )
    lora: Lora | None = Field(None, description="Absent: full fine-tuning.")
    precision: Literal["Auto", "BF16", "FP16", "FP32"] = Field(
        "Auto",
        description="Precision of the computation; master weights are FP32. Auto: what is fastest here.",
    )
    checkpoint_every_steps: int = Field(
        50, ge=1, description="A resumable checkpoint is written after this many steps."
    )
    seed: Seed = Field(0, description="Seed of data order and dropout.")
    nodes: int = Field(
        1,
        ge=1,
        le=MAX_NODES,
        description="Pods that train one model together. The batch of a step is perDeviceBatchSize × "
        "gradientAccumulationSteps × the processes of all nodes.",
    )
    processes_per_node: int | None = Field(
        None, ge=1, le=64, description="Absent: one for each GPU that the pod sees, or one."
    )
    sharding: Literal["None", "FSDP", "ZeRO3"] = Field(
        "None",
        description="FSDP, ZeRO3: weights, gradients and optimizer are divided among the processes, by PyTorch or by "
        "DeepSpeed. None: each has all.",
    )
    arguments: Annotated[dict[str, Scalar], Field(max_length=trainer_arguments.MOST)] | None = Field(
        None,
        description="Further settings of the method's trainer, by the trainer's own names (docs/methods.md lists "
        "them): numbers, true or false, text. One that is a field of ours is refused.",
    )
    ppo: PPO | None = Field(None, description="Method PPO alone. Absent: its defaults.")

    rules = (
        *TRAINING_RULES,
        Rule(
            cel="!has(self.method) || self.method != 'BestOfN' || !has(self.beta)",
            message="is of no use to BestOfN, which anchors to no reference; leave it out",
            field_path=".beta",
            holds=lambda training: training.method != "BestOfN" or training.beta is None,
        ),
        Rule(
            cel="!has(self.method) || self.method != 'KTO' || self.perDeviceBatchSize != 1",
            message="must be at least 2 for KTO, which estimates its KL within a batch",
            field_path=".perDeviceBatchSize",
            holds=lambda training: training.method != "KTO" or training.per_device_batch_size > 1,
        ),
        Rule(
            cel="!has(self.sharding) || self.sharding == 'None' || self.nodes > 1 || "
            "!has(self.processesPerNode) || self.processesPerNode > 1",
            message="divides a model among processes, and there is one; raise nodes or processesPerNode, or write None",
            field_path=".sharding",
            holds=lambda training: (
                training.sharding == "None" or training.nodes > 1 or training.processes_per_node != 1
            ),
        ),
        Rule(
            cel="!has(self.sharding) || self.sharding == 'None' || self.precision != 'FP16'",
            message="must not be FP16 with sharding; write Auto, BF16 or FP32",
            field_path=".precision",
            holds=lambda training: training.sharding == "None" or training.precision != "FP16",
        ),
    )

    def further_problems(self) -> Iterator[tuple[str, str]]:
        """Of `arguments`, by their trainer."""
        arguments = self.arguments or {}
        for name, value in arguments.items():
            problem = trainer_arguments.problem(self.method, name, value)
            problem = problem or trainer_arguments.problem_divided(self.sharding, name, value)
            if problem:
                yield f".arguments.{name}", problem
        name, problem = trainer_arguments.problem_together(arguments)
        if problem:
            yield f".arguments.{name}", problem


class GoldSet(Model):
    """Prompts with checkable answers, by category; never trained on."""

    uri: Uri = Field(
        description="JSON Lines or Parquet with `prompt`, `answer`, `category` (at most 16) and `grader`: Exact, "
        "Numeric, Choice, Regex or Python (docs/data.md)."
    )
    temperature: float = Field(0.0, ge=0, le=10, description="0: greedy.")
    samples_per_item: int = Field(1, ge=1, le=64, description="Answers sampled of each item.")
    max_new_tokens: int = Field(256, ge=1, le=131_072, description="Longest answer, in tokens.")

    rules = (
        Rule(
            cel="self.samplesPerItem == 1 || self.temperature > 0.0",
            message="must be 1 when temperature is 0: greedy answers are all the same",
            field_path=".samplesPerItem",
            holds=lambda gold: gold.samples_per_item == 1 or gold.temperature > 0,
        ),
    )


class HeldOutPrompts(Model):
    """Prompts for length, diversity and the head-to-head comparison; never trained on."""

    uri: Uri = Field(
        description="JSON Lines or Parquet with `prompt`, and `category` (at most 16) if there is one. With a "
        "verifier in comparison.judge or spec.judge, `answer` and `grader` too (docs/data.md)."
    )
    max_new_tokens: int = Field(
        1024,
        ge=1,
        le=131_072,
        description="Longest answer, in tokens; at least four times the incumbent's 95th percentile.",
    )


class Comparison(Model):
    """The head-to-head comparison of candidate and incumbent."""

    judge: ComparisonJudge | None = Field(
        None, description="Absent: spec.judge. A different judge is what makes a win mean something."
    )
    min_comparisons: int = Field(100, ge=1, le=1_000_000, description="Fewer decide nothing.")
    max_comparisons: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="After these it is inconclusive; one comparison is one held-out prompt.",
    )

    rules = (
        Rule(
            cel="self.minComparisons <= self.maxComparisons",
            message="must be at most maxComparisons",
            field_path=".minComparisons",
            holds=lambda comparison: comparison.min_comparisons <= comparison.max_comparisons,
        ),
    )


class PythonGrader(Model):
    """A container that runs model-written code against test programs (docs/python-grader.md)."""

    resources: Resources | None = Field(
        None, description="Requests and limits of this container. Absent: 1 CPU and 1Gi of memory."
    )


class Evaluation(Model):
    """What an iteration measures."""

    gold_set: GoldSet = Field(description="What the candidate must not forget.")
    held_out_prompts: HeldOutPrompts = Field(
        description="What length, diversity and comparison are measured on."
    )
    comparison: Comparison | None = Field(
        None, description="Absent: no comparison, and no gate that needs one."
    )
    python_grader: PythonGrader | None = Field(
        None, description="For rows with the grader Python. Absent: there must be none."
    )
    confidence_percent: float = Field(
        95.0, ge=50, lt=100, description="Confidence of every test and interval of an iteration."
    )


class GoldCategory(Model):
    """A limit of one category's own."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=63)] = Field(description="The category.")
    max_drop_points: Percent = Field(description="Its limit, in percentage points.")


class GoldSetGate(Model):
    """Did the candidate forget anything?"""

    mode: Literal["NoHarm", "NonInferior"] = Field(
        "NoHarm",
        description="NoHarm: fails on a drop that is shown. NonInferior: passes only if a drop is ruled out.",
    )
    max_drop_points: Percent = Field(2.0, description="Largest drop of any category, in percentage points.")
    max_drop_from_initial_points: Percent | None = Field(
        None, description="The same against M_0, so that small drops cannot add up."
    )
    max_undetected_drop_points: Percent = Field(
        10.0, description="NoHarm: a gold set too small to notice such a drop is inconclusive."
    )
    categories: Annotated[list[GoldCategory], Field(max_length=16), ListMap("name")] | None = Field(
        None, description="Limits by category."
    )

    def max_drop_of(self, category: str) -> float:
        """Its own limit against the incumbent, or the one of all."""
        own = {each.name: each.max_drop_points for each in self.categories or []}
        return own.get(category, self.max_drop_points)


class LengthDriftGate(Model):
    """Are answers getting longer, or much shorter?"""

    max_increase_percent: float = Field(
        30.0, ge=0, le=10_000, description="Largest growth of the answers' tokens, against the incumbent."
    )
    max_increase_from_initial_percent: float | None = Field(
        None, ge=0, le=10_000, description="The same against M_0, so that small growths cannot add up."
    )
    max_decrease_percent: float | None = Field(
        None, ge=0, lt=100, description="Largest shrinking, against the incumbent."
    )


class CollapseGate(Model):
    """Are answers becoming canned?"""

    max_distinct_drop_percent: Percent = Field(
        30.0, description="Largest relative drop of distinct-2 across answers, against the incumbent."
    )
    max_distinct_drop_from_initial_percent: Percent | None = Field(None, description="The same against M_0.")


class DivergenceGate(Model):
    """Is the candidate still near the model that it came from, and another one at all?"""

    max_nats_per_token: float = Field(
        0.1,
        gt=0,
        le=100,
        description="Largest KL divergence from the incumbent, on the candidate's own answers.",
    )
    max_nats_per_token_from_initial: float | None = Field(
        None, gt=0, le=100, description="The same from M_0, so that small steps cannot add up."
    )


class WinRateGate(Model):
    """Is the candidate preferred to the incumbent?"""

    min_percent: float = Field(50.0, ge=0, lt=100, description="What the win rate's lower bound must exceed.")
    false_discovery_percent: float | None = Field(
        None,
        gt=0,
        le=50,
        description="Of the candidates since M_0 that this gate passes, at most this share is expected not to be "
        "preferred: the more are tested, the more it takes. Absent: each is tested by itself.",
    )


class RewardHackingGate(Model):
    """Does the training judge's win come without any gain that counts?"""


class Embedding(Model):
    """A model that tells how much two prompts are alike."""

    model: Uri = Field(description="Folder with the model, its tokenizer and safetensors weights.")
    min_similarity_percent: float = Field(
        90.0, ge=0, le=100, description="Prompts as alike as that are flagged: 100 times the cosine."
    )


class ContaminationGate(Model):
    """Are gold or held-out prompts in what is trained on?"""

    action: Literal["Exclude", "Fail"] = Field(
        "Exclude",
        description="They are left out of training, and counted, in any case. Fail: the iteration is refused too, by "
        "the first stage that finds one.",
    )
    embedding: Embedding | None = Field(
        None,
        description="Flags prompts of training that resemble gold or held-out ones, and decides nothing. Absent: none "
        "are looked for.",
    )


class Gates(Model):
    """What a candidate must pass. Each may be left out, except goldSet and lengthDrift."""

    gold_set: GoldSetGate = Field(
        default_factory=GoldSetGate,
        description="Limits on forgetting: the accuracy on the gold set, by category.",
    )
    length_drift: LengthDriftGate = Field(
        default_factory=LengthDriftGate, description="Limits on answers getting longer, or much shorter."
    )
    collapse: CollapseGate | None = Field(
        None, description="Limits on answers becoming canned. Absent: not judged."
    )
    divergence: DivergenceGate | None = Field(
        None, description="Limits on how far the candidate is from where it came from. Absent: not judged."
    )
    win_rate: WinRateGate | None = Field(
        None, description="Limit of the head-to-head comparison. Absent: not judged."
    )
    reward_hacking: RewardHackingGate | None = Field(
        None,
        description="Refuses a reward that rises without any gain that counts; it has no settings. Absent: not judged.",
    )
    contamination: ContaminationGate | None = Field(
        None,
        description="What to do where prompts or datasets hold gold or held-out prompts. Absent: they are left out, "
        "and no gate tells of it.",
    )
    on_inconclusive: Literal["Hold", "Reject"] = Field(
        "Hold", description="What becomes of a candidate that no gate failed and some gate could not pass."
    )


class ConfigMapTarget(Model):
    """A key of a ConfigMap that holds the promoted model's URI."""

    name: Annotated[str, StringConstraints(pattern=names.DOTTED_NAME_PATTERN, max_length=253)] = Field(
        description="The ConfigMap's name; it is made if it is not there."
    )
    key: Annotated[str, StringConstraints(pattern=names.CONFIG_MAP_KEY_PATTERN, max_length=253)] = Field(
        description="The key."
    )
    digest_key: (
        Annotated[str, StringConstraints(pattern=names.CONFIG_MAP_KEY_PATTERN, max_length=253)] | None
    ) = Field(None, description="Another key, which holds the promoted model's digest. Absent: none does.")


class InferenceServiceTarget(Model):
    """An InferenceService of KServe (serving.kserve.io/v1beta1), whose `spec.predictor.model.storageUri` is set."""

    name: ObjectName = Field(description="The InferenceService's name; it has to be there.")


class Target(Model):
    """Something that serves the incumbent; exactly one kind."""

    config_map: ConfigMapTarget | None = Field(None, description="Anything that can read a ConfigMap.")
    inference_service: InferenceServiceTarget | None = Field(
        None, description="KServe: its storageUri follows what is promoted."
    )

    rules = (
        Rule(
            "has(self.configMap) != has(self.inferenceService)",
            "name exactly one of configMap, inferenceService",
            "",
            lambda target: (target.config_map is None) != (target.inference_service is None),
        ),
    )


def _digests_have_keys_of_their_own(targets: Sequence[Target]) -> bool:
    named = [target.config_map for target in targets if target.config_map]
    uris = {(each.name, each.key) for each in named}
    return not any((each.name, each.digest_key) in uris for each in named)


class Promotion(Model):
    """How a candidate that passed reaches users."""

    mode: Literal["Automatic", "Manual"] = Field(
        "Automatic", description="Manual: waits for the approve annotation."
    )
    targets: list[Target] | None = Field(
        None, max_length=16, description="What is told of the promoted model, and repaired when it drifts."
    )
    signature: Signature | None = Field(
        None,
        description="Signs what is promoted, and verifies the signatures of the incumbent and of M_0 before they are "
        "loaded (docs/signatures.md). Absent: neither.",
    )

    rules = (
        Rule(
            "!has(self.targets) || self.targets.all(one, !has(one.configMap) || !has(one.configMap.digestKey) || "
            "!self.targets.exists(other, has(other.configMap) && other.configMap.name == one.configMap.name && "
            "other.configMap.key == one.configMap.digestKey))",
            "a digestKey is a key of the same ConfigMap, which holds the URI; give the digest a key of its own",
            ".targets",
            lambda promotion: _digests_have_keys_of_their_own(promotion.targets or []),
        ),
    )


class History(Model):
    """How much of the past is kept."""

    iterations: int = Field(
        10, ge=1, le=100, description="Rows in status.history, and ControllerRevisions that are kept."
    )
    keep_promoted: int = Field(
        5,
        ge=1,
        le=20,
        description="Promoted checkpoints that are kept in the store, the one in service among them.",
    )
    keep_candidates: int = Field(
        3,
        ge=0,
        le=20,
        description="Iterations without a promotion whose artifacts are kept; at most those in status.history.",
    )


class AlignmentCycleSpec(Model):
    """The standing loop: the model, what it learns from, and what a candidate must pass."""

    suspend: bool = Field(
        False,
        description="True: the running stage's Job is suspended and nothing new starts. False: all goes on.",
    )
    trigger: Trigger | None = Field(
        None, description="Absent: only the annotation alignment.dev/run starts an iteration."
    )
    policy: Policy = Field(description="The model being aligned.")
    store: Store = Field(description="Where artifacts live.")
    prompts: Prompts | None = Field(
        None, description="What the policy is sampled on. Absent: offline, training on spec.datasets alone."
    )
    datasets: Annotated[list[DatasetReference], Field(max_length=16), ListMap("name")] | None = Field(
        None, description="PreferenceDatasets whose pairs are mixed into training."
    )
    sampling: Sampling = Field(default_factory=Sampling, description="How completions are sampled.")
    judge: Judge | None = Field(None, description="What ranks the completions.")
    reward: RewardTraining | None = Field(
        None, description="Trains a reward model on the pairs of spec.datasets. Absent: none is trained."
    )
    training: Training = Field(default_factory=Training, description="How the candidate is trained.")
    evaluation: Evaluation = Field(description="What is measured.")
    gates: Gates = Field(default_factory=Gates, description="What a candidate must pass.")
    promotion: Promotion = Field(default_factory=Promotion, description="How a candidate reaches users.")
    defaults: PodDefaults = Field(default_factory=PodDefaults, description="How every stage's pod is made.")
    stages: dict[StageWithSettings, PodSettings] | None = Field(
        None,
        description="Overrides of defaults, by stage: reward, sample, judge, train, evaluate, compare, promote (which "
        "gets no accelerator).",
    )
    history: History = Field(default_factory=History, description="How much of the past is kept.")

    rules = (
        *SPEC_RULES,
        *PROMPTS_RULES,
        Rule(
            cel="has(self.prompts) || (has(self.datasets) && size(self.datasets) > 0)",
            message="is empty and there is no prompts: give prompts to sample on, or datasets to train on",
            field_path=".datasets",
            holds=lambda spec: spec.prompts is not None or bool(spec.datasets),
        ),
        Rule(
            cel="has(self.prompts) || !has(self.datasets) || self.datasets.all(dataset, !has(dataset.weight))",
            message="has a weight, which counts pairs for each sampled one, and without prompts none is: give maxPairs "
            "instead",
            field_path=".datasets",
            holds=lambda spec: (
                spec.prompts is not None or all(each.weight is None for each in spec.datasets or [])
            ),
        ),
        Rule(
            cel="!has(self.trigger) || !has(self.trigger.newPairs) || (has(self.datasets) && size(self.datasets) > 0)",
            message="needs datasets: it counts their pairs",
            field_path=".trigger.newPairs",
            holds=lambda spec: spec.trigger is None or spec.trigger.new_pairs is None or bool(spec.datasets),
        ),
        Rule(
            cel="!has(self.reward) || (has(self.datasets) && size(self.datasets) > 0)",
            message="needs datasets: it is trained on their pairs",
            field_path=".reward",
            holds=lambda spec: spec.reward is None or bool(spec.datasets),
        ),
        Rule(
            cel="has(self.reward) || !has(self.judge) || !has(self.judge.rewardModel) || "
            "has(self.judge.rewardModel.uri)",
            message="is required without spec.reward, which would train one: name a reward model, or add reward",
            field_path=".judge.rewardModel.uri",
            holds=lambda spec: spec.reward is not None or not trained_here(spec.judge),
        ),
        Rule(
            cel="has(self.reward) || !has(self.evaluation.comparison) || !has(self.evaluation.comparison.judge) || "
            "!has(self.evaluation.comparison.judge.rewardModel) || "
            "has(self.evaluation.comparison.judge.rewardModel.uri)",
            message="is required without spec.reward, which would train one: name a reward model, or add reward",
            field_path=".evaluation.comparison.judge.rewardModel.uri",
            holds=lambda spec: (
                spec.reward is not None
                or spec.evaluation.comparison is None
                or not trained_here(spec.evaluation.comparison.judge)
            ),
        ),
        Rule(
            cel="!has(self.training) || !has(self.training.method) || self.training.method != 'BestOfN' || "
            "!has(self.policy.reference) || self.policy.reference != 'Initial'",
            message="is of no use to BestOfN, which anchors to no reference; leave it out",
            field_path=".policy.reference",
            holds=lambda spec: spec.training.method != "BestOfN" or spec.policy.reference != "Initial",
        ),
        Rule(
            cel="!has(self.prompts) || has(self.judge)",
            message="is required with prompts: sampled completions must be ranked",
            field_path=".judge",
            holds=lambda spec: spec.prompts is None or spec.judge is not None,
        ),
        Rule(
            cel="!has(self.evaluation.comparison) || has(self.evaluation.comparison.judge) || has(self.judge)",
            message="needs a judge: give evaluation.comparison.judge or judge",
            field_path=".evaluation.comparison",
            holds=lambda spec: (
                spec.evaluation.comparison is None
                or spec.evaluation.comparison.judge is not None
                or spec.judge is not None
            ),
        ),
        Rule(
            cel="!has(self.gates.winRate) || has(self.evaluation.comparison)",
            message="needs evaluation.comparison",
            field_path=".gates.winRate",
            holds=lambda spec: spec.gates.win_rate is None or spec.evaluation.comparison is not None,
        ),
        Rule(
            cel="!has(self.gates.rewardHacking) || (has(self.evaluation.comparison) && has(self.judge))",
            message="needs evaluation.comparison and judge",
            field_path=".gates.rewardHacking",
            holds=lambda spec: (
                spec.gates.reward_hacking is None
                or (spec.evaluation.comparison is not None and spec.judge is not None)
            ),
        ),
    )

    def override(self, stage: str) -> PodSettings | None:
        """What `stages` says of one stage, if it says anything."""
        return next((said for name, said in (self.stages or {}).items() if name == stage), None)
