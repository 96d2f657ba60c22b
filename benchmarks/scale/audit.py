"""What the API server's audit log tells of one run."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.scale.bed import USER

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """`requests` of USER by verb and resource; `gaps`: seconds from a Job's end to the next one of its chain."""

    requests: Counter[str]
    gaps: Sequence[float]


def read(log: Path, since: int) -> Told:
    """From that byte of the log on. A chain is a namespace and the label's value at the start of the Job's name."""
    events = list(_events(log, since))
    requests = Counter(_request(event) for event in events if event["user"]["username"] == USER)
    return Told(requests, sorted(_gaps(events)))


class Tail:
    """Counts Jobs made, in what the log has grown by."""

    def __init__(self, log: Path, since: int) -> None:
        self._log = log
        self._at = since
        self._made = 0

    def jobs(self) -> int:
        """Since the byte that it began at."""
        with self._log.open("rb") as lines:
            lines.seek(self._at)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._at += len(line)
                self._made += (
                    b'"verb":"create"' in line and b'"resource":"jobs"' in line and b'"code":201' in line
                )
        return self._made


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted values, by nearest rank; NaN of none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def _events(log: Path, since: int) -> Iterator[Event]:
    with log.open("rb") as lines:
        lines.seek(since)
        for line in lines:
            yield json.loads(line)


def _request(event: Event) -> str:
    of = event["objectRef"] if "objectRef" in event else {"resource": event["requestURI"].split("?")[0]}
    part = f"/{of['subresource']}" if "subresource" in of else ""
    return f"{event['verb']} {of['resource']}{part}"


def _gaps(events: Iterable[Event]) -> Iterator[float]:
    """The last write of a Job's status is the one that ends it."""
    ended: dict[tuple[str, str], datetime] = {}
    begun: dict[tuple[str, str], list[tuple[datetime, str]]] = {}
    for event in events:
        of = event.get("objectRef", {})
        if of.get("resource") != "jobs" or event["responseStatus"]["code"] >= 400:
            continue
        if of.get("subresource") == "status":
            ended[of["namespace"], of["name"]] = _instant(event["stageTimestamp"])
        elif event["verb"] == "create":
            chain = of["namespace"], of["name"].split("-")[0]
            begun.setdefault(chain, []).append((_instant(event["requestReceivedTimestamp"]), of["name"]))
    for (namespace, _), jobs in begun.items():
        ordered = sorted(jobs)
        for (_, before), (start, _) in itertools.pairwise(ordered):
            yield (start - ended[namespace, before]).total_seconds()


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
