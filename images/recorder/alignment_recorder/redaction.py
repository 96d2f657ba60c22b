"""What must not be kept is replaced before it is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

REDACTED = "[redacted]"


def redacted(value: Any, patterns: Sequence[re.Pattern[str]]) -> Any:
    """A JSON value of the same shape; whatever matches in its texts, not in its names, is `[redacted]`."""
    if isinstance(value, str):
        for pattern in patterns:
            value = pattern.sub(REDACTED, value)
        return value
    if isinstance(value, list):
        return [redacted(item, patterns) for item in value]
    if isinstance(value, dict):
        return {name: redacted(item, patterns) for name, item in value.items()}
    return value
