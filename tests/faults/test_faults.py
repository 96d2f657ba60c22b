"""The part of `make faults` that every test run affords: lives that are all cut short, two operators, and hands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import pytest

from alignment_api import digests, names
from alignment_operator.api import CYCLE, JOB, Manifest
from tests.cluster.manifests import job, pod_template
from tests.faults.access import granted_writes
from tests.faults.bed import Site, cluster, site
from tests.faults.scenarios import PROMOTED, REJECTED, Run
from tests.faults.sweep import SEVERAL_PODS, Case, by_hand, chains, sweeping, two
from tests.faults.table import Row, used
from tests.faults.trial import SECONDS, create

CHAINS = chains()
AFTER_EVERY, BEFORE_SECOND, AFTER_THIRD = CHAINS
STAGES = ((PROMOTED, "ingest"), *SEVERAL_PODS)
CASES: Mapping[str, Sequence[Case]] = {
    AFTER_EVERY: CHAINS[AFTER_EVERY],
    BEFORE_SECOND: CHAINS[BEFORE_SECOND][::2],
    AFTER_THIRD: CHAINS[AFTER_THIRD][1::2],
    "two operators": two()[::2],
    **{name: [cases[number]] for number, (name, cases) in enumerate(by_hand(STAGES).items())},
}


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with cluster(tmp_path_factory.mktemp("faults")) as (bed, client), site(bed, client, "faults") as made:
        yield made


@pytest.fixture(scope="module")
def rows(where: Site) -> Mapping[str, Row]:
    """By name; all at the same time."""

    async def work() -> Mapping[str, Row]:
        async with sweeping(where) as sweep:
            fine = Row("none", await sweep.without_faults())
            found = await asyncio.gather(*(sweep.row(name, cases) for name, cases in CASES.items()))
            return {row.fault: row for row in (fine, *found)}

    return asyncio.run(work())


@pytest.mark.parametrize("name", ["none", *CASES])
def test_it_ends_as_without_the_fault_and_nothing_is_done_twice(rows: Mapping[str, Row], name: str) -> None:
    runs = rows[name].verdicts
    assert [(run.run.scenario.name, run.violations, run.twice, run.after_the_end) for run in runs] == [
        (run.run.scenario.name, [], 0, 0) for run in runs
    ]


@pytest.mark.parametrize("name", list(CHAINS))
def test_an_operator_that_is_cut_short_dies_in_every_phase(rows: Mapping[str, Row], name: str) -> None:
    assert all(run.faults > len(run.run.scenario.stages) for run in rows[name].verdicts)


def test_every_write_that_the_chart_grants_is_made_in_some_run_and_no_other(rows: Mapping[str, Row]) -> None:
    assert used([rows["none"]]) == granted_writes()


def test_jobs_made_twice_and_a_promotion_without_evidence_are_noticed(where: Site) -> None:
    run = where.run("forged", REJECTED)

    async def work() -> tuple[int, str]:
        async with asyncio.timeout(SECONDS), sweeping(where) as sweep:
            await create(sweep.people.cluster, run)
            for name in ("forged-a", "forged-b"):
                await sweep.people.cluster.create(JOB, _idle_job(name, run))
            cycle = await sweep.people.cluster.get(CYCLE, run.namespace, run.name)
            promoted = {"iteration": 1, "uri": "pvc://store/m1", "digest": digests.of_bytes(b""), "at": "now"}
            await sweep.people.cluster.replace_status(
                CYCLE, {**(cycle or {}), "status": {"promoted": promoted}}
            )
            while not (sweep.witness.twice(run) and "evidence" in str(sweep.witness.violations(run))):
                await sweep.witness.change(run)
            return sweep.witness.twice(run), str(sweep.witness.violations(run))

    twice, said = asyncio.run(work())
    assert twice == 1
    assert "two Jobs of one stage at once: forged-a, forged-b" in said
    assert "its evidence is not sealed" in said


def _idle_job(name: str, run: Run) -> Manifest:
    labels = {names.LABEL_CYCLE: run.name, names.LABEL_STAGE: "train", names.LABEL_ITERATION: "1"}
    manifest = job(name, pod_template("true"), suspend=True)
    manifest["metadata"] |= {"namespace": run.namespace, "labels": labels}
    return manifest
