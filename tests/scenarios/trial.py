"""One scenario with one seed: `alignctl run` on the quickstart's model, its outcome and artifacts kept in a folder."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from alignment_api import digests
from tests.scenarios import planted
from tests.scenarios.judges import ASSETS
from tests.scenarios.scenarios import HELD, PROMOTED, REFUSED, URL, Scenario, Spec
from tests.worker.judge_server import judge_server

ROOT = Path(__file__).parents[2]
PROMPTS = 115  # a third: what one iteration takes on a busy machine stays below two minutes
_OUTCOMES = {0: PROMOTED, 1: REFUSED, 3: REFUSED, 4: HELD}
_ALIGNCTL = [sys.executable, "-c", "from alignment_operator.cli.main import main; main()"]
_SECONDS = 1800
# What runs a trial. A changed gate is asked anew, without training: battery.py.
_CODE = ("operator/**/*.py", "images/worker/**/*.py", "tests/scenarios/judges.py")
_GATES = ROOT / "operator" / "alignment_operator" / "gates"


@dataclass(frozen=True)
class Trial:
    """What became of it. `asked`: a digest of all that it was run with.

    `cycle`: the object with its status, as `alignctl run -o json` prints it.
    """

    scenario: Scenario
    seed: int
    folder: Path
    asked: str
    outcome: str
    cycle: dict[str, Any]

    @property
    def iteration(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cycle["status"]["iteration"]
        return found

    @property
    def reason(self) -> str:
        return str(self.iteration["reason"])

    def local(self, uri: str) -> Path:
        """Where a URI is."""
        claim, _, path = uri.removeprefix("pvc://").partition("/")
        places = {"quickstart-assets": ASSETS, "planted": self.folder / "planted"}
        return places.get(claim, self.folder / "store") / path


def trial(scenario: Scenario, seed: int, work: Path) -> Trial:
    """Runs it, unless what the folder holds came of the very same. Raises AssertionError if alignctl breaks off."""
    folder = work / re.sub(r"[\W_]+", "-", scenario.name).strip("-") / str(seed)
    made = folder.with_name(f"{seed}.new")
    shutil.rmtree(made, ignore_errors=True)
    (made / "planted").mkdir(parents=True)
    if scenario.plant:
        scenario.plant(made / "planted", random.Random(zlib.crc32(scenario.name.encode()) + seed))
    documents = manifests(scenario, seed)
    script = scenario.script and [
        scenario.script.says.__name__,
        scenario.script.seconds,
        scenario.script.most,
    ]
    asked = digests.of_json([documents, digests.of_folder(made / "planted"), script, *_common()])
    result = folder / "result.json"
    kept = json.loads(result.read_text()) if result.is_file() else {}
    if kept.get("asked") == asked:
        shutil.rmtree(made)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
        kept = {"asked": asked, **_run(scenario, documents, folder)}
        result.write_text(json.dumps(kept))
    return Trial(scenario, seed, folder, asked, kept["outcome"], kept["cycle"])


@cache
def _common() -> tuple[str, ...]:
    """Digests of what all trials are run with."""
    files = [file for pattern in _CODE for file in ROOT.glob(pattern) if not file.is_relative_to(_GATES)]
    code = digests.of_listing({str(file.relative_to(ROOT)): digests.of_file(file) for file in files})
    return digests.of_folder(ASSETS), code


def manifests(scenario: Scenario, seed: int) -> list[dict[str, Any]]:
    """The quickstart's, edited: a cycle, and before it the dataset that it trains on, if it does."""
    cycle: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "quickstart" / "cycle.yaml").read_text())
    cycle["metadata"]["name"] = "scenario"
    spec: Spec = cycle["spec"]
    spec["promotion"] = {}
    spec["prompts"]["perIteration"] = PROMPTS
    spec["training"]["seed"] = spec["sampling"]["seed"] = seed
    if not scenario.recorded:
        if scenario.plant:
            spec["prompts"]["uri"] = f"pvc://planted/{planted.PROMPTS}"
        scenario.edit(spec)
        return [cycle]
    del spec["prompts"], spec["judge"], spec["gates"]["rewardHacking"]
    spec["sampling"] = {"seed": seed}
    spec["datasets"] = [{"name": "recorded"}]
    scenario.edit(spec)
    dataset = {
        "apiVersion": cycle["apiVersion"],
        "kind": "PreferenceDataset",
        "metadata": {"name": "recorded"},
        "spec": {
            "store": {"uri": "pvc://quickstart-store/datasets"},
            "sources": [{"name": "recorded", "files": {"uri": f"pvc://planted/{planted.PAIRS}"}}],
        },
    }
    return [dataset, cycle]


def _run(scenario: Scenario, documents: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    (folder / "store").mkdir()
    file = folder / "cycle.yaml"
    with _endpoint(scenario) as url:
        file.write_text(yaml.safe_dump_all(documents).replace(URL, url))
        command = [*_ALIGNCTL, "run", "-f", str(file), "-o", "json", "--state", str(folder / "state")]
        claims = {
            "quickstart-assets": ASSETS,
            "quickstart-store": folder / "store",
            "planted": folder / "planted",
        }
        for name, place in claims.items():
            if f"pvc://{name}/" in file.read_text():
                command += ["--claim", f"{name}={place}"]
        with (folder / "log").open("w") as log:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                timeout=_SECONDS,
                check=False,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
    said = f"alignctl run ended with {done.returncode}; it says why in {folder / 'log'}"
    assert done.returncode in _OUTCOMES, said
    assert done.stdout, said
    return {"outcome": _OUTCOMES[done.returncode], "cycle": json.loads(done.stdout)}


@contextmanager
def _endpoint(scenario: Scenario) -> Iterator[str]:
    """The address of the scripted judge, while it is needed."""
    if scenario.script is None:
        yield ""
        return
    with judge_server(scenario.script.endpoint()) as server:
        yield server.url
