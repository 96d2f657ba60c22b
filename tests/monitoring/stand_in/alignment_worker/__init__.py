"""The worker's package, but for what `python -m alignment_worker` does."""

from pathlib import Path

__path__.append(str(Path(__file__).parents[4] / "images" / "worker" / "alignment_worker"))
