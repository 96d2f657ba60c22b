"""A real Grafana with the dashboard as the chart ships it, and a browser that looks at it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import yaml

from tests.cluster.processes import Child, free_ports
from tests.cluster.waiting import wait_until
from tests.monitoring.prometheus import DASHBOARD

_get = build_opener(ProxyHandler({})).open  # never through a proxy of this machine


@contextmanager
def grafana(home: Path, prometheus_url: str, folder: Path) -> Iterator[str]:
    """The URL of the dashboard in the Grafana that is unpacked in `home`; its data go into `folder`."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    process = Child(
        "grafana",
        [str(home / "bin" / "grafana"), "server", f"--homepath={home}"],
        folder / "grafana.log",
        os.environ | _settings(port, prometheus_url, folder),
    )
    process.start()
    try:
        wait_until(lambda: _answers(process, f"{url}/api/health"), "Grafana is ready", 120)
        yield f"{url}/d/{json.loads(DASHBOARD.read_text())['uid']}"
    finally:
        process.stop()


def _settings(port: int, prometheus_url: str, folder: Path) -> dict[str, str]:
    provisioning = folder / "provisioning"
    source = {"name": "Prometheus", "type": "prometheus", "url": prometheus_url, "isDefault": True}
    _provide(provisioning / "datasources", {"datasources": [source | {"jsonData": {"timeInterval": "1s"}}]})
    (folder / "dashboards").mkdir()
    shutil.copy(DASHBOARD, folder / "dashboards")
    files = {"name": "chart", "type": "file", "options": {"path": str(folder / "dashboards")}}
    _provide(provisioning / "dashboards", {"providers": [files]})
    return {
        "GF_PATHS_DATA": str(folder / "data"),
        "GF_PATHS_LOGS": str(folder / "data" / "log"),
        "GF_PATHS_PROVISIONING": str(provisioning),
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_USERS_DEFAULT_THEME": "light",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
        "GF_SECURITY_ANGULAR_SUPPORT_ENABLED": "false",
    }


def _provide(folder: Path, content: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "all.yaml").write_text(yaml.safe_dump({"apiVersion": 1} | content))


def _answers(process: Child, url: str) -> bool:
    process.check()
    try:
        return bool(_get(url, timeout=5).status == 200)
    except OSError:
        return False
