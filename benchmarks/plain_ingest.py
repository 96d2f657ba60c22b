"""What somebody would write with `datasets`: read pairs, throw out bad rows and exact duplicates, write JSON Lines.

    python benchmarks/plain_ingest.py --pairs FILE --output FILE --cache DIR

It gives no places or reasons, no conflicts, no ordinals, no digests, and one broken line ends it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import datasets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    given = parser.parse_args()
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "json", data_files=str(given.pairs), split="train", cache_dir=str(given.cache)
    )
    keyed = loaded.map(with_key)
    seen: set[str] = set()

    def is_new(row: dict[str, Any]) -> bool:
        if row["key"] in seen or row["chosen"] == row["rejected"]:
            return False
        seen.add(row["key"])
        return True

    kept = keyed.filter(is_new, load_from_cache_file=False).remove_columns("key")
    kept.to_json(given.output)
    print(json.dumps({"read": len(loaded), "kept": len(kept)}))


def with_key(row: dict[str, Any]) -> dict[str, str]:
    said = "\0".join(" ".join(row[name].split()) for name in ("prompt", "chosen", "rejected"))
    return {"key": hashlib.blake2b(said.encode(), digest_size=16).hexdigest()}


if __name__ == "__main__":
    main()
