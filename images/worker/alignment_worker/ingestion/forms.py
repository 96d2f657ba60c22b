"""What a row says, by the columns that it has: TRL's formats, and rankings of several completions.

https://huggingface.co/docs/trl/dataset_formats
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from alignment_api.curation import FileFormat
from alignment_worker import rows
from alignment_worker.rows import Pair, Preference, Prompt, Raw, RowProblemError

MAX_COMPLETIONS = 64
_SAMPLED = ("prompt_ids", "chosen_ids", "rejected_ids")  # of our own stages, and nobody else's
_KINDS = {"Paired": "a pair", "Unpaired": "an unpaired row", "Ranked": "a ranked row"}


class FileReader:
    """Reads the rows of one file; with Auto, the first good row says what they all are."""

    def __init__(self, format_: FileFormat, columns: Mapping[str, str]) -> None:
        self._asked = self._found = format_
        self._columns = columns

    def preferences_of(self, raw: Raw) -> list[Preference]:
        """Of a ranked row several. Raises RowProblemError."""
        renamed_ = renamed(raw, self._columns)
        if self._asked != "Auto":
            return _READERS[self._asked](renamed_)
        own = _format_of(renamed_)
        found = _READERS[own](renamed_)
        if self._found == "Auto":
            self._found = own
        elif own != self._found:
            raise RowProblemError(
                f"is {_KINDS[own]}, but the file's first is {_KINDS[self._found]}; give each kind a file of its own, "
                "or say the source's `format`"
            )
        return found


def renamed(raw: Raw, columns: Mapping[str, str]) -> Raw:
    """The row with its columns renamed, source name first; a rename beats a column that has the name already."""
    if raw.columns is None or not (columns or any(name in raw.columns for name in _SAMPLED)):
        return raw
    kept = {name: value for name, value in raw.columns.items() if name not in (*_SAMPLED, *columns)}
    taken = {target: raw.columns[name] for name, target in columns.items() if name in raw.columns}
    return replace(raw, columns=kept | taken)


def _format_of(raw: Raw) -> FileFormat:
    columns = raw.columns or {}
    if columns.get("completions") is not None:
        return "Ranked"
    return "Unpaired" if rows.is_unpaired(columns) else "Paired"


def _paired(raw: Raw) -> list[Preference]:
    return [rows.pair_of(_with_prompt(raw))]


def _unpaired(raw: Raw) -> list[Preference]:
    return [rows.unpaired_of(raw)]


def _with_prompt(raw: Raw) -> Raw:
    """TRL's implicit prompt: both conversations begin with it. Where it stands as a string beside, it is the same."""
    columns = raw.columns or {}
    prompt, chosen, rejected = (columns.get(name) for name in ("prompt", "chosen", "rejected"))
    if not (isinstance(chosen, list) and isinstance(rejected, list)) or isinstance(prompt, list):
        return raw
    same = [
        a
        for a, b in itertools.takewhile(lambda both: both[0] == both[1], zip(chosen, rejected, strict=False))
    ]
    if not same or len(same) in (len(chosen), len(rejected)):
        return raw
    if isinstance(prompt, str) and not (isinstance(same[-1], dict) and same[-1].get("content") == prompt):
        return raw
    split = {"prompt": same, "chosen": chosen[len(same) :], "rejected": rejected[len(same) :]}
    return replace(raw, columns={**columns, **split})


def _ranked(raw: Raw) -> list[Preference]:
    """A pair for every two completions of which one is better (as InstructGPT, arXiv:2203.02155, 3.5)."""
    if raw.columns is None:
        raise RowProblemError(raw.problem)
    columns = raw.columns
    prompt, completions = rows.prompt_of(columns, "prompt"), _completions(columns)
    goodness, category = _goodness(columns, len(completions)), rows.category_if_any(columns)
    pairs: list[Preference] = [
        Pair(raw.number, prompt, completions[better], completions[worse], category=category)
        for better, worse in _better(goodness)
        if completions[better] != completions[worse]
    ]
    if not pairs:
        raise RowProblemError(
            "no completion is better than another, so there is nothing to learn; take it out"
        )
    if isinstance(prompt, str) and not all(isinstance(each, str) for each in completions):
        raise RowProblemError("`completions` holds messages but `prompt` is a string; give both as messages")
    return pairs


def _completions(columns: Mapping[str, Any]) -> list[Prompt]:
    value = columns.get("completions")
    if not isinstance(value, list) or not 2 <= len(value) <= MAX_COMPLETIONS:
        raise RowProblemError(f"`completions` is {rows.shown(value)}; give a list of 2 to {MAX_COMPLETIONS}")
    names = [f"completions[{index}]" for index in range(len(value))]
    found = [rows.prompt_of({name: each}, name) for name, each in zip(names, value, strict=True)]
    if len({isinstance(each, str) for each in found}) > 1:
        raise RowProblemError("`completions` differ in type; give strings or lists of messages")
    return found


def _goodness(columns: Mapping[str, Any], count: int) -> Sequence[float]:
    """Greater is better."""
    given = [name for name in ("ranks", "scores") if columns.get(name) is not None]
    if len(given) != 1:
        told = "both `ranks` and `scores`" if given else "neither `ranks` nor `scores`"
        raise RowProblemError(f"has {told}; give ranks (1 is the best), or scores (the greatest is the best)")
    name, value = given[0], columns[given[0]]
    if not isinstance(value, list) or len(value) != count or not all(map(_is_number, value)):
        raise RowProblemError(
            f"`{name}` is {rows.shown(value)}; give a number for each of the {count} completions"
        )
    return [-each for each in value] if name == "ranks" else value


def _is_number(value: object) -> bool:
    """That a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _better(goodness: Sequence[float]) -> Iterator[tuple[int, int]]:
    for one, other in itertools.combinations(range(len(goodness)), 2):
        if goodness[one] != goodness[other]:
            yield (one, other) if goodness[one] > goodness[other] else (other, one)


_READERS = {"Paired": _paired, "Unpaired": _unpaired, "Ranked": _ranked}
