"""The Job that measures an A/A run of a cycle for a person: the stages one after the other in one pod.

It writes to that pod alone, prints what the stages report, and is gone afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignment_api import digests, names
from alignment_api.noise import NoiseConfig
from alignment_api.pods import PodDefaults
from alignment_api.stage import StageConfig
from alignment_operator.observed import Owner, Settings
from alignment_operator.planned import StartJob
from alignment_operator.render.job import pod_spec
from alignment_operator.render.own_job import own_job

OUTPUT = "file:///tmp/noise"  # in an emptyDir of this pod alone
_TTL_SECONDS = 600  # who was cut off finds the answer so long


def render_noise(
    owner: Owner, name: str, configs: Sequence[StageConfig], pods: PodDefaults
) -> dict[str, Any]:
    """The `batch/v1` Job. Its pod is that of the last stage, with the inputs and the grader of the others too."""
    asked = {
        "inputs": {role: entry for config in configs for role, entry in config.inputs.items()},
        "python_grader": next((config.python_grader for config in configs if config.python_grader), None),
    }
    start = StartJob(name, "", configs[-1].model_copy(update=asked), 0, pods)
    spec = pod_spec(owner, start, Settings(worker_image=pods.image or ""))
    (worker,) = spec["containers"]
    worker["command"] = ["python", "-m", "alignment_worker.noise"]
    del worker["ports"]  # a PodMonitor would count its work as a cycle's
    text = digests.canonical_json(NoiseConfig(stages=list(configs)).to_wire()).decode()
    return own_job(
        owner,
        name,
        "noise",
        pods,
        spec,
        {names.ANNOTATION_STAGE_CONFIG: text},
        seconds=pods.active_deadline_seconds,
        ttl_seconds=_TTL_SECONDS,
    )
