"""`Cluster` against a real API server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_operator import cluster as cluster_module
from alignment_operator.api import (
    CONFIG_MAP,
    CYCLE,
    AlreadyExistsError,
    ConflictError,
    Manifest,
    NotFoundError,
    RefusedError,
)
from alignment_operator.cluster import Cluster, ExpiredError, NoClusterError, connect
from tests.cluster.client import Client, Namespace
from tests.operator.edges import OnApi, cycle

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]


PLUGIN = """\
#!/bin/sh
echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {{'
echo "\\"token\\": \\"$(cat {folder}/token)\\", \\"expirationTimestamp\\": \\"2000-01-01T00:00:00Z\\"}}}}"
"""


def config_map(namespace: Namespace, name: str, **labels: str) -> Manifest:
    metadata = {"name": name, "namespace": namespace.name, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": "theirs"}}


def test_what_is_not_there_is_none_to_read_and_an_error_to_write(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    async def work(api: Cluster) -> None:
        assert await api.get(CONFIG_MAP, namespace.name, "nothing") is None
        with pytest.raises(NotFoundError):
            await api.merge(CONFIG_MAP, namespace.name, "nothing", {"data": {}})

    on_api(work)


def test_a_second_of_the_same_name_already_exists(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> None:
        await api.create(CONFIG_MAP, config_map(namespace, "one"))
        with pytest.raises(AlreadyExistsError, match="one"):
            await api.create(CONFIG_MAP, config_map(namespace, "one"))

    on_api(work)


def test_what_the_server_will_not_have_is_refused_with_its_reason(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    async def work(api: Cluster) -> None:
        with pytest.raises(RefusedError, match=r"sampling\.temperature"):
            await api.create(CYCLE, cycle("hot", namespace.name, sampling={"temperature": -1}))

    on_api(work)


def test_a_status_is_written_from_the_version_that_was_seen_or_not_at_all(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    async def work(api: Cluster) -> None:
        seen = await api.create(CYCLE, cycle("support", namespace.name))
        await api.merge(CYCLE, namespace.name, "support", {"metadata": {"annotations": {"a": "b"}}})
        with pytest.raises(ConflictError):
            await api.replace_status(CYCLE, {**seen, "status": {"observedGeneration": 1}})

    on_api(work)


def test_another_object_of_the_same_name_is_neither_changed_nor_deleted(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    async def work(api: Cluster) -> Manifest | None:
        await api.create(CONFIG_MAP, config_map(namespace, "one"))
        another = "00000000-0000-4000-8000-000000000000"
        with pytest.raises(ConflictError):
            await api.merge(
                CONFIG_MAP, namespace.name, "one", {"metadata": {"uid": another}, "data": {"key": "x"}}
            )
        await api.delete(CONFIG_MAP, namespace.name, "one", another)
        return await api.get(CONFIG_MAP, namespace.name, "one")

    there = on_api(work)
    assert there is not None
    assert there["data"] == {"key": "theirs"}


def test_a_repeated_event_is_one_event_with_a_count(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> None:
        owner = await api.create(CYCLE, cycle("support", namespace.name))
        for _ in range(3):
            await api.emit(owner, "StageRetried", "again → again", warning=True)
        await api.emit(owner, "StageRetried", "x" * 5000 + "→", warning=False)

    on_api(work)
    events = namespace.list("events.k8s.io/v1", "events")
    counts = {event["note"]: event.get("series", {}).get("count", 1) for event in events}
    assert counts == {"again → again": 3, "x" * 1024: 1}
    described = namespace.kubectl("describe", "alignmentcycle", "support")
    assert "again → again" in described


def test_a_refusal_in_other_words_is_the_same_event(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> None:
        owner = await api.create(CYCLE, cycle("support", namespace.name))
        for used in range(3):
            message = f"exceeded quota: used: pods={used}"
            await api.emit(owner, "JobRefused", message, warning=True, about="support-1-sample-0")
        await api.emit(owner, "JobRefused", "exceeded quota", warning=True, about="support-1-judge-0")

    on_api(work)
    events = namespace.list("events.k8s.io/v1", "events")
    counts = {event["note"]: event.get("series", {}).get("count", 1) for event in events}
    assert counts == {"exceeded quota: used: pods=0": 3, "exceeded quota": 1}


def test_server_side_apply_takes_its_own_fields_and_no_others(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    theirs = config_map(namespace, "served", team="a")
    namespace.apply(theirs)
    ours: Manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "served", "namespace": namespace.name, "annotations": {"ours": "1"}},
        "data": {"uri": "pvc://models/m1"},
    }

    async def work(api: Cluster) -> Manifest:
        await api.apply(CONFIG_MAP, ours, force=False)
        with pytest.raises(ConflictError):
            await api.apply(CONFIG_MAP, {**ours, "data": {"key": "ours"}}, force=False)
        return await api.apply(CONFIG_MAP, {**ours, "data": {"key": "ours"}}, force=True)

    applied = on_api(work)
    assert applied["data"] == {"key": "ours"}
    assert applied["metadata"]["labels"] == {"team": "a"}
    managers = {entry["manager"] for entry in applied["metadata"]["managedFields"]}
    assert "alignment-operator" in managers


def test_a_long_list_is_read_page_by_page(
    on_api: OnApi[Any], namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "PAGE", 2)

    async def work(api: Cluster) -> list[str]:
        for number in range(5):
            await api.create(CONFIG_MAP, config_map(namespace, f"map-{number}", batch="a"))
        await api.create(CONFIG_MAP, config_map(namespace, "other", batch="b"))
        found = await api.list(CONFIG_MAP, namespace.name, {"batch": "a"})
        return [item["metadata"]["name"] for item in found]

    assert on_api(work) == [f"map-{number}" for number in range(5)]


def test_a_watch_tells_what_changes_after_the_list(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> list[tuple[str, str]]:
        await api.create(CONFIG_MAP, config_map(namespace, "before", batch="a"))
        items, version = await api.list_all(CONFIG_MAP, namespace.name, "batch")
        big = config_map(namespace, "after", batch="a")
        big["data"]["long"] = "x" * 500_000
        made = await api.create(CONFIG_MAP, big)
        await api.delete(CONFIG_MAP, namespace.name, "after", made["metadata"]["uid"])
        heard = []
        async for event, item in api.watch(CONFIG_MAP, namespace.name, "batch", version, lambda: None):
            if event != "BOOKMARK":
                heard.append((event, item["metadata"]["name"]))
            if event == "DELETED":
                break
        return [*(("LISTED", item["metadata"]["name"]) for item in items), *heard]

    assert on_api(work) == [("LISTED", "before"), ("ADDED", "after"), ("DELETED", "after")]


def test_a_version_that_is_too_old_to_watch_from_has_expired(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    async def work(api: Cluster) -> None:
        # The server remembers of a kind what happened since the kind was made known, long after version 1.
        async with asyncio.timeout(20):
            with pytest.raises(ExpiredError):
                async for _ in api.watch(CYCLE, namespace.name, "", "1", lambda: None):
                    pass

    on_api(work)


def test_without_a_cluster_the_message_says_what_to_set(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))

    async def reach() -> None:
        async with connect():
            pass

    with pytest.raises(NoClusterError, match="KUBECONFIG"):
        asyncio.run(reach())


def test_a_token_of_a_plugin_that_has_expired_is_asked_for_again(
    cluster: Client, crds: None, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
    (user,) = kubeconfig["users"]
    (tmp_path / "token").write_text("no longer valid")
    plugin = tmp_path / "plugin"
    plugin.write_text(PLUGIN.format(folder=tmp_path))
    plugin.chmod(0o755)
    valid = user["user"]["token"]
    exec_ = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(plugin),
        "interactiveMode": "Never",
    }
    user["user"] = {"exec": exec_}
    (tmp_path / "config").write_text(yaml.safe_dump(kubeconfig))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))

    async def read() -> None:
        async with connect() as api:
            (tmp_path / "token").write_text(valid)
            assert await api.list(CONFIG_MAP, namespace.name, {"none": "such"}) == []

    asyncio.run(read())
