"""Retention on a real API server: the stage `collect` deletes in a claim what nobody needs, and nothing else.

The stages before it compute nothing, `tests/e2e/quick_worker.py`, so five iterations take less than a minute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from alignment_api import digests, uris
from tests.cluster.api import Json
from tests.cluster.bed import REPOSITORY, Bed
from tests.cluster.client import Client, Namespace, temporary_namespace
from tests.cluster.crds import serve
from tests.cluster.images import Bind, Image, default_images
from tests.cluster.manifests import claim
from tests.cluster.waiting import wait_until
from tests.e2e.quick_worker import CLAIM, LONGER
from tests.e2e.test_cluster_quickstart import operator_of, stage, status, until

pytest_plugins = ["tests.cluster.fixtures"]

IMAGE = "test-bed/quick-worker"
NAME = "support"
GONE = ["collect"]  # what is left of the iteration that `collect` belongs to: its record


@pytest.fixture
def quick_image(tmp_path: Path) -> Image:
    """The real worker's image with another `python` in it."""
    programs = tmp_path / "programs"
    programs.mkdir()
    python = programs / "python"
    interpreter = Path(sys.prefix) / "bin" / "python"
    python.write_text(f'#!/bin/sh\nshift 2\nexec {interpreter} -m tests.e2e.quick_worker "$@"\n')
    python.chmod(0o755)
    (real,) = [image for image in default_images(REPOSITORY) if image.name.endswith("/worker")]
    path = f"{REPOSITORY}:{real.env['PYTHONPATH']}"  # the worker of this working copy
    env = real.env | {"PATH": f"/programs:{real.env['PATH']}", "PYTHONPATH": path}
    return Image(IMAGE, env=env, binds=(*real.binds, Bind(str(programs), "/programs")))


@dataclass
class Site:
    """A cycle that keeps two promoted checkpoints and no others, and the folder that is its store's claim."""

    namespace: Namespace
    claim: Path

    @property
    def status(self) -> Json:
        return status(self.namespace, NAME)

    def run(self, number: int) -> None:
        """Ask for an iteration."""
        self.namespace.kubectl(
            "annotate", "acyc", NAME, "--overwrite", f"alignment.dev/run=iteration {number}"
        )

    def ended(self, number: int) -> Json:
        """The iteration that was asked for, when it is over."""

        def over(seen: Json) -> bool:
            iteration = seen.get("iteration", {})
            return iteration.get("number") == number and "outcome" in iteration

        return dict(until(self.namespace, NAME, over, f"iteration {number} ends")["iteration"])

    def collected(self, number: int) -> Json:
        """The collection that an iteration's end has begun, when it is over."""

        def over(seen: Json) -> bool:
            found = seen.get("collection", {})
            return found.get("iteration") == number and found["stage"]["state"] in {"Succeeded", "Failed"}

        return dict(
            until(self.namespace, NAME, over, f"it is collected after iteration {number}")["collection"]
        )

    def stored(self) -> dict[int, list[str]]:
        """Stages that have a folder, by iteration."""
        uid = self.namespace.get("alignment.dev/v1alpha1", "alignmentcycles", NAME)
        assert uid is not None
        folder = self.cycles / uid["metadata"]["uid"] / "iterations"
        return {int(entry.name): sorted(each.name for each in entry.iterdir()) for entry in folder.iterdir()}

    @property
    def cycles(self) -> Path:
        """Folders of all cycles that were ever made under this name."""
        return self.claim / "cycles" / self.namespace.name / NAME

    def hold(self, stage_: str) -> None:
        (self.claim / "hold" / stage_).touch()

    def release(self, stage_: str) -> None:
        (self.claim / "hold" / stage_).unlink()

    def digest(self, promotion: Json) -> str:
        """Of the checkpoint as it is in the store."""
        return digests.of_folder(self.claim / uris.parse(promotion["uri"]).path)


@pytest.fixture
def site(new_bed: Callable[..., Bed], quick_image: Image, tmp_path: Path) -> Iterator[Site]:
    bed = new_bed(images=(quick_image,))
    with Client(bed.kubeconfig) as client:
        serve(client)
        with temporary_namespace(client, "collect") as namespace:
            namespace.kubectl(
                "label", "namespace", namespace.name, "pod-security.kubernetes.io/enforce=restricted"
            )
            namespace.apply(claim(CLAIM))
            made = Site(namespace, wait_until(lambda: claims_folder(bed, namespace), "the claim is bound"))
            (made.claim / "hold").mkdir()
            operator = operator_of(namespace, tmp_path)
            operator.start()
            namespace.apply(dataset(), cycle())
            yield made
            operator.stop()


def claims_folder(bed: Bed, namespace: Namespace) -> Path | None:
    return next((bed.folder / "node" / "claims" / namespace.name).glob(f"{CLAIM}-*"), None)


def dataset() -> Json:
    return {
        "apiVersion": "alignment.dev/v1alpha1",
        "kind": "PreferenceDataset",
        "metadata": {"name": "feedback"},
        "spec": {
            "store": {"uri": f"pvc://{CLAIM}/datasets"},
            "sources": [{"name": "feedback", "files": {"uri": f"pvc://{CLAIM}/pairs"}}],
            "defaults": {"image": IMAGE},
        },
    }


def cycle() -> Json:
    """One that trains on what is there, so that an iteration has three stages."""
    return {
        "apiVersion": "alignment.dev/v1alpha1",
        "kind": "AlignmentCycle",
        "metadata": {"name": NAME},
        "spec": {
            "policy": {"model": f"pvc://{CLAIM}/m0"},
            "store": {"uri": f"pvc://{CLAIM}/cycles"},
            "datasets": [{"name": "feedback"}],
            "evaluation": {
                "goldSet": {"uri": f"pvc://{CLAIM}/gold"},
                "heldOutPrompts": {"uri": f"pvc://{CLAIM}/held-out"},
            },
            "history": {"keepPromoted": 2, "keepCandidates": 0},
            "defaults": {"image": IMAGE},
        },
    }


@pytest.mark.timeout(600)
def test_what_nobody_needs_goes_and_what_serves_what_served_and_what_runs_stays(site: Site) -> None:
    of_another = site.cycles / "uid-of-a-deleted-cycle" / "iterations" / "1" / "train"
    of_another.mkdir(parents=True)

    site.run(1)
    assert site.ended(1)["outcome"] == "Promoted"
    site.run(2)
    assert site.ended(2)["outcome"] == "Rejected"
    assert LONGER == (2,)
    assert site.collected(2)["kept"] == [1]
    assert site.stored() == {1: ["evaluate", "promote", "train"], 2: GONE}

    site.run(3)
    assert site.ended(3)["outcome"] == "Promoted"
    site.hold("collect-4")
    site.hold("evaluate-5")
    site.run(4)
    assert site.ended(4)["outcome"] == "Promoted"
    site.run(5)
    until(site.namespace, NAME, evaluates(5), "the next iteration has trained")
    site.release("collect-4")
    collection = site.collected(4)
    assert (collection["kept"], collection["stage"]["result"]["counts"]["deleted"]) == ([3, 4], 2)
    assert site.stored() == {
        3: ["evaluate", "promote", "train"],
        4: ["collect", "evaluate", "promote", "train"],
        5: ["evaluate", "train"],
    }
    before = site.status
    for promotion in (before["promoted"], before["promotions"][0]):
        assert site.digest(promotion) == promotion["digest"], "it can be loaded as it was promoted"

    site.release("evaluate-5")
    assert site.ended(5)["outcome"] == "Promoted"
    assert site.collected(5)["kept"] == [4, 5]
    assert sorted(site.stored()) == [4, 5]
    assert site.digest(site.status["promoted"]) == site.status["promoted"]["digest"]
    assert of_another.is_dir()
    jobs = site.namespace.list("batch/v1", "jobs", "alignment.dev/stage=collect")
    assert [job["status"].get("succeeded") for job in jobs] == [1, 1, 1]


def evaluates(number: int) -> Callable[[Json], bool]:
    def holds(seen: Json) -> bool:
        runs = stage(seen, "evaluate").get("state") == "Running"
        return bool(seen.get("iteration", {}).get("number") == number and runs)

    return holds
