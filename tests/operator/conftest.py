"""What every test of the operator's edges needs."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def cancelled_handshakes_end_with_their_test() -> Iterator[None]:
    """asyncio drops a connection that is cancelled in its TLS handshake, and leaves its socket to the collector.

    Tests that cut a watch off do that now and then. Collected here, it cannot warn in the middle of another test.
    """
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed", ResourceWarning)
        gc.collect()
