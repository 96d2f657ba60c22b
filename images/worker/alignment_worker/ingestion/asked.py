"""What a dataset was asked, judged or not, each prompt once: prompts.jsonl, of `prompt`, `source`, `file` and `line`.

The same prompt is one that Unicode's NFKC and white space alone tell apart; that which is read first stays, and says
where. Prompts are kept on disk until all are read, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from alignment_worker.ingestion.identity import KEY_BYTES, prompt_key
from alignment_worker.ingestion.ordinals import Keys, Numbers
from alignment_worker.ingestion.parts import Parts
from alignment_worker.ingestion.staging import as_line
from alignment_worker.rows import Prompt

_KEYS_AT_ONCE = 1 << 16


class Asked:
    """Takes prompts in, in the order of reading, and writes each once. Closed with `with`."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder. Raises OSError."""
        folder.mkdir()
        self._folder, self._count, self._last = folder, 0, b""
        self._lines, self._keys = (folder / "lines").open("wb"), (folder / "keys").open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._keys.close()

    def add(self, prompt: Prompt, source: str, file: str, line: int) -> None:
        """Raises OSError."""
        key = prompt_key(prompt)
        if key == self._last:  # as of a row that makes several pairs
            return
        self._last = key
        self._keys.write(key)
        self._lines.write(as_line({"prompt": prompt, "source": source, "file": file, "line": line}))
        self._count += 1

    def write(self, file: Path) -> int:
        """How many there are. Raises OSError."""
        self._lines.flush()
        first = self._first()
        with file.open("wb", buffering=1 << 20) as written, (self._folder / "lines").open("rb") as lines:
            written.writelines(line for line, stays in zip(lines, first, strict=True) if stays)
        return int(first.sum())

    def _first(self) -> Numbers:
        """Of each prompt, whether none before it is the same."""
        first = np.zeros(self._count, bool)
        for _, keys, places in Parts(self._some_keys(), self._folder / "parts", self._count).read():
            first[places[np.unique(keys, return_index=True)[1]]] = True
        return first

    def _some_keys(self) -> Iterator[tuple[int, Keys]]:
        self._keys.flush()
        with (self._folder / "keys").open("rb") as file:
            for start in range(0, self._count, _KEYS_AT_ONCE):
                yield start, np.frombuffer(file.read(_KEYS_AT_ONCE * KEY_BYTES), f"S{KEY_BYTES}")
