"""When an answer counts as longer."""

from __future__ import annotations

import pytest

from alignment_worker.compare import is_longer


@pytest.mark.parametrize(
    ("candidate", "incumbent", "longer"), [(12, 10, False), (13, 10, True), (5, 10, False)]
)
def test_longer_is_over_a_fifth_longer(candidate: int, incumbent: int, longer: bool) -> None:
    row = {"candidate": {"ids": [1] * candidate}, "incumbent": {"ids": [1] * incumbent}}
    assert is_longer(row) is longer
