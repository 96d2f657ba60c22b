"""What metrics cost: memory a cycle, and the time and size of a scrape. `python benchmarks/metrics.py [CYCLES]`"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import tracemalloc
from typing import Any

from aiohttp.test_utils import make_mocked_request

from alignment_operator.api import CYCLE
from alignment_operator.runtime.metrics import Live, Metrics

_AT = "2026-11-23T03:00:00Z"


def idle(number: int) -> dict[str, Any]:
    """A cycle that waits for its first iteration, with every condition."""
    types = (
        ("Ready", "True"),
        ("Reconciling", "False"),
        ("Stalled", "False"),
        ("Iterating", "False"),
        ("Promoted", "Unknown"),
        ("WaitingForApproval", "False"),
        ("TargetsSynced", "True"),
    )
    conditions = [{"type": type_, "status": status} for type_, status in types]
    return {
        "metadata": {"name": f"cycle-{number}", "namespace": "team"},
        "status": {"conditions": conditions},
    }


def promoted(number: int) -> dict[str, Any]:
    """A cycle with a judged and promoted iteration: three gates, eight measurements."""
    value = {"estimate": 1.0, "low": 0.5, "high": 1.5, "n": 300}
    gates = [
        {
            "name": name,
            "verdict": "Passed",
            "limit": 2.0,
            "measurements": {f"m{index}": value for index in range(count)},
        }
        for name, count in (("goldSet", 4), ("lengthDrift", 2), ("winRate", 2))
    ]
    manifest = idle(number)
    manifest["status"] |= {
        "iteration": {"number": 7, "startedAt": _AT, "gates": gates},
        "promoted": {"iteration": 7, "at": _AT},
        "history": [{"number": 7, "outcome": "Promoted", "reason": "AllGatesPassed"}],
        "nextRunAt": _AT,
    }
    return manifest


async def measure(count: int, make: Any) -> None:
    manifests = [json.dumps(make(number)) for number in range(count)]  # as they come: parsed one by one
    tracemalloc.start()
    metrics = Metrics("0", lambda: Live(0, 0.0, {}))
    before = tracemalloc.get_traced_memory()[0]
    for text in manifests:
        metrics.heard(CYCLE, json.loads(text))
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    began = time.perf_counter()
    response = await metrics.serve(make_mocked_request("GET", "/metrics"))
    seconds = time.perf_counter() - began
    body = response.body
    assert isinstance(body, bytes)
    print(
        f"{count} {make.__name__} cycles: {held / count / 1024:.2f} KiB each; "
        f"a scrape is {len(body) / 2**20:.1f} MiB and takes {seconds:.2f} s"
    )


if __name__ == "__main__":
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for kind in (idle, promoted):
        asyncio.run(measure(cycles, kind))
