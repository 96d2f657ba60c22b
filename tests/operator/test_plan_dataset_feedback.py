"""AI feedback and the filter of a PreferenceDataset: what the Job is told and given, and what the status says of it."""

from __future__ import annotations

from alignment_api import digests
from alignment_api.dataset import PreferenceDatasetSpec, PreferenceDatasetStatus
from alignment_api.measurements import JUDGE_ACCURACY, ORDER_AGREEMENT, Measurement
from alignment_api.stage import (
    MAX_REPORT_BYTES,
    IngestParameters,
    InputKind,
    Located,
    StageConfig,
    StageReport,
    StageResult,
)
from alignment_operator.plan import dataset, dataset_result
from alignment_operator.planned import StartJob
from alignment_operator.render.api_keys import api_keys
from alignment_operator.render.mounts import mounts_of
from tests.operator.test_plan_dataset import NOW, observed, ready_of, refreshed

LLM = {
    "baseURL": "https://judge/v1",
    "model": "m",
    "apiKeySecretRef": {"name": "judge", "key": "api-key"},
    "budget": {"maxRequests": 100},
}
FILTER = {"model": "pvc://models/filter", "flagBelow": 0.5}


def log(name: str, judge: dict[str, object] | None) -> dict[str, object]:
    read = {"uri": f"pvc://logs/{name}", "format": "OpenAI"}
    return {"name": name, "inferenceLog": read | ({"judge": judge} if judge else {})}


def spec_of(*sources: dict[str, object], **curation: object) -> PreferenceDatasetSpec:
    return PreferenceDatasetSpec.from_wire(
        {"store": {"uri": "pvc://data/store"}, "sources": list(sources), "curation": curation}
    )


def config_of(spec: PreferenceDatasetSpec) -> tuple[StageConfig, IngestParameters]:
    """Of the Job of its first refresh."""
    begun = dataset.plan(observed(PreferenceDatasetStatus(), spec), NOW).status
    (job,) = dataset.plan(observed(begun, spec), NOW).actions
    assert isinstance(job, StartJob)
    assert isinstance(job.config.parameters, IngestParameters)
    return job.config, job.config.parameters


def test_the_job_has_each_judges_inputs_and_the_filters() -> None:
    config, parameters = config_of(
        spec_of(
            log("scored", {"rewardModel": {"uri": "pvc://models/reward"}}),
            log("known", {"verifier": {"prompts": "pvc://data/known.jsonl"}}),
            log("plain", None),
            filter=FILTER | {"action": "Drop"},
        )
    )
    assert {
        role: (entry.uri, entry.kind) for role, entry in config.inputs.items() if "source" not in role
    } == {
        "judge/scored": ("pvc://models/reward", InputKind.REWARD_MODEL),
        "verifier/known": ("pvc://data/known.jsonl", InputKind.CHECKABLE_PROMPTS),
        "filter": ("pvc://models/filter", InputKind.FILTER_MODEL),
    }
    assert parameters.filter is not None
    assert (parameters.filter.flag_below, parameters.filter.action) == (0.5, "Drop")
    assert parameters.judgements is None
    assert api_keys(config) == []
    assert {"--claim", "models=/alignment/claims/models"} <= set(mounts_of(config, None).flags)


def test_an_llms_key_comes_by_reference_and_its_replies_outlive_the_refresh() -> None:
    config, parameters = config_of(spec_of(log("plain", None), log("asked", {"llm": LLM})))
    assert api_keys(config) == [
        {
            "name": "ALIGNMENT_SOURCE_1_TOKEN",
            "valueFrom": {"secretKeyRef": {"name": "judge", "key": "api-key"}},
        }
    ]
    assert parameters.judgements is not None
    dataset_folder, _, _ = config.output.partition("/revisions/")
    assert parameters.judgements == f"{dataset_folder}/judgements"
    path = parameters.judgements.removeprefix("pvc://data/")
    mounts = mounts_of(config, None)
    assert {
        "name": next(each["name"] for each in mounts.volumes if "persistentVolumeClaim" in each),
        "mountPath": f"/alignment/claims/data/{path}",
        "subPath": path,
    } in mounts.mounts
    assert "data=/alignment/claims/data" in mounts.flags


def test_without_an_llm_no_folder_but_the_jobs_own_can_be_written() -> None:
    config, _ = config_of(spec_of(log("plain", None)))
    writable = [each["mountPath"] for each in mounts_of(config, None).mounts if not each.get("readOnly")]
    assert sorted(writable) == ["/alignment/output", "/tmp"]


COUNTS = {"read": 12, "kept": 10, "filtered": 2, "sequence": 10, "source/asked": 10}
JUDGED = {"judged/asked": 4, "contested/asked": 1, "flagged": 3}


def test_the_status_says_what_was_filtered_and_flagged() -> None:
    found, _ = refreshed(COUNTS | {"flagged": 3})
    assert found.status.rows is not None
    assert found.status.rows.filtered == 2
    assert found.status.statistics is not None
    assert found.status.statistics.flagged == 3
    ready = next(each for each in found.status.conditions if each.type == "Ready")
    assert (ready_of(found.status), ready.message) == (("True", "Ingested"), "10 pairs, 2 rows left out")


def test_the_status_says_how_far_a_judge_agrees_with_people() -> None:
    agreement = Measurement(estimate=84, low=80, high=88, n=200)
    order = Measurement(estimate=91, low=88, high=93, n=300)
    result = StageResult(
        manifest=Located(uri="pvc://data/x", digest=digests.of_bytes(b"")),
        counts=COUNTS | JUDGED | {"judged/other": 0},
        by_category={"asked": {JUDGE_ACCURACY: agreement, ORDER_AGREEMENT: order}},
    )
    asked, other = dataset_result.statistics(result).judges
    assert (asked.source, asked.pairs, asked.contested) == ("asked", 4, 1)
    assert (asked.agreement, asked.order_agreement) == (agreement, order)
    assert (other.source, other.pairs, other.agreement, other.contested) == ("other", 0, None, None)


def test_the_fullest_report_fits_the_termination_message() -> None:
    """Sixteen sources with names of 20 characters that share nothing, each a log with an LLM."""
    names = [digests.of_bytes(bytes([number]))[7:27] for number in range(16)]
    measured = Measurement(estimate=84.123, low=80.456, high=88.789, n=20000)
    per_source = {
        f"{what}/{name}": 1_234_567 + 1009 * place * len(what)
        for what in ("source", "judged", "contested")
        for place, name in enumerate(names)
    }
    totals = [
        "read",
        "sequence",
        "invalid",
        "contaminated",
        "duplicate",
        "nearDuplicate",
        "conflicting",
        "filtered",
        "capped",
        "answers",
        "openPairs",
        "openFlagged",
        "pushed",
        "kept",
        "unpaired",
        "longerChosen",
        "shorterChosen",
        "medianPromptCharacters",
        "flagged",
        "filterUnread",
        "medianCompletionCharacters",
        "pairsEver",
        "unpairedEver",
        "judgeTies",
        "judgeUnasked",
        "judgements",
        "judgeRequests",
        "judgeTokens",
        "refusals",
        "invalidReplies",
    ]
    result = StageResult(
        manifest=Located(uri="pvc://data/" + "x" * 100, digest=digests.of_bytes(b"")),
        counts=per_source | {name: 1_000_003 * place for place, name in enumerate(totals, start=1)},
        by_category={name: {JUDGE_ACCURACY: measured, ORDER_AGREEMENT: measured} for name in names},
    )
    text = StageReport(result=result).encode()
    assert len(text.encode()) <= MAX_REPORT_BYTES
    decoded = StageReport.decode(text).result
    assert decoded is not None
    assert decoded.counts == result.counts
