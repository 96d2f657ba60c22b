"""The only writer: what a plan decided, in its order, then one status, then events.

A pass may end at any point and be planned again. So everything made has a deterministic name and is adopted if it
is there already, everything deleted or changed is named by UID, and the status is written with the resourceVersion
that the plan was made from, or not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from alignment_api import names
from alignment_api.conditions import ConditionType, Reason
from alignment_api.cycle import ConfigMapTarget
from alignment_api.cycle_status import AlignmentCycleStatus, DatasetRevision, StageStatus
from alignment_api.dataset import PreferenceDatasetStatus
from alignment_operator.api import (
    CONTROLLER_REVISION,
    CYCLE,
    DATASET,
    JOB,
    SERVICE,
    TARGET_KINDS,
    WORKLOAD,
    AlreadyExistsError,
    Api,
    ConflictError,
    Kind,
    Manifest,
    NotFoundError,
    RefusedError,
)
from alignment_operator.observe.objects import status_of
from alignment_operator.observed import ObservedCycle, ObservedDataset, Owner, Settings
from alignment_operator.planned import (
    Action,
    CyclePlan,
    DatasetPlan,
    DeleteJob,
    DeleteRevision,
    Event,
    ExpireJob,
    Freeze,
    HoldJob,
    PointTarget,
    StartJob,
    SuspendJob,
)
from alignment_operator.render import (
    parse_revision,
    render_job,
    render_revision,
    render_service,
    render_target,
)

log = logging.getLogger(__name__)


class NameTakenError(Exception):
    """An object of the name that we need is there, and is not the one that we would make."""


Status = TypeVar("Status", AlignmentCycleStatus, PreferenceDatasetStatus)


@dataclass(frozen=True)
class Applied(Generic[Status]):
    """`status` was written, and made the object what `latest` is; both None if nothing changed.

    `unseen`: it made or found what only the next pass will see, and what no watch need announce.
    """

    status: Status | None
    latest: Manifest | None
    unseen: bool = False
    refused: bool = False


async def apply_cycle(api: Api, observed: ObservedCycle, plan: CyclePlan) -> Applied[AlignmentCycleStatus]:
    """Raises ConflictError if the cycle was written meanwhile, and what the API raises."""
    targets = observed.spec.promotion.targets or [] if observed.spec else []
    config_maps = [target.config_map for target in targets if target.config_map]
    pass_ = _Pass(api, CYCLE, observed.owner, observed.settings, config_maps)
    try:
        started = await pass_.act(plan.actions)
    except NameTakenError as error:  # a ControllerRevision's: the iteration does not start before it is gone
        status = _stalled(observed.status, plan.status, str(error))
        latest = await pass_.write_status(status) if status != observed.status else None
        return Applied(status if latest else None, latest, refused=True)
    changed = _each_stage(plan.status, lambda stage: _with_uid(stage, started))
    status = pass_.refusals_in(changed, observed.status)
    written = None if status == observed.status else status
    latest = await pass_.write_status(written) if written else None
    await pass_.tell(plan.events)
    return Applied(written, latest, pass_.unseen, pass_.was_refused)


async def apply_dataset(
    api: Api, observed: ObservedDataset, plan: DatasetPlan
) -> Applied[PreferenceDatasetStatus]:
    """As `apply_cycle`."""
    pass_ = _Pass(api, DATASET, observed.owner, observed.settings, ())
    started = await pass_.act(plan.actions)
    status = plan.status
    if status.ingest is not None:
        ingest = pass_.refusal_in(_with_uid(status.ingest, started))
        status = status.model_copy(update={"ingest": ingest})
    if status.collection is not None:
        stage = pass_.refusal_in(_with_uid(status.collection.stage, started))
        status = status.model_copy(
            update={"collection": status.collection.model_copy(update={"stage": stage})}
        )
    written = None if status == observed.status else status
    latest = await pass_.write_status(written) if written else None
    await pass_.tell(plan.events)
    return Applied(written, latest, pass_.unseen, pass_.was_refused)


def _stalled(
    before: AlignmentCycleStatus, planned: AlignmentCycleStatus, message: str
) -> AlignmentCycleStatus:
    """The status before, with conditions that say why it stays so."""
    said = {ConditionType.READY: "False", ConditionType.STALLED: "True"}
    conditions = [
        condition.model_copy(
            update={
                "status": said[ConditionType(condition.type)],
                "reason": str(Reason.NAME_TAKEN),
                "message": message,
            }
        )
        if condition.type in said
        else condition
        for condition in (before.conditions or planned.conditions)
    ]
    return before.model_copy(
        update={"conditions": conditions, "observed_generation": planned.observed_generation}
    )


def _each_stage(
    status: AlignmentCycleStatus, change: Callable[[StageStatus], StageStatus]
) -> AlignmentCycleStatus:
    """The status with every stage that may have a Job changed: the iteration's and `collect`."""
    if iteration := status.iteration:
        stages = [change(stage) for stage in iteration.stages]
        status = status.model_copy(update={"iteration": iteration.model_copy(update={"stages": stages})})
    if collection := status.collection:
        stage = change(collection.stage)
        status = status.model_copy(update={"collection": collection.model_copy(update={"stage": stage})})
    return status


def _with_uid(stage: StageStatus, started: dict[str, str]) -> StageStatus:
    uid = started.get(stage.job or "")
    return stage.model_copy(update={"job_uid": uid}) if uid else stage


class _Pass:
    """The writes of one pass."""

    def __init__(
        self, api: Api, kind: Kind, owner: Owner, settings: Settings, config_maps: Sequence[ConfigMapTarget]
    ) -> None:
        self.unseen = False
        self.refused: dict[str, str] = {}  # what the API server said, by the name of the Job
        self.unwritten_targets: dict[
            str, str
        ] = {}  # the same, by kind and name; nothing if it has only changed
        self._api = api
        self._kind = kind
        self._owner = owner
        self._settings = settings
        self._config_maps = config_maps

    @property
    def was_refused(self) -> bool:
        return bool(self.refused or any(self.unwritten_targets.values()))

    async def act(self, actions: Sequence[Action]) -> dict[str, str]:
        """UIDs of the Jobs started, by name."""
        started = {}
        for action in actions:
            match action:
                case StartJob():
                    if uid := await self._start(action):
                        started[action.name] = uid
                case Freeze():
                    await self._freeze(action)
                case DeleteJob():
                    await self._api.delete(JOB, self._owner.namespace, action.name, action.uid)
                case DeleteRevision():
                    await self._api.delete(
                        CONTROLLER_REVISION, self._owner.namespace, action.name, action.uid
                    )
                case SuspendJob() | ExpireJob():
                    await self._change(action)
                case HoldJob():
                    await self._hold(action)
                case PointTarget():
                    await self._point(action)
        return started

    def refusals_in(
        self, status: AlignmentCycleStatus, observed: AlignmentCycleStatus
    ) -> AlignmentCycleStatus:
        """The status with what did not come of it: a stage's Job, or a write to a target."""
        if self.was_refused:
            status = _each_stage(status, self.refusal_in)
        return self._without_unwritten(status, observed) if self.unwritten_targets else status

    def _without_unwritten(
        self, status: AlignmentCycleStatus, observed: AlignmentCycleStatus
    ) -> AlignmentCycleStatus:
        """What was not written to a target counts neither as written nor as taken back."""
        before = {(row.kind, row.name, row.key): row for row in observed.targets}
        rows = [
            before.get((row.kind, row.name, row.key))
            if f"{row.kind} {row.name}" in self.unwritten_targets
            else row
            for row in status.targets
        ]
        refused = "; ".join(f"{where}: {said}" for where, said in self.unwritten_targets.items() if said)
        conditions = [
            condition.model_copy(update={"reason": str(Reason.REFUSED), "message": refused[:4096]})
            if refused and condition.type == ConditionType.TARGETS_SYNCED
            else condition
            for condition in status.conditions
        ]
        written = [row for row in rows if row]
        return status.model_copy(update={"conditions": conditions, "targets": written})

    def refusal_in(self, stage: StageStatus) -> StageStatus:
        """The stage as it is without the Job that was refused: it waits until one is let in."""
        said = self.refused.get(stage.job or "")
        if said is None:
            return stage
        message = f"Job {stage.job} was refused: {said}"[:4096]
        return stage.model_copy(update={"job": None, "reason": str(Reason.REFUSED), "message": message})

    async def write_status(self, status: AlignmentCycleStatus | PreferenceDatasetStatus) -> Manifest:
        """The object as it is then."""
        identity = self._identity()
        identity["metadata"]["resourceVersion"] = self._owner.resource_version
        try:
            return await self._api.replace_status(self._kind, {**identity, "status": status.to_wire()})
        except RefusedError as error:
            await self.tell(
                [
                    Event(
                        "StatusRefused",
                        f"the status was not taken: {error}"[:1024],
                        warning=True,
                        about="status",
                    )
                ]
            )
            raise

    async def tell(self, events: Sequence[Event]) -> None:
        """Nothing depends on an event, so one that cannot be written is logged."""
        for event in events:
            level = logging.WARNING if event.warning else logging.INFO
            where = f"{self._kind.kind} {self._owner.namespace}/{self._owner.name}"
            log.log(level, "%s: %s: %s", where, event.reason, event.message)
            try:
                await self._api.emit(
                    self._identity(), event.reason, event.message, warning=event.warning, about=event.about
                )
            except Exception:
                log.exception("%s: event %s was not written", where, event.reason)

    async def _start(self, action: StartJob) -> str | None:
        """Its UID; None if the API server would not have it, for a quota or an admission policy."""
        manifest = render_job(self._owner, action, self._settings)
        try:
            if action.config.nodes > 1:
                await self._serve()
            created = await self._create(JOB, manifest)
            if created is None:
                created = await self._api.get(JOB, self._owner.namespace, action.name)
                if created is None:
                    raise ConflictError(
                        f"Job {action.name} was there and is gone; next time it is made again"
                    )
                await self._require_ours(created, "Job", action.hash)
                self.unseen = True
        except (RefusedError, NameTakenError) as error:
            self.refused[action.name] = str(error)
            return None
        return str(created["metadata"]["uid"])

    async def _serve(self) -> None:
        """Before the Job: its pods find each other by it."""
        manifest = render_service(self._owner)
        if await self._create(SERVICE, manifest) is None:
            name = manifest["metadata"]["name"]
            there = await self._api.get(SERVICE, self._owner.namespace, name)
            if there is None:
                raise ConflictError(f"Service {name} was there and is gone; next time it is made again")
            await self._require_ours(there, "Service", None)

    async def _freeze(self, action: Freeze) -> None:
        """Raises ConflictError too if a dataset's revision was let go since the plan was made: plan again.

        Whoever lets one go writes that first and then looks who has frozen it, so here it is the other way round.
        """
        manifest = render_revision(self._owner, action.frozen)
        there = await self._create(CONTROLLER_REVISION, manifest)
        if there is None:
            there = await self._api.get(CONTROLLER_REVISION, self._owner.namespace, action.frozen.name)
            if there is None:
                raise ConflictError(f"ControllerRevision {action.frozen.name} was there and is gone")
            await self._require_ours(there, "ControllerRevision", None)
            if parse_revision(there) != action.frozen:
                raise ConflictError(
                    f"ControllerRevision {action.frozen.name} froze something else; plan again with it"
                )
        for revision in action.frozen.datasets:
            if not await self._is_kept(revision):
                uid = there["metadata"]["uid"]
                await self._api.delete(CONTROLLER_REVISION, self._owner.namespace, action.frozen.name, uid)
                raise ConflictError(
                    f"revision {revision.revision} of {revision.name} is no longer kept; plan again"
                )

    async def _is_kept(self, frozen: DatasetRevision) -> bool:
        dataset = await self._api.get(DATASET, self._owner.namespace, frozen.name)
        if dataset is None:
            return False
        kept = status_of(PreferenceDatasetStatus, dataset).kept
        return any(revision.uri == frozen.uri for revision in kept)

    async def _create(self, kind: Kind, manifest: Manifest) -> Manifest | None:
        """None if one of that name is there. A refusal is told to the user: only a person can mend it."""
        try:
            return await self._api.create(kind, manifest)
        except AlreadyExistsError:
            return None
        except RefusedError as error:
            message = f"{kind.kind} {manifest['metadata']['name']} was refused: {error}"
            # The server's words have figures in them, such as what of a quota is used now.
            name = manifest["metadata"]["name"]
            await self.tell([Event(f"{kind.kind}Refused", message, warning=True, about=name)])
            raise

    async def _require_ours(self, there: Manifest, kind: str, hash_: str | None) -> None:
        """Adopted only if its controller is this very owner and, for a Job, it computes the same."""
        metadata = there["metadata"]
        where = f"{kind} {metadata['name']}"
        if metadata.get("deletionTimestamp"):
            raise ConflictError(f"{where} is being deleted; it is made again when it is gone")
        references = metadata.get("ownerReferences") or []
        controller = next((each["uid"] for each in references if each.get("controller")), None)
        carried = (metadata.get("annotations") or {}).get(names.ANNOTATION_STAGE_HASH)
        if controller != self._owner.uid:
            problem = f"{where} is there already and belongs to {controller or 'nobody'}; delete it to go on"
        elif hash_ is not None and carried != hash_:
            problem = f"{where} is there already and computes something else; delete it to go on"
        else:
            return
        await self.tell([Event("NameTaken", problem, warning=True, about=where)])
        raise NameTakenError(problem)

    async def _hold(self, action: HoldJob) -> None:
        owned = {names.LABEL_WORKLOAD_OF: action.uid}
        try:
            for workload in await self._api.list(WORKLOAD, self._owner.namespace, owned):
                metadata = workload["metadata"]
                mark = {names.ANNOTATION_HELD: "true" if action.hold else None}
                patch = {
                    "metadata": {"uid": metadata["uid"], "annotations": mark},
                    "spec": {"active": not action.hold},
                }
                await self._api.merge(WORKLOAD, self._owner.namespace, metadata["name"], patch)
        except (NotFoundError, RefusedError) as error:
            log.warning("Workload of Job %s: spec.active was not set: %s", action.name, error)

    async def _change(self, action: SuspendJob | ExpireJob) -> None:
        match action:
            case SuspendJob(suspend=suspend):
                spec: Manifest = {"suspend": suspend}
            case ExpireJob(seconds=seconds):
                spec = {"ttlSecondsAfterFinished": seconds}
        patch = {"metadata": {"uid": action.uid}, "spec": spec}
        try:
            await self._api.merge(JOB, self._owner.namespace, action.name, patch)
        except (NotFoundError, ConflictError):
            log.debug("Job %s is gone, or another's; it needs nothing of ours", action.name)

    async def _point(self, action: PointTarget) -> None:
        same = [each for each in self._config_maps if each.name == action.name]
        target = render_target(self._owner, action, same)
        try:
            await self._api.apply(TARGET_KINDS[action.kind], target, force=True)
        except (RefusedError, NotFoundError) as error:
            self.unwritten_targets[action.where] = str(error)
            return
        except ConflictError as error:  # it may carry what is newer than this pass; the next one looks at it
            log.info("%s was not written: %s", action.where, error)
            self.unwritten_targets[action.where] = ""
        self.unseen = True

    def _identity(self) -> Manifest:
        return {
            "apiVersion": self._kind.api_version,
            "kind": self._kind.kind,
            "metadata": {
                "name": self._owner.name,
                "namespace": self._owner.namespace,
                "uid": self._owner.uid,
            },
        }
