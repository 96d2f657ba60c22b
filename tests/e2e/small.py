"""The quickstart's assets with few rows, for what needs no verdict of full size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parents[2] / "examples" / "quickstart" / "quickstart-assets"


def assets(folder: Path, *, gold: int, heldout: int, prompts: int) -> None:
    """Makes the folder. As many rows as named; the models are linked, and the recorded pairs are all there."""
    folder.mkdir()
    rows = {"gold.jsonl": gold, "heldout.jsonl": heldout, "prompts.jsonl": prompts}
    for asset in ASSETS.iterdir():
        if asset.name in rows:
            kept = asset.read_text().splitlines(keepends=True)[: rows[asset.name]]
            (folder / asset.name).write_text("".join(kept))
        else:
            (folder / asset.name).symlink_to(asset)


def least(spec: dict[str, Any]) -> None:
    """Lets a cycle's comparison do with the fewest."""
    spec["evaluation"]["comparison"]["minComparisons"] = 5
