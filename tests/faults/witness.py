"""Watches what becomes of the runs, beside the operator and apart from it, and says what must not be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from alignment_api import digests, names
from alignment_operator.api import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    CYCLE,
    DATASET,
    INFERENCE_SERVICE,
    JOB,
    Kind,
    Manifest,
)
from alignment_operator.cluster import Cluster
from alignment_operator.runtime.reflector import Reflector, Selection
from tests.faults.scenarios import Run

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT?[\d:]*Z?|\d{8}T\d{6}Z")
_NAMED_ANEW = re.compile(r"sha256:[0-9a-f]{4,64}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_JOB_HASH = re.compile(r"(-\d+-[a-z]+-)(\d+)-[0-9a-f]{6}\b")
_ATTEMPT = re.compile(r'"(attempt|disruptions|failures|retries)": \d+')
_FOLLOWED = (CYCLE, DATASET, JOB, CONFIG_MAP, CONTROLLER_REVISION, INFERENCE_SERVICE)


class Witness:
    """Follows all objects of a namespace, whole."""

    def __init__(self, cluster: Cluster, namespace: str, store: Path) -> None:
        self._namespace = namespace
        self._store = store
        self._changed: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._jobs: dict[str, dict[str, Manifest]] = defaultdict(dict)  # ever seen, by run and UID
        self._violations: dict[str, list[str]] = defaultdict(list)
        self._promoted: dict[str, str] = {}
        selectors = {CONFIG_MAP: names.LABEL_CYCLE, JOB: names.LABEL_STAGE}
        self._reflectors = {
            kind: Reflector(
                cluster,
                Selection(kind, namespace, selectors.get(kind, "")),
                slim=lambda it: it,
                group=_run_of,
                changed=lambda now, before, kind=kind: self._see(kind, now or before),  # type: ignore[misc]
            )
            for kind in _FOLLOWED
        }

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(reflector.run()) for reflector in self._reflectors.values()]
        try:
            for reflector in self._reflectors.values():
                await reflector.synced.wait()
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def change(self, run: Run) -> None:
        """Wait for the next one."""
        self._changed[run.name].clear()
        await self._changed[run.name].wait()

    def wake(self, run: str) -> None:
        """End every `change` that is waited for."""
        self._changed[run].set()

    def one(self, kind: Kind, run: Run) -> Manifest:
        """The run's cycle, dataset or target; empty if it is not there."""
        found = self._reflectors[kind].grouped(run.name)
        return found[0] if found else {}

    def all_jobs(self, run: Run) -> list[Manifest]:
        """Those that are there now."""
        return self._reflectors[JOB].grouped(run.name)

    def jobs(self, run: Run, stage: str, iteration: int) -> list[Manifest]:
        """Of them, those of this stage; of the stage `ingest`, in whatever iteration."""
        return [
            job for job in self.all_jobs(run) if _stage(job) == stage and _iteration(job) in {iteration, 0}
        ]

    def twice(self, run: Run) -> int:
        """Jobs beyond one for each stage of each iteration, ever."""
        seen = self._jobs[run.name].values()
        return len(seen) - len(
            {(job["metadata"]["labels"][names.LABEL_ITERATION], _stage(job)) for job in seen}
        )

    def violations(self, run: Run) -> list[str]:
        return self._violations[run.name]

    def state(self, run: Run, *, exact: bool = True) -> str:
        """All that is left of the run, without what differs between any two runs.

        Instants are left out, UIDs and digests numbered as they appear. If not `exact`, how often a stage was
        tried does not show either, nor the Jobs that are left of it.
        """
        left: dict[str, Any] = {
            kind.kind: sorted(
                (_end_of(kind, manifest) for manifest in self._reflectors[kind].grouped(run.name)),
                key=lambda end: str(end["name"]),
            )
            for kind in _FOLLOWED
        }
        if not exact:
            left["Job"] = sorted({str(job["ttl"]) for job in left["Job"]})
        text = json.dumps(left, indent=1, sort_keys=True)
        text = text.replace(run.name, "RUN").replace(self._namespace, "NAMESPACE")
        text = _JOB_HASH.sub(r"\1\2" if exact else r"\1N", _INSTANT.sub("INSTANT", text))
        if not exact:
            text = _ATTEMPT.sub(r'"\1": N', text)
        numbers: dict[str, str] = {}
        return _NAMED_ANEW.sub(lambda found: numbers.setdefault(found[0], f"#{len(numbers)}"), text)

    def _see(self, kind: Kind, manifest: Manifest) -> None:
        run = _run_of(manifest)
        if kind == JOB:
            self._jobs[run][manifest["metadata"]["uid"]] = manifest
            self._see_jobs(run, _stage(manifest))
        if kind == CYCLE:
            self._see_promotion(run, manifest)
        self.wake(run)

    def _see_jobs(self, run: str, stage: str) -> None:
        there = [job for job in self._reflectors[JOB].grouped(run) if _stage(job) == stage]
        live = sorted(job["metadata"]["name"] for job in there if not is_over(job))
        if len(live) > 1:
            self._violations[run].append(f"two Jobs of one stage at once: {', '.join(live)}")

    def _see_promotion(self, run: str, cycle: Manifest) -> None:
        promoted = cycle.get("status", {}).get("promoted") or {}
        if promoted.get("digest", "") == self._promoted.get(run, ""):
            return
        self._promoted[run] = promoted.get("digest", "")
        sealed = self._sealed(cycle, promoted)
        if sealed is None or sealed["candidateDigest"] != promoted["digest"]:
            self._violations[run].append(f"{promoted} is promoted, and its evidence is not sealed")
        elif any(gate["verdict"] != "Passed" for gate in sealed["gates"]):
            self._violations[run].append(f"{promoted} is promoted against the gates")

    def _sealed(self, cycle: Manifest, promoted: dict[str, Any]) -> dict[str, Any] | None:
        metadata = cycle["metadata"]
        prefix = names.cycle_prefix(
            str(self._store / metadata["name"]), metadata["namespace"], metadata["name"], metadata["uid"]
        )
        file = Path(prefix) / "iterations" / str(promoted.get("iteration")) / "promote" / "evidence.json"
        if not file.exists() or digests.of_file(file) != promoted.get("evidenceDigest"):
            return None
        evidence: dict[str, Any] = json.loads(file.read_text())
        return evidence


def _run_of(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    labels = metadata.get("labels") or {}
    return str(labels.get(names.LABEL_CYCLE) or labels.get(names.LABEL_DATASET) or metadata["name"])


def _iteration(job: Manifest) -> int:
    return int(job["metadata"]["labels"][names.LABEL_ITERATION])


def _stage(job: Manifest) -> str:
    return str(job["metadata"]["labels"][names.LABEL_STAGE])


def is_over(job: Manifest) -> bool:
    """Whether nothing of it runs any more, or will."""
    ended = {row["type"] for row in job["status"].get("conditions") or () if row["status"] == "True"}
    return bool(ended & {"Complete", "Failed"}) or "deletionTimestamp" in job["metadata"]


def _end_of(kind: Kind, manifest: Manifest) -> Manifest:
    metadata = manifest["metadata"]
    end = {
        "name": metadata["name"],
        "labels": metadata.get("labels"),
        "annotations": metadata.get("annotations"),
    }
    if kind == JOB:
        # Whether the Job controller saw it suspended before the queue let it in is between those two.
        types = {row["type"] for row in manifest["status"].get("conditions") or ()}
        ended = sorted(types - {"Suspended"})
        return {"name": end["name"], "ended": ended, "ttl": manifest["spec"].get("ttlSecondsAfterFinished")}
    if kind == INFERENCE_SERVICE:
        end |= {"spec": manifest["spec"]}
    return {**end, "status": manifest.get("status"), "data": manifest.get("data")}
