"""Clusters of prompts: what is asked most makes no more of them than what is asked once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from alignment_worker.ingestion import clusters


def around(topics: list[int], dimensions: int = 32) -> Any:
    """Vectors of length 1; those of a topic are close to each other, topics are at right angles."""
    draw = np.random.default_rng(0)
    found = np.eye(dimensions)[topics] + draw.normal(0, 0.05, (len(topics), dimensions))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


def test_a_topic_is_one_cluster_however_often_it_is_asked() -> None:
    topics = [0] * 500 + [1, 2, 3] + [0] * 500 + [1, 4]
    found = clusters.of(around(topics))
    assert found.tolist() == topics


def test_blocks_share_their_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = around([number % 7 for number in range(100)])
    whole = clusters.of(vectors)
    monkeypatch.setattr(clusters, "_AT_ONCE", 8)
    assert clusters.of(vectors).tolist() == whole.tolist()


def test_what_comes_after_the_last_cluster_joins_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "MOST", 3)
    vectors = around([0, 1, 2, 3, 1, 2])
    found = clusters.of(vectors)
    assert found[[0, 1, 2, 4, 5]].tolist() == [0, 1, 2, 1, 2]
    assert found[3] in (0, 1, 2)


def test_no_prompts_are_no_clusters() -> None:
    assert clusters.of(around([])).tolist() == []
