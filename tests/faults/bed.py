"""A cluster of the sweep's own, whose worker is the stand-in."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.bed import Bed, BedOptions
from tests.cluster.client import Client, Namespace, temporary_namespace
from tests.cluster.crds import serve
from tests.cluster.images import Bind, Image
from tests.cluster.manifests import claim
from tests.cluster.waiting import wait_until
from tests.faults.scenarios import Run, Scenario
from tests.operator.kueue import serve_workloads

INFERENCE_SERVICES = Path(__file__).parents[1] / "operator" / "inference_service_crd.yaml"


@dataclass
class Site:
    """A namespace with the claim `store`, which is the folder `store` here."""

    bed: Bed
    namespace: Namespace
    store: Path

    def run(self, name: str, scenario: Scenario) -> Run:
        return Run(name, scenario, self.namespace.name, self.store / name)


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[Bed, Client]]:
    """$KUBECONFIG names it meanwhile."""
    programs = folder / "programs"
    programs.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("stand_in.py"), programs)
    interpreter = Path(sys.executable).resolve()
    (programs / "python").write_text(f'#!/bin/sh\nexec {interpreter} -I -S /programs/stand_in.py "$@"\n')
    (programs / "python").chmod(0o755)
    image = Image(
        "stand-in", env={"PATH": "/programs:/usr/bin:/bin"}, binds=(Bind(str(programs), "/programs"),)
    )
    bed = Bed(BedOptions(folder / "bed", images=(image,)))
    bed.start()
    before = os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = str(bed.kubeconfig)
    try:
        with Client(bed.kubeconfig) as client:
            serve(client)
            serve(client, INFERENCE_SERVICES)
            serve_workloads(client)
            yield bed, client
    finally:
        if before is None:
            del os.environ["KUBECONFIG"]
        else:
            os.environ["KUBECONFIG"] = before
        bed.remove()


@contextlib.contextmanager
def site(bed: Bed, client: Client, title: str) -> Iterator[Site]:
    with temporary_namespace(client, title) as namespace:
        namespace.apply(claim("store"))

        def bound() -> Path | None:
            found = namespace.get("v1", "persistentvolumeclaims", "store")
            assert found is not None
            if found.get("status", {}).get("phase") != "Bound":
                return None
            volume = client.get(f"/api/v1/persistentvolumes/{found['spec']['volumeName']}")
            return Path(volume["spec"]["hostPath"]["path"]) if volume else None

        yield Site(bed, namespace, wait_until(bound, "the claim is bound", 60))
