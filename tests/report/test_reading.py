"""How a report gets from a pod to the person who asked: the Job, the lines of its log, the worker's command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alignment_api import names
from alignment_api.iteration_report import Results, ResultsConfig, Wanted, framed, unframed
from alignment_api.pods import PodDefaults
from alignment_api.stage import Stage
from alignment_operator.observed import Owner
from alignment_operator.render.reading import MAX_CONFIG_BYTES, Reading, render_reading
from alignment_worker.iteration_report.__main__ import main
from tests.operator.plan_world import World
from tests.report.markup import Page
from tests.report.stored import CLAIM, Stored

OWNER = Owner("team", "support", "uid-1", 1, "1", {})
CONFIG = ResultsConfig(iterations="pvc://models/cycles/team/support/uid-1/iterations", numbers=[1])


def rendered(**pods: Any) -> dict[str, Any]:
    settings = PodDefaults.from_wire({"image": "worker:1", "serviceAccountName": "trainer", **pods})
    return render_reading(OWNER, Reading("support-report-abc", CONFIG, settings))


def test_what_is_framed_is_found_among_other_lines_whatever_it_holds() -> None:
    data = ("<p>é\u2028\n" * 20_000).encode()
    log = f"a warning\n{framed(data)}\nanother\n".encode()
    assert unframed(log) == data
    assert max(map(len, framed(data).splitlines())) < 16_384, "kubelet splits longer lines"


@pytest.mark.parametrize(
    "broken", ["", "nothing of the kind", framed(b"x" * 50_000)[200:], framed(b"x")[:-20]]
)
def test_a_log_that_lost_something_is_not_taken_for_whole(broken: str) -> None:
    with pytest.raises(ValueError, match="not whole"):
        unframed(broken.encode())


def test_the_job_sees_the_cycles_iterations_alone_and_may_write_nothing() -> None:
    pod = rendered()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    claims = [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert [volume["persistentVolumeClaim"]["claimName"] for volume in claims] == ["models"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    store = mounts["/alignment/claims/models/cycles/team/support/uid-1/iterations"]
    assert store["subPath"] == "cycles/team/support/uid-1/iterations"
    assert [path for path, mount in mounts.items() if not mount.get("readOnly")] == ["/tmp"]


def test_the_job_runs_as_the_stages_do_and_goes_by_itself() -> None:
    job = rendered(podSecurityContext={"runAsUser": 1000}, nodeSelector={"disk": "near"})
    pod = job["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    assert (pod["serviceAccountName"], pod["nodeSelector"]) == ("trainer", {"disk": "near"})
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    assert (job["spec"]["backoffLimit"], job["spec"]["ttlSecondsAfterFinished"]) == (0, 60)
    assert job["metadata"]["ownerReferences"][0]["uid"] == "uid-1"


def test_the_operator_does_not_take_it_for_a_stage() -> None:
    labels = rendered()["metadata"]["labels"]
    assert not {names.LABEL_OWNER_UID, names.LABEL_STAGE, names.LABEL_CYCLE} & set(labels)


def test_with_a_queue_it_queues_as_the_stages_do() -> None:
    job = rendered(queueName="team-a")
    assert job["metadata"]["labels"][names.LABEL_QUEUE] == "team-a"
    assert job["spec"]["suspend"] is True


def test_the_pod_carries_the_config_that_the_worker_reads() -> None:
    annotations = rendered()["spec"]["template"]["metadata"]["annotations"]
    assert Wanted.model_validate_json(annotations[names.ANNOTATION_REPORT_CONFIG]).root == CONFIG


def test_a_config_that_no_annotation_can_hold_is_refused_here() -> None:
    config = ResultsConfig(iterations=CONFIG.iterations, numbers=[10**9] * (MAX_CONFIG_BYTES // 10))
    with pytest.raises(ValueError, match="an annotation holds"):
        render_reading(OWNER, Reading("x", config, PodDefaults()))


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path / "store", World(annotations={"alignment.dev/run": "1"})).settle()


def config_file(tmp_path: Path, config: dict[str, Any]) -> Path:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    return file


def worker(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "alignment_worker.iteration_report", *arguments]
    return subprocess.run(command, capture_output=True, timeout=120, check=False)


def test_the_command_prints_the_page_framed_for_a_log(tmp_path: Path, stored: Stored) -> None:
    file = config_file(tmp_path, stored.config().to_wire())
    done = worker("--config", str(file), "--claim", f"{CLAIM}={stored.folder}", "--framed")
    assert done.returncode == 0, done.stderr
    assert Page(unframed(done.stdout).decode()).faults == []


def test_the_command_needs_neither_torch_nor_scipy(tmp_path: Path, stored: Stored) -> None:
    file = config_file(tmp_path, stored.config().to_wire())
    program = (
        "import sys; from alignment_worker.iteration_report.__main__ import main; "
        f"code = main(['--config', {str(file)!r}, '--claim', {f'{CLAIM}={stored.folder}'!r}]); "
        "assert not {'torch', 'transformers', 'scipy'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_results_are_what_the_stages_reported(
    tmp_path: Path, stored: Stored, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    config = ResultsConfig(iterations=stored.config().iterations, numbers=[1, 2])
    assert (
        main(
            ["--config", str(config_file(tmp_path, config.to_wire())), "--claim", f"{CLAIM}={stored.folder}"]
        )
        == 0
    )
    found = Results.of(capfdbinary.readouterr().out).iterations
    assert found[2] == {}
    reported = {entry["name"]: entry["result"] for entry in stored.world.iteration["stages"]}
    assert {stage.value for stage in found[1]} == set(reported)
    assert found[1][Stage.EVALUATE].to_wire() == reported["evaluate"]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"form": "Html"}, "not the config of a report: Html.namespace"),
        ({"form": "Poem"}, "not the config of a report"),
        (
            {"form": "Results", "contractVersion": 99, "iterations": "pvc://a/b", "numbers": []},
            "contractVersion: 99",
        ),
        ({"form": "Results", "iterations": "ftp://a/b", "numbers": [1]}, "'ftp://a/b' is not a URI"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(
    tmp_path: Path, config: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(config_file(tmp_path, config))]) == 64
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert told in line
