"""`pytest tests/e2e/flywheel_screenshots.py -s`: docs/images/flywheel-*.png, from the example as it stands.

`chromium` and `pngquant` are on the PATH. Prints what `kubectl get` says at the end.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import ended
from tests.cluster.processes import Child
from tests.cluster.waiting import wait_until
from tests.e2e.test_cluster_flywheel import (
    Site,
    annotate,
    manifests,
    operator,
    site,
    used,
)
from tests.e2e.test_cluster_quickstart import ROOT, until
from tests.label_studio.server import EMAIL, PASSWORD, Server
from tests.monitoring.browser import Browser

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures", "tests.label_studio.fixtures"]

__all__ = ["operator", "site"]  # the fixtures

IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 1200, 1000  # pixels


def save(name: str, picture: bytes) -> None:
    small = ["pngquant", "--force", "--output", str(IMAGES / name), "-"]
    subprocess.run(small, input=picture, check=True)


def log_in(browser: Browser, studio: Server) -> None:
    browser.open(f"{studio.url}/user/login/")
    wait_until(lambda: browser.value("document.querySelector('input[name=email]') !== null"), "the login")
    browser.value(
        f"""(() => {{
            document.querySelector('input[name=email]').value = {json.dumps(EMAIL)};
            const password = document.querySelector('input[name=password]');
            password.value = {json.dumps(PASSWORD)};
            password.form.submit();
        }})()"""
    )
    wait_until(lambda: browser.value("!location.pathname.includes('login')"), "logged in", 60)


def a_task(browser: Browser, studio: Server, project: int) -> bytes:
    """The page on which a person says which answer is better."""
    first = studio.tasks(project)[0]
    log_in(browser, studio)
    browser.open(f"{studio.url}/projects/{project}/data?task={first['id']}")
    answer = json.dumps(first["data"]["answer_a"])
    shown = f"document.body.innerText.includes({answer}) && document.body.innerText.includes('Submit')"
    wait_until(lambda: browser.value(shown), "both answers are shown", 120)
    return browser.picture(700)


@pytest.mark.timeout(1800)
def test_screenshots(starting_label_studio: Server, site: Site, operator: Child, tmp_path: Path) -> None:
    namespace, (studio, project) = site.namespace, used(site, starting_label_studio)
    replaced = {"http://label-studio:8080": studio.url, "projectID: 1": f"projectID: {project}"}
    namespace.apply(*manifests("cycle.yaml"), *manifests("dataset.yaml", **replaced))
    site.refreshed(1)
    with Browser(tmp_path, WIDTH, HEIGHT) as browser:
        save("flywheel-label-studio.png", a_task(browser, studio, project))
    annotate(studio, project)
    namespace.kubectl("annotate", "prefds", "production", "alignment.dev/run=annotated")
    site.refreshed(2)
    until(namespace, "flywheel", lambda seen: seen.get("iteration", {}).get("outcome"), "it ends")
    print(namespace.kubectl("get", "prefds,acyc"))
    called = "/usr/local/bin/kubectl-align"
    report = ("report", "flywheel", "-n", namespace.name, "-o", "flywheel.html")
    done = ended(tmp_path, *report, kubeconfig=namespace.client.kubeconfig, called=called, timeout=400)
    assert done.returncode == 0, done.stderr
    with Browser(tmp_path, WIDTH, HEIGHT) as browser:
        browser.open((tmp_path / "flywheel.html").as_uri())
        wait_until(lambda: browser.value("document.readyState === 'complete'"), "the report is drawn")
        save("flywheel-report.png", browser.picture(HEIGHT))
    namespace.apply(*manifests("cycle-sampled.yaml"))
    until(namespace, "flywheel-sampled", lambda seen: seen.get("iteration", {}).get("outcome"), "it ends")
    print(namespace.kubectl("get", "prefds,acyc"))
