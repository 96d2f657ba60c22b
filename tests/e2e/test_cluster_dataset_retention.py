"""A dataset's retention on a real API server: `collect` deletes revisions in a claim, and none that a cycle works from.

The other stages compute nothing, `tests/e2e/quick_worker.py`; each refresh makes another revision.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.api import Json
from tests.cluster.bed import Bed
from tests.cluster.images import Image
from tests.e2e.test_cluster_collect import Site, dataset, evaluates, quick_image, site
from tests.e2e.test_cluster_quickstart import until

pytest_plugins = ["tests.cluster.fixtures"]

__all__ = ["Bed", "Image", "quick_image", "site"]  # fixtures, and what they ask for

KIND = ("alignment.dev/v1alpha1", "preferencedatasets")


def refreshed(site: Site, number: int) -> Json:
    """The dataset's status when a revision of that number is in force and nothing is being collected."""

    def over(found: Json) -> bool:
        status = found.get("status", {})
        collection = status.get("collection", {}).get("stage", {})
        return (
            status.get("revision", {}).get("number") == number
            and status["ingest"]["state"] == "Succeeded"
            and collection.get("state", "Succeeded") == "Succeeded"
            and len(status.get("revisions", [])) < number
        )

    seen: Json = site.namespace.wait(*KIND, "feedback", over, f"revision {number}", 120)["status"]
    return seen


def refresh(site: Site, number: int) -> Json:
    site.namespace.kubectl("annotate", "prefds", "feedback", "--overwrite", f"alignment.dev/run={number}")
    return refreshed(site, number)


def revisions(site: Site) -> list[int]:
    """Refreshes whose folders are in the claim; here each makes a revision."""
    found = site.namespace.get(*KIND, "feedback")
    assert found is not None
    folder = Path(site.claim, "datasets", site.namespace.name, "feedback", found["metadata"]["uid"])
    return sorted(int(path.name.partition("-")[0]) for path in folder.glob("revisions/*"))


def listed(status: Json) -> list[int]:
    return [revision["number"] for revision in (status["revision"], *status.get("revisions", []))]


@pytest.mark.timeout(600)
def test_what_runs_and_what_serves_hold_their_revision_and_the_others_go(site: Site) -> None:
    refreshed(site, 1)
    site.hold("evaluate-1")
    site.run(1)
    until(site.namespace, "support", evaluates(1), "the first iteration has frozen revision 1")
    kept_by_one = dataset()
    kept_by_one["spec"]["retention"] = {"revisions": 1}
    site.namespace.apply(kept_by_one)  # another generation: refreshed by itself
    refreshed(site, 2)
    third = refresh(site, 3)
    assert (revisions(site), listed(third)) == ([1, 3], [3, 1])
    assert third["collection"]["inUse"] == [third["revisions"][0]["uri"].rpartition("/")[2]]

    site.release("evaluate-1")
    assert site.ended(1)["outcome"] == "Promoted"
    (learned,) = site.status["promoted"]["datasets"]
    assert learned["uri"] == third["revisions"][0]["uri"]
    fourth = refresh(site, 4)
    assert (revisions(site), listed(fourth)) == ([1, 4], [4, 1]), "what serves was trained from it"

    for number, outcome in ((2, "Rejected"), (3, "Promoted"), (4, "Promoted")):  # two checkpoints are kept
        site.run(number)
        assert site.ended(number)["outcome"] == outcome
    fifth = refresh(site, 5)
    assert (revisions(site), listed(fifth)) == ([4, 5], [5, 4])
    jobs = site.namespace.list(
        "batch/v1", "jobs", "alignment.dev/stage=collect,alignment.dev/dataset=feedback"
    )
    assert {job["status"].get("succeeded") for job in jobs} == {1}
