"""What a dataset's stage `ingest` is given."""

from __future__ import annotations

from alignment_api import names
from alignment_api.cycle_status import StageStatus
from alignment_api.dataset import PreferenceDatasetSpec, Revision, Source
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
)
from alignment_api.uris import join
from alignment_operator.observed import ObservedDataset


def config_of(
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
            filter=IngestedFilter(flag_below=curation.filter.flag_below, action=curation.filter.action)
            if curation.filter
            else None,
            judgements=names.judgements_prefix(prefix) if _asks_an_llm(spec) else None,
            pii=curation.pii.action if curation.pii else None,
        ),
        seed=0,
    )


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
