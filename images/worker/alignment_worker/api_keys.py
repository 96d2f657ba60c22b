"""Keys and tokens of Secrets, as they come in the environment."""

from __future__ import annotations

import os
import re

from alignment_worker.failures import InvalidConfigError


def api_key(variable: str, field: str) -> str:
    """Empty if there is none. Raises InvalidConfigError for what no header takes: clients quote it when they say so."""
    found = os.environ.get(variable, "").strip()
    if not re.fullmatch(r"[!-~]*", found):
        raise InvalidConfigError(
            f"{field}: what the Secret holds there has white space in it, or a character that is not ASCII; put the "
            "key alone there"
        )
    return found
