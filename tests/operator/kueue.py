"""Plays Kueue, which is not to be had here: exactly the writes that it documents."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tests.cluster.client import Client, Namespace
from tests.cluster.crds import serve
from tests.cluster.waiting import wait_until

WORKLOADS = ("kueue.x-k8s.io/v1beta2", "workloads")


def serve_workloads(client: Client) -> None:
    """Kueue's kind, on the whole cluster."""
    serve(client, Path(__file__).with_name("workload_crd.yaml"))


class Kueue:
    """What Kueue writes for one Job, as it documents it; nothing of its own code is here.

    https://kueue.sigs.k8s.io/docs/concepts/workload/ and .../docs/concepts/preemption/
    """

    def __init__(self, namespace: Namespace, job: str) -> None:
        self._namespace = namespace
        self._job = namespace.path("batch/v1", "jobs", job)
        found = namespace.client.get(self._job)
        assert found is not None
        self._name = f"job-{job}-19797"[:63]
        metadata = {
            "name": self._name,
            "labels": {"kueue.x-k8s.io/job-uid": found["metadata"]["uid"]},
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": found["metadata"]["uid"]}
            ],
        }
        pod_set = {
            "name": "main",
            "count": found["spec"]["parallelism"],
            "template": found["spec"]["template"],
        }
        queue = found["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
        spec = {"queueName": queue, "podSets": [pod_set], "active": True}
        workload = {"apiVersion": WORKLOADS[0], "kind": "Workload", "metadata": metadata, "spec": spec}
        namespace.create(WORKLOADS[1], workload)

    def waits(self, message: str) -> None:
        self._tell(("QuotaReserved", "False", "Pending", message))

    def admits(self, node_selector: dict[str, str]) -> None:
        """The flavor's node labels go into the template, in the write that resumes the Job."""
        self._tell(
            ("QuotaReserved", "True", "QuotaReserved", "Quota reserved in ClusterQueue cluster-queue"),
            ("Admitted", "True", "Admitted", "The workload is admitted"),
            ("Evicted", "False", "QuotaReserved", "Previously: preempted"),
        )
        template = {"spec": {"nodeSelector": node_selector}}
        self._namespace.client.patch(self._job, {"spec": {"suspend": False, "template": template}})

    def evicts(self, message: str) -> None:
        """The Job is suspended; once its pods are gone, its start is forgotten and its template as it was."""
        self._tell(
            ("Evicted", "True", "Preempted", message),
            ("QuotaReserved", "False", "Pending", message),
            ("Admitted", "False", "NoReservation", "The workload has no reservation"),
        )
        self._namespace.client.patch(self._job, {"spec": {"suspend": True}})

        def stopped() -> bool:
            job = self._namespace.client.get(self._job)
            assert job is not None
            return not job["status"].get("active") and not job["status"].get("terminating")

        wait_until(stopped, "the Job's pods are gone", 60)
        self._namespace.client.patch(f"{self._job}/status", {"status": {"startTime": None}})
        self._namespace.client.patch(self._job, {"spec": {"template": {"spec": {"nodeSelector": None}}}})

    def _tell(self, *conditions: tuple[str, str, str, str]) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        rows = [
            {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": now}
            for type_, status, reason, message in conditions
        ]
        path = self._namespace.path(*WORKLOADS, self._name)
        self._namespace.client.patch(f"{path}/status", {"status": {"conditions": rows}})

    def active(self) -> bool:
        """What decides whether it may be admitted at all."""
        found = self._namespace.get(*WORKLOADS, self._name)
        assert found is not None
        return bool(found["spec"]["active"])
