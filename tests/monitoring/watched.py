"""An operator on a test bed that a real Prometheus scrapes, its workers too."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from alignment_operator.runtime.progress import worker_of
from tests.cluster.bed import Bed
from tests.cluster.client import Client, Namespace, temporary_namespace
from tests.cluster.crds import serve
from tests.cluster.processes import Child, free_ports
from tests.monitoring.prometheus import Prometheus


@dataclass(frozen=True)
class Watched:
    """A namespace whose cycles the operator runs while Prometheus looks on."""

    namespace: Namespace
    prometheus: Prometheus


@contextmanager
def watched(bed: Bed, folder: Path) -> Iterator[Watched]:
    """Logs and Prometheus' data go into the folder."""
    (port,) = free_ports(1)
    with Client(bed.kubeconfig) as client, temporary_namespace(client, "watched") as namespace:
        serve(client)
        argv = [sys.executable, "-m", "alignment_operator.runtime.main", "run", "--health-port", "0"]
        argv += ["--metrics-port", str(port), "--namespace", namespace.name]
        environment = os.environ | {"KUBECONFIG": str(bed.kubeconfig)}
        operator = Child("operator", argv, folder / "operator.log", environment)
        operator.start()
        try:
            with Prometheus(folder, port, lambda: running_workers(namespace)) as prometheus:
                yield Watched(namespace, prometheus)
        finally:
            operator.stop()


def running_workers(namespace: Namespace) -> list[str]:
    """HOST:PORT of every worker that runs now."""
    pods = namespace.list("v1", "pods", "app.kubernetes.io/name=alignment-worker")
    found = [worker for pod in pods if (worker := worker_of(pod)) is not None]
    return [urlsplit(worker.url).netloc for worker in found]
