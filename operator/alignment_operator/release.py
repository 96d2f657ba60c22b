"""What belongs to this release of the operator."""

from __future__ import annotations

from importlib.metadata import version


def worker_image() -> str:
    """The worker that speaks this operator's contract: the stages' image where a manifest names none."""
    return f"ghcr.io/alignment-dev/worker:{version('alignment-operator')}"
