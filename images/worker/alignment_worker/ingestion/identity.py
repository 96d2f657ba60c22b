"""When two pairs, two unpaired rows or two prompts are the same, and when two judgements contradict each other."""

from __future__ import annotations

import hashlib
import unicodedata

from alignment_worker.rows import Pair, Preference, Prompt, RowProblemError

KEY_BYTES = 16
_OPPOSITE = 1  # the last bit of a key: the same answers, judged the other way


def key_of(preference: Preference) -> bytes:
    """Of what was asked, answered and judged; the same of equal ones, and but for the last bit of opposite ones.

    Unicode's NFKC and white space do not count; case and punctuation do, for a preference may be about them. Raises
    RowProblemError for a pair whose answers are the same.
    """
    prompt = _plain(preference.prompt)
    if isinstance(preference, Pair):
        chosen, rejected = _plain(preference.chosen), _plain(preference.rejected)
        if chosen == rejected:
            raise RowProblemError("`chosen` and `rejected` differ in white space alone; take it out")
        judged = chosen < rejected
        said = f"pair\0{prompt}\0{min(chosen, rejected)}\0{max(chosen, rejected)}"
    else:
        judged, said = preference.label, f"unpaired\0{prompt}\0{_plain(preference.completion)}"
    digest = bytearray(hashlib.blake2b(said.encode(), digest_size=KEY_BYTES).digest())
    digest[-1] = digest[-1] & ~_OPPOSITE & 0xFF | judged
    return bytes(digest)


def prompt_key(prompt: Prompt) -> bytes:
    """Of what was asked alone, and in which form: a conversation's system message counts."""
    return hashlib.blake2b(f"prompt{_plain(prompt)}".encode(), digest_size=KEY_BYTES).digest()


def _plain(text: Prompt) -> str:
    """A NUL, which no text has, ends a part."""
    if isinstance(text, str):
        return "\0" + _collapsed(text)
    return "".join(f"\0{message['role']}\0{_collapsed(message['content'])}" for message in text)


def _collapsed(text: str) -> str:
    return " ".join((text if text.isascii() else unicodedata.normalize("NFKC", text)).split())
