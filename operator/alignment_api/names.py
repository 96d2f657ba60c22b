"""Names of everything that the operator makes: objects, labels, annotations, folders in the store."""

from __future__ import annotations

import re

from alignment_api import digests
from alignment_api.model import GROUP
from alignment_api.uris import join

FIELD_MANAGER = "alignment-operator"

CYCLE_KIND = "AlignmentCycle"
CYCLE_PLURAL = "alignmentcycles"
DATASET_KIND = "PreferenceDataset"
DATASET_PLURAL = "preferencedatasets"

MAX_NAME_LENGTH = 40
MAX_JOB_NAME_LENGTH = 60  # the name of its pod with index 99 is a label still
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DOTTED_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
CONFIG_MAP_KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"
# Keys of labels and annotations, NAME or DOMAIN/NAME: annotations may have capitals in the domain.
# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
DOMAIN = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
QUALIFIED = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
LABEL_KEY_PATTERN = f"^({DOMAIN}/)?{QUALIFIED}$"
ANNOTATION_KEY_PATTERN = f"^({DOMAIN.replace('a-z', 'A-Za-z')}/)?{QUALIFIED}$"
MAX_KEY_LENGTH = 253 + 1 + 63

REJECTED_ROWS = "rejected.jsonl"  # in a revision's folder: every row that was left out
VERBS = ("run", "approve", "reject", "cancel", "rollback", "adopt")

LABEL_OWNER_UID = f"{GROUP}/owner-uid"
LABEL_CYCLE = f"{GROUP}/cycle"
LABEL_DATASET = f"{GROUP}/dataset"
LABEL_ITERATION = f"{GROUP}/iteration"
LABEL_STAGE = f"{GROUP}/stage"
LABEL_ATTEMPT = f"{GROUP}/attempt"
LABEL_QUEUE = "kueue.x-k8s.io/queue-name"  # these two are Kueue's own
LABEL_WORKLOAD_OF = "kueue.x-k8s.io/job-uid"

ANNOTATION_STAGE_CONFIG = f"{GROUP}/stage-config"
ANNOTATION_STAGE_HASH = f"{GROUP}/stage-hash"
ANNOTATION_REPORT_CONFIG = f"{GROUP}/report-config"  # of a pod that reads the store for a person
ANNOTATION_DIGEST = f"{GROUP}/digest"
ANNOTATION_OWNER = f"{GROUP}/promoted-by"
ANNOTATION_HELD = f"{GROUP}/held"  # of a Workload that we made inactive


def verb_annotation(verb: str) -> str:
    return f"{GROUP}/{verb}"


def stage_hash(owner_uid: str, config: object) -> str:
    """Tells a Job of this owner and this StageConfig (as JSON value) from any other: 64 hexadecimal digits."""
    return digests.of_json([owner_uid, config]).removeprefix("sha256:")


def job_name(owner: str, iteration: int, stage: str, attempt: int, hash_: str) -> str:
    """At most 60 characters: a long owner is cut short, and the hash still tells it from any other."""
    tail = f"-{iteration}-{stage}-{attempt}-{hash_[:6]}"
    return owner[: MAX_JOB_NAME_LENGTH - len(tail)] + tail


def reading_name(cycle: str, nonce: str) -> str:
    """Of the Job that reads the store for one report."""
    return f"{cycle}-report-{nonce}"


def noise_name(cycle: str, nonce: str) -> str:
    """Of the Job that measures an A/A run."""
    return f"{cycle}-noise-{nonce}"


def service_name(owner: str, owner_uid: str) -> str:
    """Of the headless Service by which the pods of one Job of the owner find each other: one for all its Jobs."""
    return f"ranks-{owner}-{owner_uid[:8]}"


def revision_name(cycle: str, iteration: int) -> str:
    return f"{cycle}-{iteration}"


def cycle_prefix(store: str, namespace: str, name: str, uid: str) -> str:
    """The cycle's own folder in the store; a cycle that is deleted and made again gets another."""
    return join(store, namespace, name, uid)


def iterations_prefix(cycle_prefix: str) -> str:
    """One folder an iteration, one folder a stage in it."""
    return join(cycle_prefix, "iterations")


def ledger_prefix(cycle_prefix: str) -> str:
    """What was sealed for promotion, one file an iteration; `status.promotions` says what was then promoted."""
    return join(cycle_prefix, "ledger")


def judgements_prefix(dataset_prefix: str) -> str:
    """What LLM judges replied to a dataset's refreshes, a file for each source that has one."""
    return join(dataset_prefix, "judgements")


def revisions_prefix(dataset_prefix: str) -> str:
    """One folder a refresh of the dataset."""
    return join(dataset_prefix, "revisions")


def collected_prefix(dataset_prefix: str) -> str:
    """The record of the last collection among a dataset's refreshes."""
    return join(dataset_prefix, "collected")


def refresh_folder(number: int, started_at: str) -> str:
    """A number may come again after a lost status, an instant does not. `started_at` is as status spells it."""
    return f"{number}-{started_at.replace('-', '').replace(':', '')}"


_REFRESH = re.compile(r"([1-9][0-9]*)-([0-9]{8}T[0-9]{6}Z)")


def refresh_of(folder: str) -> tuple[int, str] | None:
    """Number and instant of the refresh whose folder, or URI, that is; None if it is none. Instants sort as text."""
    found = _REFRESH.fullmatch(folder.rpartition("/")[2])
    return (int(found[1]), found[2]) if found else None


_DATASET = re.compile(r"/([^/]+)/revisions/[^/]+")


def dataset_of(revision: str) -> str | None:
    """The uid of the PreferenceDataset whose revision's URI that is; None if it does not say."""
    found = _DATASET.search(revision)
    return found[1] if found else None


def stage_prefix(cycle_prefix: str, iteration: int, stage: str) -> str:
    return join(iterations_prefix(cycle_prefix), str(iteration), stage)
