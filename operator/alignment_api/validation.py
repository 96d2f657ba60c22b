"""What is wrong with a manifest: the field's path, the value, what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One error in one field."""

    path: str  # spec.sampling.temperature
    value: str  # as written, shortened; empty if it is missing
    message: str  # what is wrong and what to do

    def __str__(self) -> str:
        return f"{self.path}: {self.value}: {self.message}" if self.value else f"{self.path}: {self.message}"
