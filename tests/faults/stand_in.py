"""Stands in for `alignment_worker` in the sweep's pods: the standard library alone, so a stage takes milliseconds.

A run has a folder of the store. reports.json: what each stage reports; hold/STAGE: while it is there, the stage does
not end.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

STORE = Path("/alignment/claims/store")
OUTPUT = Path("/alignment/output")
HELD_SECONDS = 900.0


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which the first process of a pod would not heed
    stage, _, file = sys.argv[3:6]  # after -m alignment_worker
    config = json.loads(Path(file).read_text())
    folder = STORE / config["output"].split("/")[3]  # pvc://store/RUN/…
    deadline = time.monotonic() + HELD_SECONDS
    while (folder / "hold" / stage).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if stage == "promote":
        seal(config["parameters"])
    told = json.loads((folder / "reports.json").read_text())[stage]
    report = {"contractVersion": 1, "result": told | result(stage, config)}
    Path("/dev/termination-log").write_text(json.dumps(report))


def result(stage: str, config: dict[str, Any]) -> dict[str, Any]:
    """Digests that are the same whoever computes them, and differ between stages."""
    output, inputs = config["output"], config["inputs"]
    found: dict[str, Any] = {
        "manifest": {"uri": output, "digest": digest(output)},
        "inputs": {role: digest(role) for role, read in inputs.items() if not read.get("digest")},
    }
    if stage in {"train", "evaluate", "compare"}:
        model = output.rpartition("/")[0] + "/train/model"
        found["model"] = {"uri": model, "digest": digest(model)}
    return found


def seal(parameters: dict[str, Any]) -> None:
    """As the real stage: evidence that is not what was judged is not sealed."""
    canonical = json.dumps(parameters["evidence"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if digest(canonical) != parameters["evidenceDigest"]:
        sys.exit(67)
    (OUTPUT / "evidence.json").write_text(canonical)


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


main()
