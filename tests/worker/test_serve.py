"""The warm process of a local run."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.worker import tiny
from tests.worker.loop import Loop
from tests.worker.serving import Server, gone


@pytest.fixture
def loop(tmp_path: Path, llama: Path, other_llama: Path, reward: Path) -> Loop:
    return Loop(tmp_path, llama, other_llama, reward)


def test_a_request_is_a_stage_in_a_fork(server: Server, loop: Loop) -> None:
    pid, done = server.run(loop.folder / "job", loop.sample())
    assert (done.code, done.result.counts["completions"]) == (0, 36)
    assert pid != server.pid
    assert gone(pid)


def test_one_stage_after_another_in_the_same_process(server: Server, loop: Loop) -> None:
    _, sampled = server.run(loop.folder / "job", loop.sample())
    _, judged = server.run(loop.folder / "job", loop.judge(sampled))
    assert judged.result.counts["judgements"] == 36


def test_what_a_stage_says_goes_to_its_log(server: Server, loop: Loop) -> None:
    config = loop.sample([{"prompt": "say a", "x": 1}])
    (loop.folder / "data" / "prompts.jsonl").write_text("{")
    _, done = server.run(loop.folder / "job", config)
    assert done.code == 65
    log = (loop.folder / "job" / "log").read_text()
    assert f"InvalidRow: {loop.folder}/data/prompts.jsonl: line 1: is not JSON" in log


def test_a_wrong_command_line_is_exit_2(server: Server, tmp_path: Path) -> None:
    assert server.exit_of(server.start(["sample"], tmp_path / "log")) == 2
    assert "--config" in (tmp_path / "log").read_text()


def test_sigterm_is_reported_as_interrupted(server: Server, loop: Loop) -> None:
    config = loop.sample(tiny.prompt_rows(4000), max_new_tokens=100)
    request = server.begin(loop.folder / "job", config)
    server.until(lambda: progress(loop.folder / "job") > 0)
    os.kill(request.pid, signal.SIGTERM)
    done = server.finish(request)
    assert (done.code, done.failure.reason) == (143, "Interrupted")
    assert not list((loop.folder / "sample").glob("run-*"))


def progress(job: Path) -> int:
    """Prompts done."""
    try:
        said = json.loads((job / "progress.json").read_bytes())
    except FileNotFoundError:
        return 0
    return int(said["done"]) if said["unit"] == "prompts" else 0


@pytest.mark.parametrize("how", ["end of stdin", "SIGKILL"])
def test_the_server_takes_its_stage_along(how: str, loop: Loop) -> None:
    with Server() as own:
        request = own.begin(loop.folder / "job", loop.sample(tiny.prompt_rows(4000), max_new_tokens=100))
        own.until(lambda: progress(loop.folder / "job") > 0)
        if how == "SIGKILL":
            os.kill(own.pid, signal.SIGKILL)
        else:
            own.close_stdin()
        own.until(lambda: gone(request.pid))
        own.until(own.ended)


def test_a_process_for_the_ingest_alone_loads_neither_torch_nor_lancedb() -> None:
    with Server("-m", "alignment_worker", "serve", "ingest") as server:
        assert server.exit_of(server.start(["ingest"], Path(os.devnull))) == 2
        loaded = Path(f"/proc/{server.pid}/maps").read_text()
        assert "pydantic_core" in loaded
        assert "libtorch" not in loaded
        assert "lancedb" not in loaded
