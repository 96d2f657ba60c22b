"""Where a stage finds its config, its inputs and its own folder: volumes, mounts and the flags that name them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from alignment_api import names, uris
from alignment_api.stage import (
    CollectParameters,
    IngestParameters,
    KeptIterations,
    KeptRevisions,
    PromoteParameters,
    Stage,
    StageConfig,
)

CONFIG_FILE = "/alignment/config/stage.json"
CLAIMS_FOLDER = "/alignment/claims"
CONFIG_MOUNT = {"name": "config", "mountPath": "/alignment/config", "readOnly": True}
OUTPUT_FOLDER = "/alignment/output"
SIGNING_FOLDER = "/alignment/signing"
SIGNING_VOLUME = "signing-key"
_KEY = "key.pem"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the pod's own


@dataclass(frozen=True)
class Mounts:
    """Fields of the pod and its container, and the worker's flags."""

    volumes: list[dict[str, Any]]
    mounts: list[dict[str, Any]]
    flags: list[str]


def mounts_of(config: StageConfig, shared_memory: str | None) -> Mounts:
    """Every claim that an input names, read-only; the stage's own folder, writable; files of the image as they are.

    One volume a claim: a pod that reads and writes the same claim attaches it once.
    """
    read = uris.claims_of(_read(config))
    places = _places(config)
    claims = sorted({*read, *(place.location.claim for place in places)})
    volume = {claim: f"claim-{number}" for number, claim in enumerate(claims)}
    own, key = scratch(shared_memory), _signing_key(config)
    return Mounts(
        volumes=[
            config_volume(names.ANNOTATION_STAGE_CONFIG),
            *own.volumes,
            *key.volumes,
            *({"name": volume[claim], "persistentVolumeClaim": {"claimName": claim}} for claim in claims),
        ],
        mounts=[
            CONFIG_MOUNT,
            *own.mounts,
            *key.mounts,
            *(
                {"name": volume[claim], "mountPath": f"{CLAIMS_FOLDER}/{claim}", "readOnly": True}
                for claim in read
            ),
            *(
                {
                    "name": volume[at.location.claim],
                    "mountPath": at.mount_path,
                    "subPath": str(at.location.path),
                    **({"readOnly": True} if at.read_only else {}),
                }
                for at in places
            ),
        ],
        flags=[
            *(part for claim in read for part in ("--claim", f"{claim}={CLAIMS_FOLDER}/{claim}")),
            *(("--output", OUTPUT_FOLDER) if uris.parse(config.output).claim else ()),
            *key.flags,
        ],
    )


def _read(config: StageConfig) -> list[str]:
    """URIs of the inputs; `collect` has none, and reads the cycle's folder."""
    parameters = config.parameters
    collected = parameters.iterations if isinstance(parameters, CollectParameters) else None
    prefixes = [collected.cycle_prefix] if collected else []
    if isinstance(parameters, IngestParameters) and parameters.judgements:
        prefixes.append(parameters.judgements)
    return [*(input_.uri for input_ in config.inputs.values()), *prefixes]


@dataclass(frozen=True)
class _Place:
    location: uris.Location
    mount_path: str
    read_only: bool = False


def _places(config: StageConfig) -> list[_Place]:
    """The stage's own folder; for `promote` the ledger and what it signs too, for `collect` all iterations, or
    revisions. For `ingest` with an LLM as judge its judgements, which outlive a refresh.

    kubelet gives the last folder of a subPath the mode of its volume, and those above it to root alone, so folders in
    which `collect` will delete are mounted too, from the top, by whoever makes them (kubernetes/kubernetes#97460).
    """
    own = _Place(uris.parse(config.output), OUTPUT_FOLDER)
    if not own.location.claim:
        return []
    match config.parameters:
        case CollectParameters(iterations=KeptIterations(cycle_prefix=prefix)):
            return [_in_its_claim(names.iterations_prefix(prefix)), own]
        case CollectParameters(revisions=KeptRevisions(dataset_prefix=prefix)):
            folders = (names.revisions_prefix(prefix), names.collected_prefix(prefix))
            return [*(_in_its_claim(uri) for uri in folders), own]
        case PromoteParameters(cycle_prefix=prefix, evidence=evidence):
            signed = [_in_its_claim(evidence.candidate_uri)] if config.signature else []
            return [*_above(config), own, _in_its_claim(names.ledger_prefix(prefix)), *signed]
        case IngestParameters(judgements=judgements):
            revisions = replace(_in_its_claim(config.output.rpartition("/")[0]), read_only=True)
            return [revisions, own, *([_in_its_claim(judgements)] if judgements else [])]
        case _:
            return [*_above(config), own]


def _above(config: StageConfig) -> list[_Place]:
    """The folder of all iterations, and that of the stage's."""
    iteration = config.output.rpartition("/")[0]
    iterations = iteration.rpartition("/")[0]
    return [replace(_in_its_claim(uri), read_only=True) for uri in (iterations, iteration)]


def _in_its_claim(uri: str) -> _Place:
    """At its place in the claim that is mounted read-only."""
    location = uris.parse(uri)
    return _Place(location, f"{CLAIMS_FOLDER}/{location.claim}/{location.path}")


def _signing_key(config: StageConfig) -> Mounts:
    """The key of a Secret as a file in memory, for `promote` alone; fsGroup lets the pod's user read it."""
    if config.stage is not Stage.PROMOTE or config.signature is None:
        return Mounts([], [], [])
    reference = config.signature.private_key_secret_ref
    items = [{"key": reference.key, "path": _KEY}]
    secret = {"secretName": reference.name, "items": items, "defaultMode": 0o440}
    return Mounts(
        volumes=[{"name": SIGNING_VOLUME, "secret": secret}],
        mounts=[{"name": SIGNING_VOLUME, "mountPath": SIGNING_FOLDER, "readOnly": True}],
        flags=["--signing-key", f"{SIGNING_FOLDER}/{_KEY}"],
    )


def config_volume(annotation: str) -> dict[str, Any]:
    """The pod's own annotation, as the file `CONFIG_FILE`."""
    field = f"metadata.annotations['{annotation}']"
    item = {"path": "stage.json", "fieldRef": {"fieldPath": field}}
    return {"name": "config", "downwardAPI": {"items": [item]}}


def scratch(shared_memory: str | None) -> Mounts:
    """What a pod may write to for itself."""
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - the pod's own
    if shared_memory is not None:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}})
        mounts.append({"name": "shm", "mountPath": SHARED_MEMORY})
    return Mounts(volumes, mounts, [])
