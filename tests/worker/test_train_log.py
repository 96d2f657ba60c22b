"""What the training log's columns are called, and that a user can look them up."""

from __future__ import annotations

from pathlib import Path

from alignment_worker import train_log

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


def test_every_column_of_pairs_and_answers_is_on_the_page() -> None:
    of_the_reward_model = {"margin", "accuracy"}
    for column in set(train_log._COLUMNS.values()) - of_the_reward_model:
        assert f"`{column}`" in PAGE
