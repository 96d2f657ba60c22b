"""Label Studio as a process, and what a person does there."""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.cluster.processes import free_ports
from tests.cluster.waiting import wait_until
from tests.environments import programs

PINS = Path(__file__).with_name("label-studio.txt")
EMAIL, PASSWORD = "ada@example.org", "correct horse"
START_SECONDS = 600.0


class Server:
    """Started at once, answers within some minutes on a busy machine. Nothing leaves the machine."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.token = ""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
            "COLLECT_ANALYTICS": "False",
            "LATEST_VERSION_CHECK": "False",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
        }
        command = [
            str(programs(PINS) / "label-studio"),
            "start",
            "--no-browser",
            "--internal-host",
            "127.0.0.1",
        ]
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [*command, "--port", str(port), "--username", EMAIL, "--password", PASSWORD],
            env=environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def ready(self) -> Server:
        """It answers, and there is a token."""
        if not self.token:
            wait_until(lambda: self._healthy() or None, "Label Studio answers", START_SECONDS)
            self.token = self._new_token()
        return self

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()

    def _healthy(self) -> bool:
        assert self._process.poll() is None, "Label Studio ended"
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _new_token(self) -> str:
        """A personal access token, as a person makes one: logged in, on the account's page."""
        cookies = http.cookiejar.CookieJar()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
        with browser.open(f"{self.url}/user/login/") as answer:
            found = re.search(r'csrfmiddlewaretoken" value="([^"]+)"', answer.read().decode())
        assert found is not None
        form = {"email": EMAIL, "password": PASSWORD, "csrfmiddlewaretoken": found[1]}
        headers = {"Referer": self.url}
        login = urllib.request.Request(
            f"{self.url}/user/login/", urllib.parse.urlencode(form).encode(), headers
        )
        browser.open(login).close()
        (csrf,) = (cookie.value for cookie in cookies if cookie.name == "csrftoken")
        headers |= {"X-CSRFToken": str(csrf), "Content-Type": "application/json"}
        with browser.open(urllib.request.Request(f"{self.url}/api/token/", b"{}", headers)) as answer:
            return str(json.loads(answer.read())["token"])

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """With access of its own, which lives for five minutes."""
        access = self._call("POST", "/api/token/refresh/", {"refresh": self.token})["access"]
        return self._call(method, path, body, {"Authorization": f"Bearer {access}"})

    def _call(self, method: str, path: str, body: Any, authorization: dict[str, str] | None = None) -> Any:
        headers = {"Content-Type": "application/json"} | (authorization or {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            said = answer.read()
        return json.loads(said) if said else None

    def new_project(self, config: str = "") -> int:
        body = {"title": "Answers", **({"label_config": config} if config else {})}
        return int(self.call("POST", "/api/projects/", body)["id"])

    def tasks(self, project: int) -> list[dict[str, Any]]:
        found = self.call("GET", f"/api/tasks/?project={project}&page_size=1000&fields=all")["tasks"]
        return sorted(found, key=lambda task: int(task["id"]))

    def annotate(self, task: int, selected: str | None) -> int:
        """`left`, `right`, or None: skipped."""
        return int(self.call("POST", f"/api/tasks/{task}/annotations/", annotation(selected))["id"])

    def change(self, annotated: int, selected: str | None) -> None:
        self.call("PATCH", f"/api/annotations/{annotated}/", annotation(selected))


def annotation(selected: str | None) -> dict[str, Any]:
    if selected is None:
        return {"result": [], "was_cancelled": True}
    region = {
        "from_name": "preferred",
        "to_name": "answer_a,answer_b",
        "type": "pairwise",
        "value": {"selected": selected},
    }
    return {"result": [region], "was_cancelled": False}
