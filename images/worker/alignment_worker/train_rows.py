"""Which rows a model was trained on, beside the model: where each came from, and which of the datasets' are used up.

rows.jsonl has a row for each pair or unpaired row of the training: `origin` is `sampled` (with `iteration` and `line`,
of the prompts' file) or `dataset` (with `name`, `revision`, `row`); `prompt` is the digest of the normalised prompt,
`pair` that of prompt and answers, or of prompt, completion and label. learned-pairs.txt has the `pair` of each row of
the datasets, as they are now, that the model or one that it was trained from has learned from: a line each. Neither
holds a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment_api import digests
from alignment_worker import rows
from alignment_worker.rows import Preference, Prompt
from alignment_worker.store import SealedFolder

ROWS = "rows.jsonl"
LEARNED = "learned-pairs.txt"


@dataclass(frozen=True)
class Origin:
    """Where a pair or unpaired row is from. Of a sampled one `row` is the prompt's line, without name and revision."""

    row: int
    prompt: str
    pair: str
    name: str = ""
    revision: str = ""

    @classmethod
    def in_samples(cls, row: dict[str, Any]) -> Origin:
        """Of a row that the judge stage wrote."""
        content = [row.get(name, "") for name in ("prompt", "chosen", "rejected")]
        return cls(row.get("line", 0), _digest_of(content[0]), digests.of_json(content))

    @classmethod
    def in_dataset(cls, name: str, revision: str, row: Preference) -> Origin:
        """`revision` is the digest of the dataset's."""
        return cls(row.number, _digest_of(row.prompt), key_of(row), name, revision)

    def to_row(self, iteration: int) -> dict[str, Any]:
        place: dict[str, Any] = {"origin": "sampled", "iteration": iteration, "line": self.row}
        if self.name:
            place = {"origin": "dataset", "name": self.name, "revision": self.revision, "row": self.row}
        return {**place, "prompt": self.prompt, "pair": self.pair}


def key_of(row: Preference) -> str:
    """Equal for equal rows."""
    return digests.of_json(list(row.columns().values()))


def store(origins: Sequence[Origin], iteration: int, folder: Path) -> frozenset[str]:
    """The keys of those from datasets. Raises OSError."""
    rows.write(folder / ROWS, (origin.to_row(iteration) for origin in origins))
    return frozenset(origin.pair for origin in origins if origin.name)


def store_learned(keys: Iterable[str], folder: Path) -> None:
    """Raises OSError."""
    (folder / LEARNED).write_text("".join(f"{key}\n" for key in sorted({*keys})))


def learned(model: Path) -> frozenset[str]:
    """By a model's folder; nothing if this stage did not make it. Raises DigestMismatchError, OSError."""
    if not (model.parent / LEARNED).is_file():
        return frozenset()
    return frozenset(SealedFolder.open(model.parent.parent).verified(LEARNED).read_text().split())


def _digest_of(prompt: Prompt) -> str:
    return digests.of_bytes(rows.normalised(prompt).encode())
