"""The recorder between a client and a server: what passes, what is logged, and that neither can hurt the other."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.cluster.processes import free_ports
from tests.cluster.waiting import wait_until
from tests.recorder.recorder import Recorder, logged
from tests.recorder.upstream import Upstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture
def recorder(upstream: Upstream, tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(upstream.port, tmp_path / "log") as running:
        yield running


def asked(
    url: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Message, bytes]:
    request = urllib.request.Request(url, body, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def chat(recorder: Recorder, said: str, **more: Any) -> tuple[int, Message, bytes]:
    body = json.dumps({"model": "served", "messages": [{"role": "user", "content": said}], **more})
    headers = {"Content-Type": "application/json", "Authorization": "Bearer secret"}
    return asked(f"{recorder.url}/v1/chat/completions", body.encode(), headers)


def test_an_answer_passes_and_is_logged(recorder: Recorder, upstream: Upstream) -> None:
    _, _, body = chat(recorder, "hello", user="ada")
    answer = json.loads(body)
    assert answer["choices"][0]["message"]["content"] == "you said hello"
    assert upstream.seen[-1][0].headers["Authorization"] == "Bearer secret"
    recorder.end()
    (row,) = logged(recorder.folder)
    assert (row["kind"], row["id"], row["response"]) == ("chat", answer["id"], answer)
    assert row["request"]["messages"] == [{"role": "user", "content": "hello"}]
    assert row["request"]["user"] == "ada"
    assert row["digest"] is None
    assert "secret" not in json.dumps(row)


def test_a_streamed_answer_arrives_piece_by_piece(recorder: Recorder, upstream: Upstream) -> None:
    client = openai.OpenAI(base_url=f"{recorder.url}/v1", api_key="k", max_retries=0)
    with client:
        stream = client.chat.completions.create(
            model="served", messages=[{"role": "user", "content": "wait"}], stream=True
        )
        first = [next(stream), next(stream)]
        assert first[1].choices[0].delta.content == "you "
        upstream.go.set()
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert pieces == ["said ", "wait", ""]
    recorder.end()
    (row,) = logged(recorder.folder)
    assert row["response"]["object"] == "chat.completion"
    (choice,) = row["response"]["choices"]
    assert choice == {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "you said wait"},
    }


def test_a_client_that_leaves_at_the_last_word_had_the_whole_answer(recorder: Recorder) -> None:
    client = openai.OpenAI(base_url=f"{recorder.url}/v1", api_key="k", max_retries=0)
    with client:
        told = list(
            client.chat.completions.create(
                model="served", messages=[{"role": "user", "content": "linger"}], stream=True
            )
        )
    assert told[-1].choices[0].finish_reason == "stop"
    recorder.wait_for("written_total", "chat")
    recorder.end()
    (row,) = logged(recorder.folder)
    assert row["response"]["choices"][0]["message"]["content"] == "you said linger"


def test_other_paths_pass_untouched(recorder: Recorder) -> None:
    status, headers, body = asked(f"{recorder.url}/v1/models?a=%2Fb&c=1")
    assert (status, headers["X-Served"], headers["X-Path"], body) == (
        200,
        "yes",
        "/v1/models?a=%2Fb&c=1",
        b"hello",
    )
    body = bytes(range(256)) * 40_000
    assert asked(f"{recorder.url}/upload", body)[2] == body
    recorder.end()
    assert logged(recorder.folder) == []


def test_a_body_passes_in_chunks_or_compressed(recorder: Recorder) -> None:
    def sent(body: Any, **headers: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", recorder.port, timeout=30)
        connection.request("POST", "/v1/chat/completions", body, headers)
        with contextlib.closing(connection), connection.getresponse() as answer:
            assert answer.status == 200
            return answer.read()

    body = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()
    long = json.dumps({"messages": [{"role": "user", "content": "x" * (9 << 20)}]}).encode()
    assert b"you said hello" in sent(iter([body[:9], body[9:]]))
    assert b"you said hello" in sent(gzip.compress(body), **{"Content-Encoding": "gzip"})
    assert b"you said xxx" in sent(iter([long[:9], long[9:]]))
    recorder.wait_for("left_out_total", "unreadable")
    recorder.wait_for("left_out_total", "too_long")
    recorder.end()
    (row,) = logged(recorder.folder)
    assert row["request"] == json.loads(body)


def test_a_path_cannot_name_another_server(recorder: Recorder) -> None:
    with Upstream() as other:
        connection = http.client.HTTPConnection("127.0.0.1", recorder.port, timeout=30)
        connection.request("GET", f"//127.0.0.1:{other.port}/v1/models")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"hello")
        connection.close()
        assert not other.seen


def test_a_servers_refusal_is_passed_on(recorder: Recorder) -> None:
    status, headers, body = chat(recorder, "fail")
    assert (status, headers["Retry-After"], json.loads(body)) == (429, "7", {"error": {"message": "no"}})
    recorder.wait_for("left_out_total", "failed")


def test_what_is_not_json_passes_and_is_counted(recorder: Recorder) -> None:
    assert chat(recorder, "nonsense")[2] == b"\xff not JSON"
    recorder.wait_for("left_out_total", "unreadable")
    nested: list[Any] = []
    for _ in range(500):
        nested = [nested]
    assert chat(recorder, "hello", extra=nested)[0] == 200
    recorder.wait_for("left_out_total", "unreadable", 2)
    status, _, _ = chat(recorder, "hello \ud800")
    assert status == 200
    recorder.end()
    (row,) = logged(recorder.folder)
    assert row["request"]["messages"][0]["content"] == "hello \ud800"


def test_too_long_an_answer_passes_and_is_counted(recorder: Recorder) -> None:
    _, _, body = chat(recorder, f"long {9 << 20}")
    assert len(json.loads(body)["choices"][0]["message"]["content"]) == 9 << 20
    recorder.wait_for("left_out_total", "too_long")
    assert chat(recorder, "x" * (9 << 20))[0] == 200
    recorder.wait_for("left_out_total", "too_long", 2)


def test_a_server_that_breaks_off_is_seen_to(recorder: Recorder) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        chat(recorder, "break", stream=True)
    recorder.wait_for("left_out_total", "unfinished")


def test_a_client_that_goes_ends_the_servers_work(recorder: Recorder, upstream: Upstream) -> None:
    upstream.cancelled.clear()
    body = json.dumps({"messages": [{"role": "user", "content": "hang"}], "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", recorder.port), 30) as client:
        client.sendall(head + body)
        assert client.recv(10)
    assert upstream.cancelled.wait(20)
    recorder.wait_for("left_out_total", "unfinished")


def test_a_server_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with Recorder(port, tmp_path / "log") as recorder:
        status, _, body = chat(recorder, "hello")
        assert (status, json.loads(body)["error"]["type"]) == (502, "server_error")
        assert str(port) in json.loads(body)["error"]["message"]


def test_a_log_that_is_away_costs_no_answer(recorder: Recorder) -> None:
    shutil.rmtree(recorder.folder)
    recorder.folder.touch()
    assert chat(recorder, "hello")[0] == 200
    recorder.wait_for("left_out_total", "log")
    recorder.folder.unlink()

    def written() -> bool | None:
        assert chat(recorder, "again")[0] == 200
        return recorder.counted("written_total", "chat") > 0 or None

    wait_until(written, "the log is written again")
    recorder.end()
    assert logged(recorder.folder)[0]["request"]["messages"][0]["content"].startswith("again")


def test_patterns_are_redacted(upstream: Upstream, tmp_path: Path) -> None:
    options = ("--redact", r"[\w.]+@[\w.]+", "--redact", r"\b\d{16}\b")
    with Recorder(upstream.port, tmp_path / "log", *options) as recorder:
        chat(recorder, "mail ada@example.org, card 4111111111111111", stream=True)
        answered = json.loads(chat(recorder, "ada@example.org")[2])["id"]
        assert feedback(recorder, id=answered, edit="write to ada@example.org")[0] == 202
    rows = logged(recorder.folder)
    assert len(rows) == 3
    assert "ada@" not in json.dumps(rows)
    assert "4111" not in json.dumps(rows)
    assert rows[0]["request"]["messages"][0]["content"] == "mail [redacted], card [redacted]"
    assert rows[2]["edit"] == "write to [redacted]"


def test_answers_to_a_prompt_are_all_in_the_sample_or_none(upstream: Upstream, tmp_path: Path) -> None:
    with Recorder(upstream.port, tmp_path / "log", "--sample-percent", "30") as recorder:
        for number in range(100):
            chat(recorder, str(number % 50))
    said = [row["request"]["messages"][0]["content"] for row in logged(recorder.folder)]
    assert 5 <= len(set(said)) <= 25
    assert all(said.count(each) == 2 for each in said)


def test_the_digest_is_that_of_the_model_then(upstream: Upstream, tmp_path: Path) -> None:
    """A ConfigMap's volume swaps a link."""
    for name in ("old", "new"):
        (tmp_path / name).write_text(f"sha256:{name}\n")
    digest = tmp_path / "digest"
    with Recorder(upstream.port, tmp_path / "log", "--digest-file", str(digest)) as recorder:
        chat(recorder, "before")
        for name in ("old", "new"):
            (tmp_path / "link").symlink_to(tmp_path / name)
            (tmp_path / "link").replace(digest)
            chat(recorder, name)
    assert [row["digest"] for row in logged(recorder.folder)] == [None, "sha256:old", "sha256:new"]


def feedback(recorder: Recorder, **said: Any) -> tuple[int, Message, bytes]:
    headers = {"Content-Type": "application/json"}
    return asked(f"{recorder.url}/v1/feedback", json.dumps(said).encode(), headers)


def test_feedback_is_logged(recorder: Recorder, upstream: Upstream) -> None:
    before = len(upstream.seen)
    assert feedback(recorder, id="chatcmpl-1", edit="x" * (9 << 20))[0] == 413
    assert asked(f"{recorder.url}/v1/feedback", b"[" * 100_000)[0] == 400
    assert feedback(recorder, id="chatcmpl-1", rating="down", edit="better")[0] == 202
    assert len(upstream.seen) == before
    recorder.end()
    (row,) = logged(recorder.folder)
    assert (row["kind"], row["id"], row["rating"], row["edit"]) == (
        "feedback",
        "chatcmpl-1",
        "down",
        "better",
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"rating": "up"}, "`id`"),
        ({"id": " ", "rating": "up"}, "`id`"),
        ({"id": "a"}, "neither `rating` nor `edit`"),
        ({"id": "a", "rating": 5}, "`rating` is 5"),
        ({"id": "a", "edit": ["x"]}, "`edit` is not text"),
        ({"id": "a", "rating": "up", "stars": 3}, "`stars` is not known"),
    ],
)
def test_wrong_feedback_is_refused(recorder: Recorder, said: dict[str, Any], told: str) -> None:
    status, _, body = feedback(recorder, **said)
    assert status == 400
    assert told in json.loads(body)["error"]["message"]


def test_what_a_killed_recorder_left_is_completed(upstream: Upstream, tmp_path: Path) -> None:
    with Recorder(upstream.port, tmp_path / "log") as killed:
        chat(killed, "hello")
        killed.wait_for("written_total", "chat")
        killed.process.kill()
        killed.process.wait()
        with Recorder(upstream.port, tmp_path / "log"):
            (part,) = (tmp_path / "log").glob("*/*.part")  # it may still be written
        old = part.stat().st_mtime - 3600
        os.utime(part, (old, old))
        later = part.with_name("later.jsonl.part")
        with Recorder(upstream.port, tmp_path / "log") as recorder:
            (row,) = logged(recorder.folder)
            later.touch()
            os.utime(later, (old, old))
            chat(recorder, "hello again")
        assert later.with_suffix("").exists()  # with a segment of its own
        killed.end = lambda: None  # type: ignore[method-assign]
    assert row["request"]["messages"][0]["content"] == "hello"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--upstream", "localhost:8000", "--log", "log"], "address without a path"),
        (["--upstream", "http://localhost:8000/v1", "--log", "log"], "address without a path"),
        (["--upstream", "http://localhost:8000", "--log", "/proc/none"], "--log /proc/none"),
        (["--upstream", "http://localhost:8000", "--log", "log", "--redact", "("], "regular expression"),
        (["--upstream", "http://localhost:8000", "--log", "log", "--port", "TAKEN"], "cannot be had"),
    ],
)
def test_wrong_options_are_refused(
    upstream: Upstream, tmp_path: Path, arguments: list[str], told: str
) -> None:
    arguments = [argument.replace("TAKEN", str(upstream.port)) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "alignment_recorder", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
