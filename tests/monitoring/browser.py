"""Chromium without a screen, by its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, Self
from urllib.request import ProxyHandler, build_opener

from websocket import WebSocket, create_connection

from tests.cluster.processes import Child, free_ports
from tests.cluster.waiting import wait_until

_get = build_opener(ProxyHandler({})).open  # never through a proxy of this machine


class Browser:
    """One page of so many CSS pixels. A context: it ends with it."""

    def __init__(self, folder: Path, width: int, height: int) -> None:
        (self._port,) = free_ports(1)
        argv = [
            "chromium",
            "--headless=new",
            "--no-sandbox",  # a root user has no other way
            "--hide-scrollbars",
            "--disable-gpu",
            f"--remote-debugging-port={self._port}",
            f"--user-data-dir={folder / 'chromium'}",
            f"--window-size={width},{height}",
            "about:blank",
        ]
        self._process = Child("chromium", argv, folder / "chromium.log")
        self._size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._calls = 0
        self._page: WebSocket

    def __enter__(self) -> Self:
        self._process.start()
        self._page = create_connection(
            wait_until(self._address, "Chromium has a page"), timeout=60, suppress_origin=True
        )
        self._call("Emulation.setDeviceMetricsOverride", **self._size)
        return self

    def __exit__(self, *_: object) -> None:
        self._page.close()
        self._process.stop()

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """Of JavaScript in the page; None if it has no such thing yet."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def picture(self, height: int) -> bytes:
        """The page's upper part as a PNG."""
        clip = {"x": 0, "y": 0, "width": self._size["width"], "height": height, "scale": 1}
        return base64.b64decode(self._call("Page.captureScreenshot", format="png", clip=clip)["data"])

    def _address(self) -> str | None:
        self._process.check()
        try:
            with _get(f"http://127.0.0.1:{self._port}/json/list", timeout=5) as answer:
                pages = json.load(answer)
        except OSError:
            return None
        return next((page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"), None)

    def _call(self, method: str, **parameters: Any) -> Any:
        self._calls += 1
        self._page.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._page.recv())
            if answer.get("id") == self._calls:
                assert "error" not in answer, answer
                return answer["result"]
