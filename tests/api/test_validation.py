"""What is wrong with a manifest: one problem an error, with the field's path, the value and what to do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from alignment_api import crd, trainer_arguments, trainer_fields
from alignment_api.kinds import RESOURCES
from alignment_api.schemas import Schema
from alignment_api.validation import Problem, check_manifest, parse_cycle, parse_dataset
from alignment_api.wording import PATTERNS
from tests.api.constraints import with_values
from tests.api.manifests import CYCLE, DATASET, LEAST_CYCLE, MISSING, with_value


def _only(path: str, value: object) -> str:
    (problem,) = check_manifest(with_value(CYCLE, path, value))
    return str(problem)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("lr", "learningRate"),
        ("batchSize", "perDeviceBatchSize"),
        ("accumulation", "gradientAccumulationSteps"),
    ],
)
def test_a_short_name_is_taken_for_the_field_that_holds_it(written: str, meant: str) -> None:
    assert f"did you mean '{meant}'?" in _only(f"spec.training.{written}", 1)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            "spec.sampling.temprature",
            1,
            ": 1: is not a field here; did you mean 'temperature'? "
            "fields: completionsPerPrompt, maxNewTokens, seed, server, shards, temperature, topP",
        ),
        (
            "spec.sampling.top_p",
            0.5,
            ": 0.5: is not a field here; did you mean 'topP'? "
            "fields: completionsPerPrompt, maxNewTokens, seed, server, shards, temperature, topP",
        ),
        (
            "spec.prompts.completionsPerPrompt",
            4,
            ": 4: is not a field here; "
            "did you mean spec.sampling.completionsPerPrompt? fields: fromDatasets, perIteration, spread, uri",
        ),
        (
            "spec.history.image",
            "a",
            ': "a": is not a field here; did you mean spec.sampling.server.image or spec.defaults.image? '
            "fields: iterations, keepCandidates, keepPromoted",
        ),
        (
            "spec.stages.trian",
            {"retries": 1},
            ": {\"retries\": 1}: is not a field here; did you mean 'train'? "
            "fields: reward, sample, judge, train, evaluate, compare, promote",
        ),
        (
            "spec.stages.image",
            {},
            ": {}: is not a field here; did you mean spec.sampling.server.image or spec.defaults.image? "
            "fields: reward, sample, judge, train, evaluate, compare, promote",
        ),
        ("spec.judge.verifier", {"a": 1}, ".a: 1: is not a field here; it has no fields"),
        ("spec.evaluation.goldSet", MISSING, ": is required: What the candidate must not forget."),
        ("spec.evaluation.goldSet", None, ": is required: What the candidate must not forget."),
        (
            "spec.gates.goldSet.categories[0].maxDropPoints",
            "30%",
            ': "30%": must be a number from 0 to 100, without a unit; write 30',
        ),
        (
            "spec.training.learningRate",
            "5e-7",
            ': "5e-7": must be a number above 0 and at most 1, not text; write 5.0e-07 without quotes',
        ),
        (
            "spec.training.epochs",
            "3 epochs",
            ': "3 epochs": must be a whole number from 1 to 1000, without a unit; write 3',
        ),
        (
            "spec.training.learningRate",
            "0,1",
            ': "0,1": must be a number above 0 and at most 1; use a point for decimals, not a comma',
        ),
        (
            "spec.sampling.maxNewTokens",
            "1,000",
            ': "1,000": must be a whole number from 1 to 131072; write it without a comma',
        ),
        (
            "spec.sampling.maxNewTokens",
            "2k",
            ': "2k": must be a whole number from 1 to 131072, without a unit',
        ),
        (
            "spec.training.learningRate",
            "100mu",
            ': "100mu": must be a number above 0 and at most 1, without a unit',
        ),
        ("spec.sampling.topP", "95%", ': "95%": must be a number above 0 and at most 1, without a unit'),
        ("spec.sampling.temperature", "50", ': "50": must be a number above 0 and at most 10, not text'),
        (
            "spec.training.epochs",
            "2.5 epochs",
            ': "2.5 epochs": must be a whole number from 1 to 1000, without a unit',
        ),
        ("spec.training.epochs", 1.5, ": 1.5: must be a whole number from 1 to 1000"),
        ("spec.training.epochs", True, ": true: must be a whole number from 1 to 1000"),
        ("spec.training.beta", float("nan"), ": NaN: must be a number above 0 and at most 100"),
        ("spec.training.beta", 0, ": 0: must be above 0 and at most 100"),
        (
            "spec.training.arguments",
            {"learning_rate": 1e-4},
            ".learning_rate: 0.0001: is set by spec.training.learningRate; give it there",
        ),
        (
            "spec.training.arguments",
            {"max_steps": 3},
            ".max_steps: 3: is set by spec.training.epochs; give it there",
        ),
        (
            "spec.training.arguments",
            {"optim": "adam"},
            ".optim: \"adam\": is not one of its values; did you mean 'adamw_torch'? values: adamw_torch, "
            "adamw_torch_fused, adafactor, adagrad, rmsprop, sgd",
        ),
        (
            "spec.training.arguments",
            {"warmup_steps": "10"},
            '.warmup_steps: "10": must be a number from 0, below 1000000000',
        ),
        ("spec.training.arguments", {"weight_decay": -1}, ".weight_decay: -1: must be a number from 0"),
        (
            "spec.training.arguments",
            {"torch_empty_cache_steps": 1.5},
            ".torch_empty_cache_steps: 1.5: must be a whole number from 1",
        ),
        (
            "spec.training.arguments",
            {"torch_empty_cache_steps": 0},
            ".torch_empty_cache_steps: 0: must be a whole number from 1",
        ),
        (
            "spec.training.arguments",
            {"adam_beta1": 1},
            ".adam_beta1: 1: must be a number from 0, below 1",
        ),
        (
            "spec.training.arguments",
            {"warmup_steps": 1e9},
            ".warmup_steps: 1000000000: must be a number from 0, below 1000000000",
        ),
        (
            "spec.training.arguments",
            {"weight_decay": math.nan},
            ".weight_decay: NaN: must be a finite number",
        ),
        (
            "spec.training.arguments",
            {"weight_decay": math.inf},
            ".weight_decay: Infinity: must be a finite number",
        ),
        ("spec.training.arguments", {"use_weighting": 1}, ".use_weighting: 1: must be true or false"),
        (
            "spec.training.arguments",
            {"warmup_steps": {"a": 1}},
            '.warmup_steps: {"a": 1}: must be a number, text, or true or false',
        ),
        ("spec.judge.minMargin", -1, ": -1: must be at least 0"),
        ("spec.gates.winRate.minPercent", 100, ": 100: must be at least 0 and below 100"),
        (
            "spec.gates.goldSet.mode",
            "NoHarms",
            ": \"NoHarms\": is not one of its values; did you mean 'NoHarm'? values: NoHarm, NonInferior",
        ),
        (
            "spec.training.method",
            "GRPO",
            ': "GRPO": is not one of its values; values: DPO, IPO, KTO, BestOfN, PPO',
        ),
        (
            "spec.training.lora",
            [1],
            ": [1]: must be a mapping with the fields rank, alpha, dropout, targetModules",
        ),
        (
            "spec.training.lora.targetModules",
            ["q_proj", "v_proj"],
            ': ["q_proj", "v_proj"]: must be text, with commas between names; write q_proj,v_proj',
        ),
        ("spec.defaults.env", {"A": "b"}, ': {"A": "b"}: must be a list: items that begin with \'-\''),
        ("spec.defaults.nodeSelector", ["a"], ': ["a"]: must be a mapping'),
        (
            "spec.defaults.nodeSelector",
            {"kubernetes.io/arch": True},
            '["kubernetes.io/arch"]: true: must be text; put it in quotes',
        ),
        ("spec.defaults.podLabels", {1: "a"}, "[1]: 1: is a key that must be text; put it in quotes"),
        (
            "spec.defaults.resources.limits.memory",
            "4 GB",
            ': "4 GB": is not a Kubernetes quantity; write 500m, 4 or 8Gi, for example',
        ),
        ("spec.defaults.image", "", ': "": has 0 characters; at least 1 are allowed'),
        (
            "spec.gates.goldSet.categories",
            [{"name": str(index), "maxDropPoints": 1} for index in range(17)],
            ': [{"name": "0", "maxDropPoints": 1}, {"name": "1", "maxDropP…: '
            "has 17 entries; at most 16 are allowed",
        ),
        (
            "spec.gates.goldSet.categories",
            [{"name": "a", "maxDropPoints": 1}] * 2,
            '[1].name: "a": is there twice; each must differ',
        ),
        (
            "spec.evaluation.comparison.minComparisons",
            501,
            ": 501: must be at most maxComparisons",
        ),
    ],
)
def test_a_problem_names_the_field_the_value_and_the_remedy(path: str, value: object, said: str) -> None:
    assert _only(path, value) == path + said


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://b/m", "s3:// is not supported; write pvc://CLAIM/PATH or file:///PATH"),
        ("hf://org/m", "hf:// is not supported; write pvc://CLAIM/PATH or file:///PATH"),
        ("models/m0", "is not a URI; write pvc://CLAIM/PATH or file:///PATH"),
        ("/m0", "is not a URI; write pvc://CLAIM/PATH or file:///PATH, here perhaps file:///m0"),
        ("file://a/b", "must have three slashes and then a path: file:///a/b"),
        (
            "file:///a b",
            "contains a space, '?', '#' or a control character, which a URI here cannot have; write %20 for a space",
        ),
        (
            "file:///100%/a",
            "has a '%' that escapes nothing, or what needs no escape; write %20 for a space, %25 for '%'",
        ),
        ("file:///", "names no file; write pvc://CLAIM/PATH or file:///PATH"),
        ("pvc:///m0", "names no claim; write pvc://CLAIM/PATH"),
        (
            "pvc://M/m0",
            "names the claim 'M', which must be lower-case letters, digits, '-' and '.', not at its ends",
        ),
        ("pvc://m/../n", "contains '..'; name the folder itself"),
        ("pvc://m/a b", "contains a space, '?', '#' or a control character, which a URI here cannot have"),
    ],
)
def test_a_text_that_is_no_uri_is_told_how_to_become_one(uri: str, said: str) -> None:
    assert _only("spec.policy.model", uri) == f'spec.policy.model: "{uri}": {said}'


def test_every_error_is_one_problem() -> None:
    manifest = yaml.safe_load("""
        apiVersion: alignment.dev/v1alpha1
        kind: AlignmentCycle
        metadata: {name: Support.Assistant, annotations: {alignment.dev/run: 2026-11-23}}
        sepc: {}
        spec:
          policy: {model: s3://models/m0}
          store: {}
          sampling: {temprature: 1, topP: 2}
          evaluation: {goldSet: {uri: pvc://a}, heldOutPrompts: {uri: pvc://a}}
    """)
    spec, problems = parse_cycle(manifest)
    assert spec is None
    assert [problem.path for problem in problems] == [
        "sepc",
        "metadata.name",
        'metadata.annotations["alignment.dev/run"]',
        "spec.policy.model",
        "spec.store.uri",
        "spec.sampling.topP",
        "spec.sampling.temprature",
    ]


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (None, "(document): must be a mapping with apiVersion, kind, metadata, spec"),
        (["a"], '(document): ["a"]: must be a mapping with apiVersion, kind, metadata, spec'),
        ({"kind": "AlignmentCycle"}, "apiVersion: is required, as text: alignment.dev/v1alpha1, for example"),
        ({"apiVersion": "v1"}, "kind: is required, as text"),
        (
            CYCLE | {"kind": "AlignmentCycles"},
            "kind: \"AlignmentCycles\": is not a kind of alignment.dev; did you mean 'AlignmentCycle'? "
            "kinds: AlignmentCycle, PreferenceDataset",
        ),
        (
            CYCLE | {"apiVersion": "alignment.dev/v1"},
            'apiVersion: "alignment.dev/v1": must be alignment.dev/v1alpha1',
        ),
        (CYCLE | {"metadata": None}, "metadata: must be a mapping with a name"),
        (CYCLE | {"metadata": {}}, "metadata.name: is required, as text"),
        (
            CYCLE | {"metadata": {"name": "a" * 41}},
            f'metadata.name: "{"a" * 41}": has 41 characters; at most 40 are allowed, for it becomes part of Job names',
        ),
        (
            CYCLE | {"metadata": {"name": "a\n"}},
            "metadata.name: \"a\\n\": must be lower-case letters, digits and '-', and a letter or digit at both ends",
        ),
        (
            CYCLE | {"metadata": {"name": "a", "namespace": "A"}},
            "metadata.namespace: \"A\": must be lower-case letters, digits and '-', "
            "and a letter or digit at both ends, at most 63 characters",
        ),
        (
            CYCLE | {"metadata": {"name": "a.b"}},
            "metadata.name: \"a.b\": must be lower-case letters, digits and '-', and a letter or digit at both ends",
        ),
        (
            CYCLE | {"metadata": {"name": "a", "labels": ["x"]}},
            'metadata.labels: ["x"]: must be a mapping of text to text',
        ),
        (
            CYCLE | {"spec": None},
            "spec: is required: The standing loop: the model, what it learns from, and what a candidate must pass.",
        ),
        (
            CYCLE | {"spec": "x"},
            'spec: "x": must be a mapping with the fields suspend, trigger, policy, store, prompts, datasets, '
            "sampling, judge, reward, training, evaluation, gates, promotion, defaults, stages, history",
        ),
    ],
)
def test_a_document_that_is_no_manifest_of_ours_is_told_why(manifest: object, said: str) -> None:
    assert [str(problem) for problem in check_manifest(manifest)] == [said]


def test_other_kinds_are_not_ours_to_judge() -> None:
    assert check_manifest({"apiVersion": "v1", "kind": "ConfigMap", "data": 1}) == ()


def test_what_the_server_adds_is_no_problem() -> None:
    metadata = {"name": "a", "uid": "u", "generation": 2, "managedFields": [{}], "annotations": {"a": "b"}}
    stored = CYCLE | {"metadata": metadata, "status": {"observedGeneration": 1, "anything": 1}}
    spec, problems = parse_cycle(stored)
    assert problems == ()
    assert spec is not None
    assert spec.sampling.completions_per_prompt == 8


def test_the_two_kinds_are_told_apart() -> None:
    assert Problem("kind", '"PreferenceDataset"', "must be AlignmentCycle") in parse_cycle(DATASET)[1]
    assert Problem("kind", '"AlignmentCycle"', "must be PreferenceDataset") in parse_dataset(CYCLE)[1]


def test_absent_fields_have_their_defaults() -> None:
    spec, problems = parse_cycle(LEAST_CYCLE)
    assert problems == ()
    assert spec is not None
    assert (spec.policy.reference, spec.gates.on_inconclusive, spec.defaults.retries) == (
        "Previous",
        "Hold",
        2,
    )


def test_every_pattern_has_words() -> None:
    def patterns(schema: Schema) -> set[str]:
        below = [*schema.get("properties", {}).values()]
        below += [schema[key] for key in ("items", "additionalProperties") if key in schema]
        return {schema["pattern"]} if "pattern" in schema else set().union(*map(patterns, below))

    for resource in RESOURCES:
        assert {
            pattern for pattern in patterns(crd.structural(resource.spec)) if "pvc:" not in pattern
        } <= PATTERNS.keys()


def test_an_unknown_argument_is_refused_with_those_that_the_method_has() -> None:
    for method, name in (("DPO", "output_dir"), ("KTO", "use_weighting"), ("BestOfN", "desirable_weight")):
        beta = MISSING if method == "BestOfN" else 0.1
        values = {
            "spec.training.method": method,
            "spec.training.beta": beta,
            "spec.training.arguments": {name: "x"},
        }
        (problem,) = check_manifest(with_values("AlignmentCycle", values))
        assert problem.path == f"spec.training.arguments.{name}"
        assert problem.message.startswith(f"is not an argument for {method}; ")
        assert problem.message.endswith(", ".join(trainer_fields.ALLOWED[method]))


@pytest.mark.parametrize(
    ("sharding", "optim", "able"),
    [
        *(
            ("FSDP", optim, "adamw_torch, adamw_torch_fused, adagrad, rmsprop")
            for optim in ("adafactor", "sgd")
        ),
        *(
            ("ZeRO3", optim, "adamw_torch, adamw_torch_fused, rmsprop, sgd")
            for optim in ("adafactor", "adagrad")
        ),
    ],
)
def test_an_optimizer_that_cannot_be_divided_is_refused_with_those_that_can(
    sharding: str, optim: str, able: str
) -> None:
    values = {"spec.training.arguments": {"optim": optim}, "spec.training.sharding": sharding}
    (problem,) = check_manifest(with_values("AlignmentCycle", values))
    assert problem.path == "spec.training.arguments.optim"
    assert problem.message == (
        f"{optim} does not train with sharding: {sharding}; choose {able}, or write sharding: None"
    )
    assert not check_manifest(with_values("AlignmentCycle", values | {"spec.training.sharding": "None"}))


def test_ppo_has_no_trainer_that_an_argument_could_be_for() -> None:
    assert trainer_arguments.problem("PPO", "warmup_steps", 10) == (
        "is for the trainers of DPO, IPO, KTO, BestOfN; leave it out with PPO"
    )


def test_every_problem_of_one_place_is_told() -> None:
    arguments = {"loss_type": "sigmoid", "weight_decay": "0.01", "warmup_ratio": 0.1, "optim": "adam"}
    values: dict[str, object] = {"spec.training.arguments": arguments, "spec.training.method": "IPO"}
    found = [problem.path for problem in check_manifest(with_values("AlignmentCycle", values))]
    assert found == [f"spec.training.arguments.{name}" for name in arguments]
    values = {"spec.training.method": "KTO", "spec.training.perDeviceBatchSize": 1} | {
        "spec.training.arguments": {"use_weighting": True, "desirable_weight": -1}
    }
    found = [problem.path for problem in check_manifest(with_values("AlignmentCycle", values))]
    assert found == [
        "spec.training.perDeviceBatchSize",
        "spec.training.arguments.use_weighting",
        "spec.training.arguments.desirable_weight",
    ]


def test_best_of_n_has_no_reference_to_name() -> None:
    values = {
        "spec.training.method": "BestOfN",
        "spec.training.beta": MISSING,
        "spec.training.arguments": MISSING,
        "spec.policy.reference": "Initial",
    }
    (problem,) = check_manifest(with_values("AlignmentCycle", values))
    assert str(problem).startswith('spec.policy.reference: "Initial": is of no use to BestOfN')


def test_kto_learns_from_one_label_at_least() -> None:
    weights = {"desirable_weight": 0, "undesirable_weight": 0}
    values = {"spec.training.method": "KTO", "spec.training.arguments": weights}
    (problem,) = check_manifest(with_values("AlignmentCycle", values))
    assert str(problem) == (
        "spec.training.arguments.undesirable_weight: 0: must be above 0 when desirable_weight is 0, or nothing is "
        "learned"
    )
    one = {"desirable_weight": 0}
    assert not check_manifest(with_values("AlignmentCycle", values | {"spec.training.arguments": one}))


def test_ipo_with_a_beta_of_0_is_refused() -> None:
    (problem,) = check_manifest(
        with_values("AlignmentCycle", {"spec.training.method": "IPO", "spec.training.beta": 0})
    )
    assert str(problem) == "spec.training.beta: 0: must be above 0 and at most 100"


def test_the_page_on_methods_lists_every_argument_and_its_values() -> None:
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    for allowed in trainer_fields.ALLOWED.values():
        for name, kind in allowed.items():
            assert f"`{name}`" in page
            assert not isinstance(kind, tuple) or all(value in page for value in kind)
    assert f"a map of at most {trainer_arguments.MOST}:" in page
