"""What differs between two answers, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import NamedTuple

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_MOST_WORDS = 1500  # SequenceMatcher is quadratic; longer answers are shown without marks


class Piece(NamedTuple):
    """A stretch of an answer; `own` if the other answer does not have it."""

    text: str
    own: bool


def differences(first: str, second: str) -> tuple[list[Piece], list[Piece]]:
    """Both answers in pieces, which joined are the answers again."""
    left, right = _WORDS.findall(first), _WORDS.findall(second)
    if first == second or max(len(left), len(right)) > _MOST_WORDS:
        return [Piece(first, own=False)], [Piece(second, own=False)]
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    pieces: tuple[list[Piece], list[Piece]] = ([], [])
    for kind, left_from, left_to, right_from, right_to in matcher.get_opcodes():
        spans = (left[left_from:left_to], right[right_from:right_to])
        for side, words in zip(pieces, spans, strict=True):
            if words:
                side.append(Piece("".join(words), own=kind != "equal"))
    return _joined(pieces[0]), _joined(pieces[1])


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Without holes where only a space is the same: they would hide where a change ends."""
    joined: list[Piece] = []
    for at, piece in enumerate(pieces):
        between = 0 < at < len(pieces) - 1 and pieces[at - 1].own and pieces[at + 1].own
        own = piece.own or (between and piece.text.isspace())
        if joined and joined[-1].own == own:
            joined[-1] = Piece(joined[-1].text + piece.text, own)
        else:
            joined.append(Piece(piece.text, own))
    return joined
