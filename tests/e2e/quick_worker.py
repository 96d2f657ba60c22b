"""A worker that computes nothing: its stages seal real folders in milliseconds, and `promote` and `collect` are real.

Its models hold no weights. While the file hold/STAGE-ITERATION is in the store's claim, that stage does not begin.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from alignment_api import digests
from alignment_api.measurements import Measurement
from alignment_api.stage import WORK, Located, Stage, StageConfig, StageReport
from alignment_worker import main as worker
from alignment_worker import report
from alignment_worker.main import Arguments
from alignment_worker.store import CLAIMS, Outcome, StageFolder

CLAIM = "store"
LONGER = (2,)  # iterations whose candidates are refused
_REAL = (Stage.PROMOTE, Stage.COLLECT)


def main() -> int:
    arguments = worker.parse_arguments(sys.argv[1:])
    config, config_hash = worker.read_config(arguments.config, arguments.stage)
    while (CLAIMS / CLAIM / "hold" / f"{config.stage.value}-{config.iteration}").exists():
        time.sleep(0.05)
    return worker.main() if config.stage in _REAL else seal(arguments, config, config_hash)


def seal(arguments: Arguments, config: StageConfig, config_hash: str) -> int:
    """The folder that the stage would have made, with its manifest."""
    assert arguments.places.output is not None
    folder = StageFolder(arguments.places.output, config, config_hash)
    found = {role: input_.digest or digests.of_bytes(role.encode()) for role, input_ in config.inputs.items()}
    with folder.run() as run:
        (run / "artifact").write_text(f"{config.stage.value} of iteration {config.iteration}")
        result = folder.seal(run, outcome(config, run), found)
    report.write(arguments.report, StageReport(result=result))
    return 0


def outcome(config: StageConfig, run: Path) -> Outcome:
    counts = {WORK[config.stage]: 300, "kept": 300}
    match config.stage:
        case Stage.TRAIN:
            model = run / "model"
            model.mkdir()
            (model / "config.json").write_text(f'{{"iteration": {config.iteration}}}')
            return Outcome(counts=counts, model=model)
        case Stage.EVALUATE:
            candidate = config.inputs["candidate"]
            assert candidate.digest is not None
            ratio = 2.0 if config.iteration in LONGER else 1.0
            around = {"lengthRatio": ratio, "truncatedShare": 0.0, "truncatedChange": 0.0}
            measurements = {
                name: Measurement(estimate=about, low=about - 0.05, high=about + 0.05, n=300)
                for name, about in around.items()
            }
            gold = Measurement(estimate=2.0, low=-1.0, high=5.0, n=400, p=0.9, discordant=0.05)
            return Outcome(
                counts=counts,
                measurements=measurements,
                by_category={"facts": {"gold": gold}},
                model=Located(uri=candidate.uri, digest=candidate.digest),
            )
        case _:
            return Outcome(counts=counts)


if __name__ == "__main__":
    sys.exit(main())
