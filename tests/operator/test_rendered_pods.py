"""The rendered Job, run for real: what its pod finds, what it may write, who it is."""

from __future__ import annotations

import json
from typing import Any

from alignment_api.cycle import PythonGrader
from alignment_api.pods import PodDefaults
from alignment_api.stage import Input, InputKind, PromoteParameters, Stage, StageConfig
from alignment_operator.api import Manifest
from alignment_operator.planned import StartJob
from alignment_operator.render import render_job
from tests.cluster.client import Namespace
from tests.cluster.manifests import claim
from tests.operator.edges import EVIDENCE, SETTINGS, finished_job, owner, stage_config

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]

PREFIX = "cycles/team/support/uid-1"


def run(
    namespace: Namespace, config: StageConfig, script: str, image: str = "busybox", shell: str = "sh"
) -> Any:
    """What a script in the worker's place printed, as JSON, to its termination log."""
    start = StartJob("support-3", "f" * 64, config, 0, PodDefaults(retries=0, image=image))
    manifest = render_job(owner(namespace=namespace.name), start, SETTINGS)
    del manifest["metadata"]["ownerReferences"]  # there is no such cycle, so it would be collected
    worker = manifest["spec"]["template"]["spec"]["containers"][0]
    worker |= {"command": [shell, "-c", script], "args": []}
    namespace.apply(manifest)
    finished_job(namespace, "support-3")
    (pod,) = namespace.pods_of("support-3")
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["exitCode"] == 0, namespace.kubectl("logs", pod["metadata"]["name"], "--all-containers")
    return json.loads(ended["message"])


def restricted(namespace: Namespace) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    namespace.kubectl("label", "namespace", namespace.name, label)
    namespace.apply(claim("store"), claim("data"))


def promote_config() -> StageConfig:
    parameters = PromoteParameters(
        evidence=EVIDENCE, evidence_digest=EVIDENCE.candidate_digest, cycle_prefix=f"pvc://store/{PREFIX}"
    )
    candidate = Input(uri="pvc://store/candidate", kind=InputKind.MODEL, digest=EVIDENCE.candidate_digest)
    return stage_config(
        stage=Stage.PROMOTE,
        parameters=parameters,
        output=f"pvc://store/{PREFIX}/iterations/3/promote",
        inputs={"candidate": candidate},
    )


WRITABLE = """
echo '[""' > /tmp/found
for folder in / /alignment/claims/store /alignment/claims/data /alignment/output /tmp \
  /alignment/claims/store/%s /alignment/claims/store/%s/ledger
do touch $folder/probe 2>/dev/null && echo ', "'$folder'"' >> /tmp/found
done
echo ']' >> /tmp/found; cat /tmp/found > /dev/termination-log
""" % (PREFIX, PREFIX)  # noqa: UP031 - the script is full of braces of its own


def test_the_worker_reads_its_config_as_nobody_with_no_token(namespace: Namespace) -> None:
    restricted(namespace)
    script = (
        'printf \'{"uid": %s, "home": "%s", "token": %s, "config": %s}\' $(id -u) $HOME '
        '$(ls /var/run/secrets/kubernetes.io 2>/dev/null | wc -l) "$(cat /alignment/config/stage.json)" '
        "> /dev/termination-log"
    )
    found: Manifest = run(namespace, stage_config(), script)
    assert StageConfig.from_wire(found.pop("config")) == stage_config()
    assert found == {"uid": 65532, "home": "/tmp", "token": 0}


def test_only_the_stages_own_folder_is_writable(namespace: Namespace) -> None:
    restricted(namespace)
    assert run(namespace, stage_config(), WRITABLE) == ["", "/alignment/output", "/tmp"]


def test_promote_may_write_the_ledger_too(namespace: Namespace) -> None:
    restricted(namespace)
    ledger = f"/alignment/claims/store/{PREFIX}/ledger"
    assert run(namespace, promote_config(), WRITABLE) == ["", "/alignment/output", "/tmp", ledger]


GRADED = """
import json, os
from pathlib import Path
from alignment_worker.python_grader import client
test = "assert reach() == 'refused'"
reach = "def reach():\\n try: {}\\n except OSError: return 'refused'\\n return 'done'"
attempts = [
    "open('/proc/1/environ').read()",
    "open('/alignment/config/stage.json').read()",
    "open('/alignment/grader/x', 'w')",
    "import os; os.unlink('/alignment/grader/socket')",
    "import socket; socket.create_connection((" + repr(os.environ["ALIGNMENT_POD_IP"]) + ", 9464))",
    "import os; os.kill(1, 9)",
]
questions = [(test, reach.format(attempt)) for attempt in attempts]
questions += [("assert add(2, 3) == 5", f"def add(a, b): return a {sign} b") for sign in "+-"]
Path("/dev/termination-log").write_text(json.dumps(client.right(questions)))
"""


def test_a_grader_beside_the_worker_runs_code_that_reaches_nothing(namespace: Namespace) -> None:
    restricted(namespace)
    config = stage_config(python_grader=PythonGrader())
    right = run(namespace, config, GRADED, "alignment-dev/worker", "python")
    assert right == [True] * 7 + [False]
    (pod,) = namespace.pods_of("support-3")
    (grader,) = pod["status"]["initContainerStatuses"]
    assert grader["restartCount"] == 0
