"""What a confidence is."""

from __future__ import annotations


def check_confidence(confidence: float) -> None:
    """Raises ValueError unless it is a share: 0.95 means 95 %."""
    if not 0.5 <= confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be a share, at least 0.5 and below 1")
