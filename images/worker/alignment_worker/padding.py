"""What fills up a batch that a sequence classifier reads; it takes the last token that is not this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Padding:
    """The model's own; if it names none, an id that is in no sequence of the batch."""

    def __init__(self, model: Any) -> None:
        self._config = model.config.get_text_config()
        self._ours = self._config.pad_token_id is None

    def id_for(self, sequences: Sequence[Sequence[int]]) -> int:
        """The model knows of it from then on."""
        if self._ours:
            used = {token for row in sequences for token in row}
            self._config.pad_token_id = next(
                token for token in range(self._config.vocab_size) if token not in used
            )
        return int(self._config.pad_token_id)
