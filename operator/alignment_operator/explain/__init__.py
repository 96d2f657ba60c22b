"""Pure: from a decided iteration to words and numbers for people. `explained` is the whole of it."""

from alignment_operator.explain.explanation import explained

__all__ = ["explained"]
