"""What to do for a PreferenceDataset now: one ingest for each generation of its spec, and what is over is collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from alignment_api import names
from alignment_api.conditions import ConditionType, Reason, updated
from alignment_api.curation import QualityFilter
from alignment_api.cycle_status import StageStatus
from alignment_api.dataset import (
    MAX_REVISIONS,
    JudgeStatistics,
    PreferenceDatasetSpec,
    PreferenceDatasetStatus,
    Revision,
    Rows,
    Source,
    Statistics,
)
from alignment_api.measurements import JUDGE_ACCURACY, ORDER_AGREEMENT
from alignment_api.pods import PodDefaults
from alignment_api.sources import InferenceLog
from alignment_api.stage import (
    IngestedFiles,
    IngestedFilter,
    IngestedLog,
    IngestedProject,
    IngestedSource,
    IngestParameters,
    Input,
    InputKind,
    Stage,
    StageConfig,
    StageResult,
)
from alignment_api.uris import join
from alignment_operator import schedules
from alignment_operator.observed import ObservedDataset, Settings
from alignment_operator.plan import dataset_retention, housekeeping, instants, stage, suspension, verbs
from alignment_operator.planned import DatasetPlan, Event

_ROWS = [name for field in Rows.model_fields.values() if (name := field.alias)]


def plan(observed: ObservedDataset, now: datetime) -> DatasetPlan:
    """Actions, the next status, events, and when to look again. Writing the status again changes nothing."""
    jobs = tuple(job for job in observed.jobs if job.stage == Stage.INGEST)
    refresh = _refresh(replace(observed, jobs=jobs), now)
    if observed.spec is None or observed.problems:
        return refresh
    pods = with_image(observed.spec.defaults, observed.settings)
    retained = dataset_retention.retain(observed, refresh.status, pods, now)
    return DatasetPlan(
        (*refresh.actions, *retained.actions),
        retained.status,
        (*refresh.events, *retained.events),
        instants.earliest(refresh.wake_at, retained.wake_at),
    )


def _refresh(observed: ObservedDataset, now: datetime) -> DatasetPlan:
    status = observed.status
    spec = observed.spec
    if spec is None or (observed.problems and not _running(status)):
        return DatasetPlan((), _settled(observed, status, now))
    held, told = suspension.holds(observed), suspension.events(observed)
    if (_asked(observed) or _due(observed, now)) and not _running(status) and not held:
        # The Job's config carries the instant: it is in status before there is a Job, or a crash between makes another.
        begun = _begun(observed, status, now)
        return DatasetPlan((), _settled(observed, begun, now), told, now)
    if not _running(status):
        actions = housekeeping.tidy(
            observed.jobs,
            None,
            status.ingest_number,
            None,
            lambda _: spec.defaults.ttl_seconds_after_finished,
        )
        announced = _announced(observed, now)
        settled = _settled(observed, status.model_copy(update=announced), now)
        return DatasetPlan(actions, settled, told, None if held else _instant(settled.next_refresh_at))
    assert status.ingest is not None
    follow = suspension.follow(observed)
    if held and (paused := suspension.paused(status.ingest, observed.jobs)):
        waiting = status.model_copy(update={"ingest": paused})
        return DatasetPlan(follow, _settled(observed, waiting, now), told)
    resumed = suspension.resumed(status.ingest)
    config = _config(observed, spec, status.ingest_number, resumed)
    pods = with_image(spec.defaults, observed.settings)
    progress = stage.advance(
        resumed,
        config,
        observed.owner.name,
        observed.jobs,
        pods,
        now,
        wait_for_inputs=observed.settings.wait_for_inputs,
    )
    expected = (names.stage_hash(config.owner_uid, config.to_wire()), status.ingest.attempt)
    tidied = housekeeping.tidy(
        observed.jobs,
        status.ingest,
        status.ingest_number,
        expected,
        lambda _: pods.ttl_seconds_after_finished,
    )
    status, events = _after(status.model_copy(update={"ingest": progress.status}), spec, now)
    wake_at = progress.wake_at
    if not _running(status):
        wake_at = instants.earliest(wake_at, _instant(status.next_refresh_at))
    actions = (*follow, *progress.actions, *tidied)
    return DatasetPlan(actions, _settled(observed, status, now), (*told, *events), wake_at)


def with_image(defaults: PodDefaults, settings: Settings) -> PodDefaults:
    return defaults.model_copy(update={"image": defaults.image or settings.worker_image})


def _asked(observed: ObservedDataset) -> bool:
    run = verbs.asked(observed.owner.annotations, "run")
    new_request = bool(run) and run != observed.status.handled.get("run")
    return new_request or observed.status.ingest_generation != observed.owner.generation


def _due(observed: ObservedDataset, now: datetime) -> bool:
    """A slot that was announced and has come, even if nobody was there then."""
    at = _instant(observed.status.next_refresh_at)
    return at is not None and at <= now and bool(_announced(observed, now)["next_refresh_at"])


def _announced(observed: ObservedDataset, now: datetime) -> dict[str, str | None]:
    """The next slot, of the schedule as it is now."""
    refresh = observed.spec.refresh if observed.spec else None
    if suspension.holds(observed):  # what was announced before is due when it goes on
        return {"next_refresh_at": observed.status.next_refresh_at if refresh else None}
    if refresh is None or observed.problems or not observed.settings.heed_triggers:
        return {"next_refresh_at": None}
    following = schedules.around(refresh.schedule, refresh.time_zone, now)[1]
    return {"next_refresh_at": instants.spell(following) if following else None}


def _instant(spelled: str | None) -> datetime | None:
    return instants.parse(spelled) if spelled else None


def _running(status: PreferenceDatasetStatus) -> bool:
    return status.ingest is not None and status.ingest.state in {"Pending", "Running"}


def _begun(
    observed: ObservedDataset, status: PreferenceDatasetStatus, now: datetime
) -> PreferenceDatasetStatus:
    """The number is the next that the status knows of: the worker sees by it whether the store knows more."""
    run = verbs.asked(observed.owner.annotations, "run")
    return status.model_copy(
        update={
            "ingest": StageStatus(name=Stage.INGEST, state="Pending", started_at=instants.spell(now)),
            "ingest_number": status.ingest_number + 1,
            "ingest_generation": observed.owner.generation,
            "handled": {**status.handled, "run": run} if run else status.handled,
            **_announced(observed, now),
        }
    )


def _config(
    observed: ObservedDataset, spec: PreferenceDatasetSpec, number: int, ingest: StageStatus
) -> StageConfig:
    """The folder carries the instant too: a number may come again after a lost status, an instant does not."""
    assert ingest.started_at is not None
    owner, curation = observed.owner, spec.curation
    prefix = names.cycle_prefix(spec.store.uri, owner.namespace, owner.name, owner.uid)
    return StageConfig(
        stage=Stage.INGEST,
        owner_uid=owner.uid,
        iteration=number,
        output=join(names.revisions_prefix(prefix), names.refresh_folder(number, ingest.started_at)),
        inputs=_inputs(spec, observed.status.revision),
        parameters=IngestParameters(
            sources=[_read(source) for source in spec.sources],
            conflicts=curation.conflicts,
            max_pairs_per_source=curation.max_pairs_per_source,
            similarity_percent=curation.deduplicate.similarity_percent if curation.deduplicate else None,
            near_gold_percent=(
                curation.contamination.min_similarity_percent if curation.contamination else None
            ),
            filter=_filter(curation.filter) if curation.filter else None,
            judgements=names.judgements_prefix(prefix) if _asks_an_llm(spec) else None,
            pii=curation.pii.action if curation.pii else None,
        ),
        seed=0,
    )


def _filter(asked: QualityFilter) -> IngestedFilter:
    return IngestedFilter(flag_below=asked.flag_below, action=asked.action)


def _asks_an_llm(spec: PreferenceDatasetSpec) -> bool:
    logs = [source.inference_log for source in spec.sources]
    return any(log and log.judge and log.judge.llm for log in logs)


def _inputs(spec: PreferenceDatasetSpec, base: Revision | None) -> dict[str, Input]:
    """`base` is the revision in force; one without a sequence is an older worker's, with no ordinals to go on from."""
    inputs: dict[str, Input] = {}
    for source in spec.sources:
        if source.files is not None:
            inputs[f"source/{source.name}"] = Input(uri=source.files.uri, kind=InputKind.PAIRS)
        elif source.inference_log is not None:
            inputs[f"source/{source.name}"] = Input(
                uri=source.inference_log.uri, kind=InputKind.INFERENCE_LOG
            )
            inputs |= _inputs_of_judge(source.name, source.inference_log)
    contamination = spec.curation.contamination
    for number, uri in enumerate(contamination.gold_sets if contamination else ()):
        inputs[f"goldSet/{number}"] = Input(uri=uri, kind=InputKind.PROMPTS)
    if spec.curation.filter is not None:
        inputs["filter"] = Input(uri=spec.curation.filter.model, kind=InputKind.FILTER_MODEL)
    if spec.curation.embedding is not None:
        inputs["embedding"] = Input(uri=spec.curation.embedding.model, kind=InputKind.EMBEDDING_MODEL)
    if base is not None and base.sequence is not None:
        inputs["base"] = Input(uri=base.uri, kind=InputKind.STAGE, digest=base.digest)
    return inputs


def _inputs_of_judge(name: str, log: InferenceLog) -> dict[str, Input]:
    if log.judge and log.judge.reward_model and log.judge.reward_model.uri:
        return {f"judge/{name}": Input(uri=log.judge.reward_model.uri, kind=InputKind.REWARD_MODEL)}
    if log.judge and log.judge.verifier:
        return {f"verifier/{name}": Input(uri=log.judge.verifier.prompts, kind=InputKind.CHECKABLE_PROMPTS)}
    return {}


def _read(source: Source) -> IngestedSource:
    files, log, project = source.files, source.inference_log, source.label_studio
    return IngestedSource(
        name=source.name,
        files=IngestedFiles(
            format=files.format or "Auto",
            columns=files.columns or {},
            credentials_secret_ref=files.credentials_secret_ref,
        )
        if files
        else None,
        inference_log=IngestedLog(
            format=log.format,
            feedback=log.feedback is not False,
            sample_percent=log.sample_percent or 100.0,
            credentials_secret_ref=log.credentials_secret_ref,
            judge=log.judge,
        )
        if log
        else None,
        label_studio=IngestedProject(
            url=project.url,
            project=project.project_id,
            push_pairs=project.push_pairs or 0,
            token_secret_ref=project.token_secret_ref,
        )
        if project
        else None,
    )


def _after(
    status: PreferenceDatasetStatus, spec: PreferenceDatasetSpec, now: datetime
) -> tuple[PreferenceDatasetStatus, tuple[Event, ...]]:
    """What a finished ingest adds: a revision, unless it has the content of the last one or its bias refuses it."""
    ingest = status.ingest
    assert ingest is not None
    if ingest.state == "Failed":
        return status, (Event("IngestFailed", ingest.message or "", warning=True),)
    if ingest.state != "Succeeded":
        return status, ()
    assert ingest.result is not None
    manifest, counts = ingest.result.manifest, ingest.result.counts
    if biased := _length_bias(ingest, spec):
        return status, (Event(Reason.LENGTH_BIASED, biased, warning=True),)
    last, before = status.revision, status.revisions
    if last is None or last.digest != manifest.digest:
        before = [last, *before][:MAX_REVISIONS] if last else before
        last = Revision(
            number=(last.number if last else 0) + 1,
            uri=manifest.uri,
            digest=manifest.digest,
            sequence=counts.get("sequence"),
            pairs_ever=counts.get("pairsEver"),
            unpaired_ever=counts.get("unpairedEver"),
            at=instants.spell(now),
        )
    rows = Rows.from_wire(
        {"read": 0, "invalid": 0, "kept": 0} | {key: counts[key] for key in _ROWS if key in counts}
    )
    unpaired = counts.get("unpaired", 0)
    known = {
        "revision": last,
        "revisions": before,
        "rows": rows,
        "pairs": rows.kept - unpaired,
        "unpaired": unpaired,
        "prompts": counts.get("prompts"),
        "statistics": statistics(ingest.result),
    }
    status = status.model_copy(update=known)
    return status, (Event("Ingested", f"revision {last.number}: {_held(status)}"),)


def _longer_chosen(counts: Mapping[str, int]) -> float | None:
    """In percent of the pairs whose answers differ in length."""
    longer, shorter = counts.get("longerChosen", 0), counts.get("shorterChosen", 0)
    return 100 * longer / (longer + shorter) if longer + shorter else None


def _length_bias(ingest: StageStatus, spec: PreferenceDatasetSpec) -> str | None:
    """Why the revision that was made is not taken; None if it is."""
    limit = spec.curation.max_longer_chosen_percent
    counts = ingest.result.counts if ingest.result else {}
    percent = _longer_chosen(counts)
    if limit is None or percent is None or percent <= limit:
        return None
    differing = counts["longerChosen"] + counts["shorterChosen"]
    return (
        f"the longer answer is chosen in {percent:.1f} % of the {differing} pairs whose answers differ by more than "
        f"10 % in length, limit {limit:g} % (spec.curation.maxLongerChosenPercent); what trains on them learns length. "
        "The last revision stays in force: correct the sources, or raise the limit"
    )


def statistics(result: StageResult) -> Statistics:
    """What the revision of that refresh looks like."""
    counts = result.counts
    percent = _longer_chosen(counts)
    return Statistics(
        longer_chosen_percent=None if percent is None else round(percent, 1),
        median_prompt_characters=counts.get("medianPromptCharacters"),
        median_completion_characters=counts.get("medianCompletionCharacters"),
        by_source=_under("source/", counts),
        by_model=_under("model/", counts),
        longer_chosen_percent_by_source=_longer_chosen_by("source", counts),
        longer_chosen_percent_by_model=_longer_chosen_by("model", counts),
        answers=counts.get("answers"),
        open_pairs=counts.get("openPairs"),
        pushed=counts.get("pushed"),
        pii=_under("pii/", counts),
        near_gold=counts.get("nearGold"),
        flagged=counts.get("flagged"),
        judges=[
            JudgeStatistics(
                source=(name := key.removeprefix("judged/")),
                pairs=count,
                agreement=result.by_category.get(name, {}).get(JUDGE_ACCURACY),
                order_agreement=result.by_category.get(name, {}).get(ORDER_AGREEMENT),
                contested=counts.get(f"contested/{name}"),
            )
            for key, count in counts.items()
            if key.startswith("judged/")
        ],
    )


def _longer_chosen_by(kind: str, counts: Mapping[str, int]) -> dict[str, float]:
    shorter = _under(f"shorter/{kind}/", counts)
    longer = _under(f"longer/{kind}/", counts)
    return {
        name: round(100 * count / (count + shorter.get(name, 0)), 1)
        for name, count in longer.items()
        if count + shorter.get(name, 0)
    }


def _under(prefix: str, counts: Mapping[str, int]) -> dict[str, int]:
    return {key.removeprefix(prefix): count for key, count in counts.items() if key.startswith(prefix)}


def _left_out(rows: Rows) -> int:
    reasons = (
        rows.invalid,
        rows.duplicate,
        rows.near_duplicate,
        rows.contaminated,
        rows.conflicting,
        rows.filtered,
        rows.capped,
        rows.pii,
    )
    return sum(count or 0 for count in reasons)


def _held(status: PreferenceDatasetStatus) -> str:
    alone = f", {status.prompts} prompts" if status.prompts and not (status.pairs or status.unpaired) else ""
    return f"{status.pairs} pairs{alone}" + (f", {status.unpaired} unpaired rows" if status.unpaired else "")


def _settled(
    observed: ObservedDataset, status: PreferenceDatasetStatus, now: datetime
) -> PreferenceDatasetStatus:
    """The status with its conditions and observedGeneration."""
    ready, stalled = _ready(observed, status), bool(observed.problems)
    generation = observed.owner.generation
    said = (
        (ConditionType.READY, *ready),
        (ConditionType.RECONCILING, False, Reason.OBSERVED, f"generation {generation} is observed"),
        (
            ConditionType.STALLED,
            stalled,
            Reason.INVALID_SPEC if stalled else Reason.OBSERVED,
            _said(observed) if stalled else "nothing is in the way",
        ),
        (ConditionType.SUSPENDED, *suspension.condition(observed)),
    )
    conditions = status.conditions
    for type_, holds, reason, message in said:
        conditions = updated(
            conditions,
            type_,
            holds=holds,
            reason=reason,
            message=message,
            generation=generation,
            now=instants.spell(now),
        )
    return status.model_copy(update={"conditions": conditions, "observed_generation": generation})


def _said(observed: ObservedDataset) -> str:
    return "; ".join(str(problem) for problem in observed.problems)[:4000]


def _ready(observed: ObservedDataset, status: PreferenceDatasetStatus) -> tuple[bool, str, str]:
    """The last good revision stays in force, but only for the spec that it was made from."""
    if observed.problems:
        return False, Reason.INVALID_SPEC, _said(observed)
    ingest = status.ingest
    outdated = status.ingest_generation != observed.owner.generation
    if ingest is None or outdated or ingest.state in {"Pending", "Running"}:
        if suspension.holds(observed):
            there = f"revision {status.revision.number} is in force; " if status.revision else ""
            return bool(there), Reason.SUSPENDED, f"{there}no refresh runs until spec.suspend is false"
        message = (
            ingest.message if ingest and ingest.message else f"refresh {status.ingest_number} is running"
        )
        return False, Reason.INGESTING, message
    if ingest.state == "Failed":
        return False, ingest.reason or Reason.INGEST_FAILED, ingest.message or ""
    if observed.spec is not None and (biased := _length_bias(ingest, observed.spec)):
        return False, Reason.LENGTH_BIASED, biased
    assert status.rows is not None
    return True, Reason.INGESTED, f"{_held(status)}, {_left_out(status.rows)} rows left out"
