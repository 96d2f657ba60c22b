"""Inputs that manifests name and that are not on this machine, told before anything is started."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from alignment_api import uris
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.dataset import PreferenceDatasetSpec, Source
from alignment_api.stage import Located as Checkpoint
from alignment_api.validation import Problem
from alignment_operator.api import CYCLE, DATASET
from alignment_operator.cli.inputs import Given, namespace_of
from alignment_operator.cli.manifests import Document, Located
from alignment_operator.local.admission import admitted
from alignment_operator.local.claims import Claims
from alignment_operator.local.directory import Directory
from alignment_operator.local.run import cycle_status, dataset_status, is_running, is_unfinished
from alignment_operator.plan import pipeline

_FIELDS = {
    "policy": "spec.policy.model",
    "initial": "spec.policy.model",
    "backbone": "spec.reward.model",
    "embedding": "spec.gates.contamination.embedding.model",
    "prompts": "spec.prompts.uri",
    "goldSet": "spec.evaluation.goldSet.uri",
    "heldOutPrompts": "spec.evaluation.heldOutPrompts.uri",
    "judge": "spec.judge.rewardModel.uri",
    "comparisonJudge": "spec.evaluation.comparison.judge.rewardModel.uri",
}

Named = tuple[str, str]  # a field's path, and the URI that it holds


async def before_a_run(manifests: Given, claims: Claims, state: Path) -> list[Located]:
    """Of what a run would begin: an unfinished iteration or refresh goes on, and has read its inputs already.

    Raises InvalidObjectError, CorruptFileError, OSError.
    """
    api = Directory(state)
    datasets = {document.name: document for document in manifests.datasets}
    found: list[Located] = []
    for document in manifests.cycles:
        live = await api.get(CYCLE, namespace_of(document.value), document.name)
        spec = AlignmentCycleSpec.from_wire(admitted(CYCLE, document.value, live)["spec"])
        if spec.suspend or (live and is_unfinished(live)):
            return []
        promoted = cycle_status(live).promoted if live else None
        incumbent = Checkpoint(uri=promoted.uri, digest=promoted.digest) if promoted else None
        found += [document.located(problem) for problem in problems(of_cycle(spec, incumbent), claims)]
        for reference in spec.datasets or []:
            earlier = await api.get(DATASET, namespace_of(document.value), reference.name)
            if earlier is not None:
                file = state / "objects" / DATASET.plural / namespace_of(earlier) / f"{reference.name}.json"
                datasets.setdefault(reference.name, Document(file, earlier))
    for document in datasets.values():
        live = await api.get(DATASET, namespace_of(document.value), document.name)
        if live is None or not is_running(dataset_status(live)):
            of_this = of_dataset(PreferenceDatasetSpec.from_wire(document.value["spec"]))
            found += [document.located(problem) for problem in problems(of_this, claims)]
    return found


def of_cycle(spec: AlignmentCycleSpec, incumbent: Checkpoint | None = None) -> list[Named]:
    """What its next iteration reads."""
    named = {role: (_FIELDS[role], uri) for role, (uri, _) in pipeline.named_inputs(spec, incumbent).items()}
    if incumbent:
        named["policy"] = ("status.promoted.uri", incumbent.uri)
    return list(dict.fromkeys(named.values()))


def of_dataset(spec: PreferenceDatasetSpec) -> list[Named]:
    """What its refresh reads."""
    named = [
        item
        for index, source in enumerate(spec.sources)
        for item in _of_source(f"spec.sources[{index}]", source)
    ]
    curation = spec.curation
    for index, uri in enumerate(curation.contamination.gold_sets if curation.contamination else ()):
        named.append((f"spec.curation.contamination.goldSets[{index}]", uri))
    if curation.filter:
        named.append(("spec.curation.filter.model", curation.filter.model))
    if curation.embedding:
        named.append(("spec.curation.embedding.model", curation.embedding.model))
    return named


def _of_source(field: str, source: Source) -> Iterator[Named]:
    if source.files:
        yield f"{field}.files.uri", source.files.uri
    if log := source.inference_log:
        if "*" not in log.uri:  # a log may have no files yet
            yield f"{field}.inferenceLog.uri", log.uri
        judge = log.judge
        if judge and judge.reward_model and judge.reward_model.uri:
            yield f"{field}.inferenceLog.judge.rewardModel.uri", judge.reward_model.uri
        if judge and judge.verifier:
            yield f"{field}.inferenceLog.judge.verifier.prompts", judge.verifier.prompts


def problems(named: Iterable[Named], claims: Claims) -> list[Problem]:
    """Of those that are not there; what is in a bucket is not looked for."""
    return [
        Problem(field, uri, _what_to_do(uri, path))
        for field, uri in named
        if not uris.in_bucket(uri) and not _is_there(path := claims.path(uri))
    ]


def _what_to_do(uri: str, path: Path) -> str:
    claim = uris.parse(uri).claim
    correct = "or correct the URI"
    if claim:
        correct = f"correct the URI, or give the folder that is pvc://{claim}: --claim {claim}=DIR"
    return f"is not there (looked for {path}). Put it there, {correct}"


def _is_there(path: Path) -> bool:
    """Of a pattern, whether any file is named so; `*` alone stands for other characters."""
    first = next((index for index, part in enumerate(path.parts) if "*" in part), None)
    try:
        if first is None:
            return path.exists()
        pattern = glob.escape("/".join(path.parts[first:])).replace("[*]", "*")
        return any(Path(*path.parts[:first]).glob(pattern))
    except OSError:
        return False
