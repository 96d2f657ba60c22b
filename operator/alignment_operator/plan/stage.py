"""One stage: from what its Job shows to what becomes of it. Shared by cycles and datasets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from alignment_api import names
from alignment_api.conditions import Reason
from alignment_api.cycle_status import StageStatus
from alignment_api.pods import PodDefaults
from alignment_api.stage import (
    DIVERGED_AT,
    SIGNED,
    STORE_FULL,
    WORK,
    ExitCode,
    Stage,
    StageConfig,
    StageReport,
    StageResult,
)
from alignment_operator.observed import JobState, JobView, PodView
from alignment_operator.plan import instants
from alignment_operator.planned import Action, DeleteJob, StartJob

MAX_DISRUPTIONS = 20
MAX_MESSAGE = 4096
_TRAINING = (Stage.REWARD, Stage.TRAIN)  # what they make is a model
_FIRST_WAIT_SECONDS = 5
_LONGEST_WAIT_SECONDS = 60
_GANG_FIRST_WAIT_SECONDS = 10  # as the Job controller waits between the pods of other Jobs
_GANG_LONGEST_WAIT_SECONDS = 360
_MOST_WAIT = timedelta(
    seconds=_GANG_LONGEST_WAIT_SECONDS
)  # what is further ahead was a clock's that was put back
_LOST_AFTER = timedelta(seconds=30)  # kubelet kills at the end of the grace, and says so soon after


@dataclass(frozen=True)
class Progress:
    """The stage's next status, what to do for it, and when to look again."""

    status: StageStatus
    actions: tuple[Action, ...] = ()
    wake_at: datetime | None = None


def advance(
    status: StageStatus,
    config: StageConfig,
    owner_name: str,
    jobs: Iterable[JobView],
    pods: PodDefaults,
    now: datetime,
    *,
    wait_for_inputs: bool,
) -> Progress:
    """`status` is neither Succeeded nor Failed; `jobs` are all of the owner's Jobs."""
    hash_ = names.stage_hash(config.owner_uid, config.to_wire())
    mine = [job for job in jobs if job.stage == config.stage and job.iteration == config.iteration]
    if status.job is None:
        return _begin(status, config, hash_, owner_name, mine, pods, now)
    job = next((job for job in mine if job.name == status.job and job.uid == status.job_uid), None)
    if job is None:
        return _another_attempt(status, now, f"Job {status.job} is gone", disrupted=True)
    if job.deleting:
        return Progress(status)
    status = _watched(status, job)
    match job.state:
        case JobState.SUCCEEDED:
            return _succeeded(status, job, config, now)
        case JobState.FAILED:
            return _failed(status, job, config, pods, now, wait_for_inputs=wait_for_inputs)
        case JobState.ACTIVE:
            return _active(status, job, pods, now)


def _watched(status: StageStatus, job: JobView) -> StageStatus:
    """With what a person watches and nothing depends on."""
    progress = job.progress or status.progress if job.state is JobState.ACTIVE else None
    return status.model_copy(update={"retries": job.failures, "progress": progress})


def _begin(
    status: StageStatus,
    config: StageConfig,
    hash_: str,
    owner_name: str,
    mine: list[JobView],
    pods: PodDefaults,
    now: datetime,
) -> Progress:
    refused = status.pending_since if status.reason == Reason.REFUSED else None
    if refused and now >= instants.after(refused, pods.pending_deadline_seconds):
        return Progress(failed(status, now, Reason.PENDING_DEADLINE_EXCEEDED, status.message or ""))
    if status.retry_at and now < (due := instants.parse(status.retry_at)) <= now + _MOST_WAIT:
        return Progress(status, wake_at=due)
    if any(job.state == JobState.ACTIVE for job in mine if not _is(job, status, hash_)):
        # Another attempt still lives: housekeeping has asked for its deletion, and its end wakes us.
        return Progress(status)
    name = names.job_name(owner_name, config.iteration, config.stage.value, status.attempt, hash_)
    begun = status.model_copy(
        update={
            "job": name,
            "started_at": status.started_at or instants.spell(now),
            "pending_since": status.pending_since or instants.spell(now),
            "retry_at": None,
        }
    )
    there = next((job for job in mine if _is(job, status, hash_)), None)
    if there and there.deleting:
        return Progress(status)
    if there:
        return Progress(begun.model_copy(update={"job_uid": there.uid}), wake_at=now)
    start = StartJob(name=name, hash=hash_, config=config, attempt=status.attempt, pods=pods)
    return Progress(begun, (start,), now + timedelta(seconds=pods.pending_deadline_seconds))


def _is(job: JobView, status: StageStatus, hash_: str) -> bool:
    return job.attempt == status.attempt and job.hash == hash_


def _another_attempt(
    status: StageStatus, now: datetime, message: str, *, disrupted: bool, wait_seconds: float = 0
) -> Progress:
    disruptions = status.disruptions + disrupted
    if disruptions > MAX_DISRUPTIONS:
        message = f"{disruptions} attempts were lost, the last because {message}"
        return Progress(failed(status, now, Reason.TOO_MANY_DISRUPTIONS, message))
    due = now + timedelta(seconds=wait_seconds)
    waiting = status.model_copy(
        update={
            "state": "Pending",
            "job": None,
            "job_uid": None,
            "retries": 0,
            "progress": None,
            "attempt": status.attempt + 1,
            "disruptions": disruptions,
            "retry_at": instants.spell(due) if wait_seconds else None,
            "message": message[:MAX_MESSAGE],
        }
    )
    return Progress(waiting, wake_at=due)


def _succeeded(status: StageStatus, job: JobView, config: StageConfig, now: datetime) -> Progress:
    report = _report(job.pod)
    if job.pod and job.pod.report and (report is None or report.result is None):
        message = (
            f"the worker of Job {job.name} reports what this operator cannot read: {job.pod.report[:200]}"
        )
        return Progress(failed(status, now, Reason.RESULT_INVALID, message))
    if job.pod and job.pod.exit_code == 0 and not job.pod.report:
        message = f"the worker of Job {job.name} ended well and reported nothing; is its image the worker's?"
        return Progress(failed(status, now, Reason.RESULT_INVALID, message))
    if report is None or report.result is None:
        # The pod went before its message was read. The next attempt finds the manifest and says it again.
        return _another_attempt(
            status, now, f"the result of Job {job.name} was lost with its pod", disrupted=True
        )
    if idle := _idle(status.name, report.result):
        return Progress(failed(status, now, ExitCode.NO_WORK_DONE.reason, idle))
    if strange := _strange(config, report.result):
        return Progress(failed(status, now, Reason.RESULT_INVALID, strange))
    done = status.model_copy(
        update={
            "state": "Succeeded",
            "finished_at": instants.spell(now),
            "result": report.result,
            "reason": None,
            "message": _cut_short(report.result),
            "pending_since": None,
        }
    )
    return Progress(done, wake_at=now)


def _idle(stage: Stage, result: StageResult) -> str:
    """Why the stage is not done though it says so; empty if it is."""
    unit = WORK[stage]
    asked = stage is Stage.INGEST and result.counts.get("prompts", 0) > 0  # of a log that nobody judged
    if result.counts.get(unit, 0) < 1 and not asked:
        return f"stage {stage.value} reports {result.counts.get(unit, 0)} {unit}; it did nothing"
    if stage in _TRAINING and result.model is None:
        return f"stage {stage.value} reports no model"
    return ""


def _cut_short(result: StageResult) -> str | None:
    """What a person should know of a training that was stopped, and still made a model."""
    step = result.counts.get(DIVERGED_AT)
    if step is None:
        return None
    kept = result.counts["steps"]
    return f"training diverged at step {step}; the model is that of step {kept}, its last sound checkpoint"


def _strange(config: StageConfig, result: StageResult) -> str:
    """How the result is not of what the stage was told to do; empty if it is."""
    name = config.stage.value
    if result.manifest.uri != config.output:
        return f"stage {name} reports a manifest in {result.manifest.uri}; its folder is {config.output}"
    for role, digest in result.inputs.items():
        told = config.inputs[role].digest if role in config.inputs else None
        of_several = any(given.startswith(f"{role}/") for given in config.inputs)
        if not (role in config.inputs or of_several) or (told and told != digest):
            return f"stage {name} reports {digest} of {role}, which it was not asked for"
    if config.stage is Stage.PROMOTE and config.signature and not result.counts.get(SIGNED):
        return f"stage {name} reports no signature, but spec.promotion asks for one; is its image of this release?"
    if result.model and config.stage in _TRAINING and not result.model.uri.startswith(config.output + "/"):
        return f"stage {name} reports a model in {result.model.uri}; its folder is {config.output}"
    return ""


def _failed(
    status: StageStatus,
    job: JobView,
    config: StageConfig,
    pods: PodDefaults,
    now: datetime,
    *,
    wait_for_inputs: bool,
) -> Progress:
    code = job.pod.exit_code if job.pod else None
    report = _report(job.pod)
    said = report.failure if report else None
    message = said.message if said else job.message or f"Job {job.name} failed"
    if code == ExitCode.INPUT_MISSING:
        if not wait_for_inputs:
            return Progress(failed(status, now, ExitCode.INPUT_MISSING.reason, message))
        return _waits(status, job, ExitCode.INPUT_MISSING.reason, message, pods, now)
    if said and said.reason == STORE_FULL:
        return _waits(status, job, STORE_FULL, message, pods, now)
    if job.pod and job.pod.disrupted:
        return _another_attempt(status, now, f"Job {job.name} was disrupted", disrupted=True)
    if job.failure == "DeadlineExceeded":
        reason: str = Reason.DEADLINE_EXCEEDED
        message = f"ran longer than activeDeadlineSeconds {pods.active_deadline_seconds}"
    elif said:
        reason = said.reason
    elif code in set(ExitCode):
        reason = ExitCode(code).reason
    else:
        reason = Reason.JOB_FAILED
        message = f"{message} (exit code {code})" if code is not None else message
    mendable = job.failure == "BackoffLimitExceeded" and code not in set(ExitCode) - {ExitCode.DONE}
    if config.nodes > 1 and mendable and status.failures < pods.retries:
        return _gang_again(status, now, message)
    return Progress(failed(status, now, reason, message))


def _gang_again(status: StageStatus, now: datetime, message: str) -> Progress:
    """A Job of several nodes has no retries of its own: one pod that starts again would hang the others."""
    wait = min(_GANG_FIRST_WAIT_SECONDS * 2**status.failures, _GANG_LONGEST_WAIT_SECONDS)
    again = _another_attempt(status, now, message, disrupted=False, wait_seconds=wait)
    counted = again.status.model_copy(update={"failures": status.failures + 1})
    return Progress(counted, wake_at=again.wake_at)


def _waits(
    status: StageStatus, job: JobView, reason: str, message: str, pods: PodDefaults, now: datetime
) -> Progress:
    """For what a person has to mend while the stage looks again and again: an input, or room in the store."""
    since = status.pending_since or instants.spell(now)
    if now >= instants.after(since, pods.pending_deadline_seconds):
        return Progress(failed(status, now, reason, message))
    wait = min(_FIRST_WAIT_SECONDS * 2 ** min(status.attempt, 10), _LONGEST_WAIT_SECONDS)
    again = _another_attempt(status, now, message, disrupted=False, wait_seconds=wait)
    waiting = again.status.model_copy(update={"reason": reason, "pending_since": since})
    return Progress(waiting, (DeleteJob(job.name, job.uid),), again.wake_at)


def _active(status: StageStatus, job: JobView, pods: PodDefaults, now: datetime) -> Progress:
    lost_at = job.pod.gone_by + _LOST_AFTER if job.pod and job.pod.gone_by else None
    if lost_at and now >= lost_at:
        # The Job controller waits for that pod for ever. The store's one manifest fences it.
        message = f"a pod of Job {job.name} is Terminating past its grace: its node is lost"
        again = _another_attempt(status, now, message, disrupted=True)
        return Progress(again.status, (DeleteJob(job.name, job.uid),), again.wake_at)
    if job.suspended:
        # However long the queue is: what is waited for is somebody else's end, and nothing is amiss.
        said = (job.pod.pending if job.pod else "") or status.message
        queued = status.model_copy(update={"state": "Pending", **_waited(status), "message": said})
        return Progress(queued, wake_at=lost_at)
    if job.pod and job.pod.started:
        running = status.model_copy(update={"state": "Running", "message": None, **_waited(status)})
        return Progress(running, wake_at=lost_at)
    # A pod that replaces a disrupted one begins to wait now, however old its Job is.
    since = status.pending_since or instants.spell(now)
    cause = job.pod.pending if job.pod else ""
    deadline = instants.after(since, pods.pending_deadline_seconds)
    if now < deadline:
        said = (cause or status.message or "")[:MAX_MESSAGE] or None
        waiting = status.model_copy(update={"state": "Pending", "message": said, "pending_since": since})
        return Progress(waiting, wake_at=min(filter(None, (deadline, lost_at))))
    message = f"no worker has started within {pods.pending_deadline_seconds} s: {cause or 'no pod was made'}"
    return Progress(
        failed(status, now, Reason.PENDING_DEADLINE_EXCEEDED, message), (DeleteJob(job.name, job.uid),)
    )


def _waited(status: StageStatus) -> dict[str, None]:
    """The wait for a pod is over, unless its worker only looks whether a person has mended something."""
    if status.reason in {ExitCode.INPUT_MISSING.reason, STORE_FULL}:
        return {}
    return {"reason": None, "pending_since": None}


def failed(status: StageStatus, now: datetime, reason: str, message: str) -> StageStatus:
    return status.model_copy(
        update={
            "state": "Failed",
            "finished_at": instants.spell(now),
            "progress": None,
            "retry_at": None,
            "reason": str(reason),
            "message": message[:MAX_MESSAGE],
        }
    )


def _report(pod: PodView | None) -> StageReport | None:
    if pod is None or not pod.report:
        return None
    try:
        return StageReport.decode(pod.report)
    except ValueError:
        return None
