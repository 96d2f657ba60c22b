"""`python -m tests.monitoring.screenshot --grafana DIR`: docs/images/dashboard.png, from real runs of the quickstart.

DIR is an unpacked Grafana (bin, conf, public); `chromium` and `pngquant` are on the PATH.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from alignment_operator.api import CYCLE
from tests.cluster.api import Json
from tests.cluster.bed import REPOSITORY, Bed, BedOptions
from tests.cluster.client import Namespace
from tests.cluster.waiting import wait_until
from tests.monitoring.browser import Browser
from tests.monitoring.grafana import grafana
from tests.monitoring.prometheus import DASHBOARD
from tests.monitoring.watched import watched

IMAGE = REPOSITORY / "docs" / "images" / "dashboard.png"
WIDTH, HEIGHT = 1500, 4000  # pixels; a panel out of sight asks for no data
MARGIN = 16
MINUTES = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grafana", type=Path, required=True, metavar="DIR")
    home = parser.parse_args().grafana.resolve()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        bed = Bed(BedOptions(folder / "bed"))
        bed.start()
        try:
            with watched(bed, folder) as found:
                began = time.time()
                run(found.namespace)
                with grafana(home, found.prometheus.url, folder) as url:
                    minute = math.ceil(time.time() / 60) * 60  # a bar stands at the end of its minute
                    small = ["pngquant", "--force", "--output", str(IMAGE), "-"]
                    subprocess.run(small, input=picture(url, began, minute, folder), check=True)
        finally:
            bed.remove()


def run(namespace: Namespace) -> None:
    """One promoted and one refused iteration of the quickstart, with a dataset and with a worker that dies once."""
    examples = REPOSITORY / "examples"
    namespace.kubectl("apply", "-f", str(examples / "quickstart" / "assets.yaml"))
    dataset = next(yaml.safe_load_all((examples / "offline" / "cycle.yaml").read_text()))
    promoted = yaml.safe_load((examples / "quickstart" / "cycle.yaml").read_text())
    promoted["spec"]["datasets"] = [{"name": dataset["metadata"]["name"]}]
    promoted["spec"]["trigger"] = {"schedule": "0 3 * * 1", "newPairs": 5000}
    refused = yaml.safe_load((examples / "quickstart" / "cycle-length-biased.yaml").read_text())
    namespace.apply(dataset, promoted, refused)
    kill_judge(namespace, promoted["metadata"]["name"])
    for cycle in (promoted, refused):
        wait(namespace, cycle["metadata"]["name"], lambda iteration: iteration.get("outcome"), "it ends")


def kill_judge(namespace: Namespace, cycle: str) -> None:
    def job(iteration: Json) -> str | None:
        return next(
            (stage.get("job") for stage in iteration.get("stages", ()) if stage["name"] == "judge"), None
        )

    name = job(wait(namespace, cycle, job, "judging begins"))
    assert name is not None

    def running() -> str | None:
        pods = namespace.pods_of(name)
        return next((pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"), None)

    pod = wait_until(running, "a judge runs", 5 * MINUTES)
    namespace.kubectl("annotate", "pod", pod, "test-bed/oom-kill=worker")


def wait(namespace: Namespace, cycle: str, holds: Callable[[Json], object], what: str) -> Json:
    """The iteration of which that holds."""

    def look(it: Json) -> object:
        return holds(it.get("status", {}).get("iteration", {}))

    found = namespace.wait(CYCLE.api_version, CYCLE.plural, cycle, look, what, 30 * MINUTES)
    iteration: Json = found["status"]["iteration"]
    return iteration


def picture(url: str, since: float, until: float, folder: Path) -> bytes:
    """The whole dashboard over that time (seconds since 1970), when every panel has drawn its data."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    drawn = sum(panel["type"] == "timeseries" for panel in panels)
    titles = [panel["title"] for panel in panels if "repeat" not in panel]
    settled = f"""
        {json.dumps(titles)}.every(title => document.body.innerText.includes(title))
        && document.querySelectorAll("canvas").length >= {drawn}
        && !document.querySelector("[aria-label='Panel loading bar']")
        && !document.body.innerText.includes("No data")
    """
    with Browser(folder, WIDTH, HEIGHT) as browser:
        browser.open(f"{url}?kiosk&from={since * 1000:.0f}&to={until * 1000:.0f}")
        wait_until(lambda: browser.value(settled), "every panel has drawn its data", 3 * MINUTES)
        end = browser.value("document.querySelector('.react-grid-layout').getBoundingClientRect().bottom")
        return browser.picture(round(end) + MARGIN)


if __name__ == "__main__":
    main()
