"""Stands in for a stage in a pod: the worker's own telemetry, a healthy result, and no torch.

It goes on until it was scraped a few times: a real stage takes minutes.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from alignment_api.stage import StageConfig, StageReport
from alignment_worker.progress import Progress
from alignment_worker.telemetry import served
from tests.local.stand_in_worker import result

SCRAPES = 9
SECONDS = 60.0


class Watched(Progress):
    asked = 0

    def told(self) -> dict[str, Any]:
        self.asked += 1
        return super().told()


def main() -> None:
    stage, _, file = sys.argv[1:4]
    config = StageConfig.from_wire(json.loads(Path(file).read_text()))
    progress = Watched()
    with served(config.stage, progress):
        progress.begin(1000, "prompts")
        progress.asked = 0
        deadline = time.monotonic() + (SECONDS if stage in {"sample", "judge", "train"} else 0)
        while progress.asked < SCRAPES and time.monotonic() < deadline:
            time.sleep(0.1)
            progress.advance()
            progress.count("tokens", 50)
            progress.count("judgements", 4)
            progress.count("steps")
    output = Path("/alignment/output")
    report = StageReport(result=result(config, output, 1.0))
    Path("/dev/termination-log").write_text(report.encode())


main()
