"""What the pods of a Job amount to: one view, however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

from alignment_api.stage import ExitCode, StageReport
from alignment_operator.api import Manifest
from alignment_operator.observed import JobState, PodView
from alignment_operator.render.layout import WORKER

_INDEX = "batch.kubernetes.io/job-completion-index"
_LAST_WORDS = 300


class Layout(Enum):
    """How the pods of a Job stand to each other, by what the Job controller is told to do when one fails."""

    ONE = "one"
    SHARDS = "shards"  # each goes on for itself
    GANG = "gang"  # they compute together or not at all


def layout_of(job: Manifest) -> Layout:
    spec = job.get("spec", {})
    if spec.get("completionMode") != "Indexed":
        return Layout.ONE
    return Layout.SHARDS if "backoffLimitPerIndex" in spec else Layout.GANG


def computing(job: Manifest) -> bool:
    """Whether the Job's own counts say that its workers run, so that its pods need not be listed."""
    ready: int = job.get("status", {}).get("ready") or 0
    needed: int = job["spec"]["completions"] if layout_of(job) is Layout.GANG else 1
    return ready >= needed


def view_of(job: Manifest, pods: Sequence[Manifest], state: JobState) -> PodView | None:
    """None if there are no pods."""
    if not pods:
        return None
    layout = layout_of(job)
    if layout is Layout.ONE:
        return pod_view(max(pods, key=lambda pod: _rank(pod, state)))
    match state:
        case JobState.SUCCEEDED:
            return _whole(pod_view(pod) for pod in pods)
        case JobState.FAILED:
            return _culprit(_newest(pods), layout)
        case JobState.ACTIVE:
            views = [pod_view(pod) for pod in _newest(pods)]
            if layout is Layout.GANG:
                return _together(views, job["spec"]["completions"])
            return _side_by_side(views)


def pod_view(pod: Manifest) -> PodView:
    """One pod as the plan sees it."""
    status = pod.get("status", {})
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    state = _worker(pod).get("state") or {}
    ended = state.get("terminated") or {}
    started = "running" in state or bool(ended)
    deleted = pod["metadata"].get("deletionTimestamp")
    over = status.get("phase") in {"Succeeded", "Failed"}
    return PodView(
        exit_code=ended.get("exitCode"),
        report=ended.get("message") or "",
        started=started,
        disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
        pending="" if started else _why_pending(pod, conditions, state.get("waiting") or {}),
        gone_by=datetime.fromisoformat(deleted) if deleted and not over else None,
    )


def _rank(pod: Manifest, state: JobState) -> tuple[bool, str]:
    """Of two pods at once, the one that succeeded is the one that the Job counted."""
    won = state is JobState.SUCCEEDED and pod.get("status", {}).get("phase") == "Succeeded"
    return won, pod["metadata"].get("creationTimestamp", "")


def _newest(pods: Iterable[Manifest]) -> list[Manifest]:
    """The last pod of each index."""
    by_index: dict[str, Manifest] = {}
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", ""))):
        by_index[(pod["metadata"].get("annotations") or {}).get(_INDEX, "")] = pod
    return list(by_index.values())


def _whole(views: Iterable[PodView]) -> PodView:
    """The one that speaks for all; one whose words cannot be read, so that they are shown; else nothing is known."""
    unreadable = None
    for view in views:
        if not view.report:
            continue
        try:
            report = StageReport.decode(view.report)
        except ValueError:
            unreadable = view
            continue
        if report.result is not None:
            return view
    return unreadable or PodView(started=True)


def _culprit(pods: Sequence[Manifest], layout: Layout) -> PodView:
    """Why the Job failed: what no retry mends, then a disruption of a gang, then what failed first.

    What failed later may have failed because of it, or was ended by the Job controller.
    """
    ended = sorted(((_finished_at(pod), pod_view(pod)) for pod in pods), key=lambda each: each[0])
    failed = [view for _, view in ended if view.exit_code != 0]
    for view in failed:
        if not view.disrupted and view.exit_code in set(ExitCode):
            return view
    if layout is Layout.GANG:
        for view in failed:
            if view.disrupted:
                return view
    return next((view for view in failed if not view.disrupted), PodView(started=True))


def _together(views: Sequence[PodView], size: int) -> PodView:
    """A gang computes when all of it does, and hangs when one of it goes."""
    waiting = [view.pending for view in views if view.pending]
    going = [view.gone_by for view in views if view.gone_by]
    return PodView(
        started=len(views) == size and all(view.started for view in views),
        pending=waiting[0] if waiting else "",
        gone_by=min(going, default=None),
    )


def _side_by_side(views: Sequence[PodView]) -> PodView:
    """Shards compute as long as one does; what is lost is looked at when no other is left."""
    left = [view for view in views if view.exit_code is None and view.gone_by is None]
    if any(view.started for view in left):
        return PodView(started=True)
    if left:
        return PodView(pending=next((view.pending for view in left if view.pending), ""))
    return PodView(started=True, gone_by=max((view.gone_by for view in views if view.gone_by), default=None))


def _worker(pod: Manifest) -> Mapping[str, Any]:
    statuses: list[Mapping[str, Any]] = pod.get("status", {}).get("containerStatuses") or []
    return next((each for each in statuses if each["name"] == WORKER), {})


def _finished_at(pod: Manifest) -> str:
    ended = (_worker(pod).get("state") or {}).get("terminated") or {}
    return str(ended.get("finishedAt", "~"))


def _why_pending(pod: Manifest, conditions: dict[str, Any], waiting: dict[str, Any]) -> str:
    """The scheduler's words while there is no node, then kubelet's: of what the worker waits for, then of itself."""
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return _words(scheduled)
    beside = (pod.get("status", {}).get("initContainerStatuses") or [])[:1]
    return next(
        (f"{each['name']}: {_why_not_ready(each)}" for each in beside if not each.get("started")),
        _words(waiting),
    )


def _why_not_ready(container: Mapping[str, Any]) -> str:
    """Of a server that the worker waits for, with its last words if it ended before."""
    state = container.get("state") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    said = "starting" if "running" in state else _words(state.get("waiting") or {})
    if ended:
        last_words = str(ended.get("message") or ended.get("reason") or "").strip()[-_LAST_WORDS:]
        said = "; ".join(
            filter(None, (said, f"it ended with exit code {ended.get('exitCode')}: {last_words}"))
        )
    return said


def _words(cause: Mapping[str, Any]) -> str:
    return ": ".join(part for part in (cause.get("reason"), cause.get("message")) if part)
