"""The contract of `python -m alignment_worker.noise`: the stages of an A/A run, one after the other in one pod.

What they make stays in the pod, and its log carries what they report (`iteration_report.framed`).
"""

from __future__ import annotations

from alignment_api.model import Model
from alignment_api.stage import Stage, StageConfig, StageResult


class NoiseConfig(Model):
    """In their order. What one finds of another's making comes without a digest."""

    stages: list[StageConfig]


class NoiseResults(Model):
    """The answer."""

    results: dict[Stage, StageResult]
