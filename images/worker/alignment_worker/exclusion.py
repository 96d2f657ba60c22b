"""Keeps gold and held-out prompts out of training: as a whole after normalisation, or 13 words of them in a row.

Thirteen words in a row are what GPT-3's authors looked for (Brown et al. 2020, arXiv:2005.14165, appendix C). Such
a row is a template's, and shows nothing, if several gold or held-out prompts share it, at least a hundredth of them.
Prompts of fewer words are found as a whole only.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from alignment_api.stage import InputKind
from alignment_worker import rows
from alignment_worker.failures import ContaminatedError
from alignment_worker.inputs import Inputs
from alignment_worker.rows import Preference, Prompt, Row

WORDS = 13
_TEMPLATE_SHARE = 0.01
_MEASURED_ON = {"goldSet": InputKind.GOLD_SET, "heldOutPrompts": InputKind.PROMPTS}
# Scripts that put no spaces between words: every letter is one.
_LETTER_IS_WORD = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af])")


@dataclass(frozen=True)
class Forbidden:
    """What must not be trained on: normalised prompts, and runs of words that only they have."""

    prompts: frozenset[str]
    runs: frozenset[str]

    def has(self, row: Row | Preference) -> bool:
        """Whether its prompt is one of them, or any of its texts has a run of theirs."""
        if rows.normalised(row.prompt) in self.prompts:
            return True
        return bool(self.runs) and any(run in self.runs for text in _texts(row) for run in _runs(text))


def forbidden(inputs: Inputs) -> Forbidden:
    """Of every gold and held-out prompt that the stage was given.

    Raises TooManyCategoriesError if both together have more categories than a report holds.
    """
    given = [role for role in _MEASURED_ON if role in inputs]
    measured_on = [row for role in given for row in rows.read(inputs.path(role), _MEASURED_ON[role])]
    rows.check_categories(" and ".join(str(inputs.path(role)) for role in given), measured_on)
    return of_prompts([row.prompt for row in measured_on])


def of_prompts(prompts: Sequence[Prompt]) -> Forbidden:
    """What must not be trained on if these are what is measured on."""
    texts = {rows.normalised(prompt): rows.said(prompt) for prompt in prompts}
    shared = Counter(run for text in texts.values() for run in {*_runs(text)})
    template = max(2, _TEMPLATE_SHARE * len(texts))
    return Forbidden(
        frozenset(texts), frozenset(run for run, prompts in shared.items() if prompts < template)
    )


def allowed(some: Iterable[Row | Preference], forbidden_: Forbidden) -> Sequence[bool]:
    """For each row, whether it may be trained on."""
    return [not forbidden_.has(row) for row in some]


def refuse(leaked: int, given: int) -> None:
    """Before anything is trained. Raises ContaminatedError if any of the datasets' rows is leaked."""
    if leaked:
        raise ContaminatedError(
            f"{leaked} of {given} rows of datasets hold gold or held-out prompts: take them out, or write "
            "spec.gates.contamination.action: Exclude"
        )


def _texts(row: Row | Preference) -> Iterator[str]:
    columns = {"prompt": row.prompt} if isinstance(row, Row) else row.columns()
    return (rows.said(value) for value in columns.values() if isinstance(value, str | list))


def _runs(text: str) -> Iterator[str]:
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = re.findall(r"\w+", _LETTER_IS_WORD.sub(r" \1 ", plain))
    return (" ".join(words[start : start + WORDS]) for start in range(len(words) - WORDS + 1))
