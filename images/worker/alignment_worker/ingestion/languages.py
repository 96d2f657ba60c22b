"""The languages of the answers that stay, told of a sample of them."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from alignment_worker import rows
from alignment_worker.ingestion.ordinals import Numbers
from alignment_worker.ingestion.staging import Records

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

SAMPLE = 2_000  # answers, about: a share is right to two points, and it takes half a second of a CPU
UNCLEAR = "unclear"  # figures, code, a word or two
_LIKELY = 0.5  # of the most probable language
_CHARACTERS = 2_000  # of an answer, from its beginning
_KEYS = 1 << 64


class Languages:
    """Which rows are of the sample follows from their keys, so that the same rows tell the same."""

    def __init__(self, kept: int) -> None:
        self.drawn = kept > SAMPLE
        self._limit = np.uint64(_KEYS * SAMPLE // kept if self.drawn else _KEYS - 1)
        self.of: Counter[str] = Counter()

    def sampled(self, records: Records) -> Numbers:
        """Of each row whether it is of the sample."""
        beginnings = np.ascontiguousarray(records["key"]).view(">u8")[::2]
        return beginnings <= self._limit

    def add(self, line: bytes) -> None:
        """A row of the staging: the answer that is chosen, or the only one."""
        row = json.loads(line)
        self.of[_language(rows.said(row.get("chosen") or row["completion"])[:_CHARACTERS])] += 1

    def shares(self) -> list[tuple[str, float]]:
        """Percent by ISO 639 code, the largest first."""
        total = self.of.total()
        ordered = sorted(self.of.items(), key=lambda each: (-each[1], each[0]))
        return [(language, 100 * count / total) for language, count in ordered]


def _language(text: str) -> str:
    language, probability = _identifier().classify(text)
    return language if probability >= _LIKELY else UNCLEAR


@cache
def _identifier() -> LanguageIdentifier:
    """langid.py's model (Lui and Baldwin 2012): naive Bayes over n-grams of bytes."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415 - half a second, for revisions alone

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
