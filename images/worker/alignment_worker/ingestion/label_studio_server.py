"""A Label Studio server: its project, its tasks with their annotations, new tasks.

https://labelstud.io/api: Data Manager's list of tasks, and personal access tokens. Tried with 1.23.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import urllib3

from alignment_worker.failures import InvalidConfigError, LabelStudioError

PAGE = 100
_SECONDS = urllib3.Timeout(connect=10, read=120)  # pages of long tasks are slow
_LONGEST_SECONDS = 120  # of what a server asks to wait: a pod that sleeps for hours looks as if it hung
_BUSY = (429, 500, 502, 503, 504)
# The clock of the database may be a little behind that of the web server.
_OVERLAP = timedelta(seconds=5)
_INSTANT = "%Y-%m-%dT%H:%M:%S.%fZ"  # a fraction is required

Task = dict[str, Any]


class LabelStudio:
    """One project. Every method raises LabelStudioError, which another attempt may mend, or InvalidConfigError."""

    def __init__(self, url: str, token: str, project: int, where: str, backoff_seconds: float = 1.0) -> None:
        """`where`: path of the field that errors name. `token`: a personal access token, or a legacy one."""
        self._url, self._token, self._project, self._where = url.rstrip("/"), token, project, where
        self._http = urllib3.PoolManager(
            timeout=_SECONDS,
            retries=urllib3.Retry(
                6,
                redirect=0,
                status_forcelist=_BUSY,
                backoff_factor=backoff_seconds,
                raise_on_status=False,
                retry_after_max=_LONGEST_SECONDS,
            ),
        )
        self._access: str | None = None
        self._answered: datetime | None = None

    def config(self) -> str:
        """The labelling interface, in XML."""
        return str(self._call("GET", f"/api/projects/{self._project}/").get("label_config") or "")

    def set_config(self, config: str) -> None:
        self._call("PATCH", f"/api/projects/{self._project}/", {"label_config": config})

    def tasks(self, since: str | None = None) -> Iterator[Task]:
        """By id; with `since`, an instant that `now` gave, only what changed from then on.

        Each page goes on behind the last id: tasks that come, go or change meanwhile move no other out of sight.
        """
        last = 0
        while True:
            items = [_condition("id", "greater", "Number", last)]
            if since is not None:
                items.append(_condition("updated_at", "greater_or_equal", "Datetime", since))
            query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}
            path = f"/api/tasks/?project={self._project}&page=1&page_size={PAGE}&fields=all&query="
            page = self._call("GET", path + quote(json.dumps(query))).get("tasks")
            ids = [_id(task) for task in page] if isinstance(page, list) else []
            # A server that heeds no filter would be read for ever.
            if not isinstance(page, list) or any(found <= last for found in ids):
                raise self._said(f"a list of tasks with ids above {last} was expected")
            yield from page
            if len(page) < PAGE:
                return
            last = max(ids)

    def count(self) -> int:
        """Tasks of the project."""
        return int(self._call("GET", f"/api/projects/{self._project}/").get("task_number") or 0)

    def now(self) -> str:
        """An instant of the server's clock before which every change has been seen by whoever reads from now on."""
        if self._answered is None:
            self.config()
        assert self._answered is not None
        return (self._answered - _OVERLAP).strftime(_INSTANT)

    def add(self, data: Sequence[Mapping[str, Any]]) -> None:
        """New tasks. One that the server took without saying so is there twice after another attempt: look first."""
        for start in range(0, len(data), PAGE):
            tasks = [{"data": dict(item)} for item in data[start : start + PAGE]]
            self._call("POST", f"/api/projects/{self._project}/import", tasks)

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        status, found = self._asked(method, path, body, self._authorization())
        if status == 401 and self._is_personal and self._access is not None:
            self._access = None  # it lives for minutes
            status, found = self._asked(method, path, body, self._authorization())
        if status in (401, 403):
            raise InvalidConfigError(
                f"{self._where}.tokenSecretRef: {self._url} refuses the token ({status}); give one of a user who may "
                f"read and add to project {self._project}"
            )
        if status == 404:
            raise InvalidConfigError(
                f"{self._where}.projectID: {self._project}: {self._url} has no such project"
            )
        if not 200 <= status < 300:
            raise self._said(f"it answered {status} to {method} {path.partition('?')[0]}: {str(found)[:200]}")
        if not isinstance(found, dict):
            raise self._said(f"it answered {method} {path.partition('?')[0]} with what is no JSON object")
        return found

    @property
    def _is_personal(self) -> bool:
        """A JSON Web Token, which buys access for some minutes."""
        return self._token.count(".") == 2

    def _authorization(self) -> str:
        if not self._is_personal:
            return f"Token {self._token}"
        if self._access is None:
            status, found = self._asked("POST", "/api/token/refresh/", {"refresh": self._token}, None)
            if status != 200 or not isinstance(found, dict) or "access" not in found:
                raise InvalidConfigError(
                    f"{self._where}.tokenSecretRef: {self._url} refuses the personal access token ({status}); "
                    "make a new one"
                )
            self._access = str(found["access"])
        return f"Bearer {self._access}"

    def _asked(self, method: str, path: str, body: Any, authorization: str | None) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if authorization is not None:
            headers["Authorization"] = authorization
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._http.request(method, self._url + path, headers=headers, body=data)
        except urllib3.exceptions.LocationParseError as error:
            raise InvalidConfigError(f"{self._where}.url: {self._url!r} is no address") from error
        except urllib3.exceptions.HTTPError as error:
            raise self._said(f"it cannot be reached: {error}") from error
        self._answered = _dated(answer.headers.get("Date"))
        try:
            return answer.status, json.loads(answer.data) if answer.data else {}
        except ValueError:
            return answer.status, answer.data[:200].decode("utf-8", "replace")

    def _said(self, what: str) -> LabelStudioError:
        return LabelStudioError(f"{self._where}.url: {self._url}: {what}")


def _condition(field: str, operator: str, kind: str, value: object) -> dict[str, object]:
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": kind, "value": value}


def _id(task: object) -> int:
    """0 for what is no task."""
    found = task.get("id") if isinstance(task, dict) else None
    return found if isinstance(found, int) else 0


def _dated(header: str | None) -> datetime:
    try:
        return parsedate_to_datetime(header or "").astimezone(UTC)
    except ValueError:
        return datetime.fromtimestamp(time.time(), UTC)
