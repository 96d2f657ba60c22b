"""Requests a second of the LLM judge, by maxConcurrency, against bare clients that send the same requests.

The endpoint is a process of this file: it reads a request, waits, and says "a". `openai` is AsyncOpenAI in as many
tasks, `http` the client beneath it. Beyond those, the judge writes its journal (fsync), keeps its budget and checks
each reply.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from alignment_api.judges import LLM
from alignment_worker import llm_question
from alignment_worker.llm_judge import LLMJudge, Matchup, Seat
from alignment_worker.progress import Progress

CLIENTS = ("judge", "openai", "http")
_WORDS = "The answer depends on what was asked, and so it should be read with the question beside it. " * 6


class Took(NamedTuple):
    """Of all requests: seconds by the clock, and of CPU in this process."""

    wall: float
    cpu: float


async def serve(milliseconds: float) -> None:
    """On a free port of the loopback, which it prints."""
    message = {"role": "assistant", "content": '{"preferred": "a"}', "refusal": None}
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "stub",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 400, "completion_tokens": 8, "total_tokens": 408},
    }
    body = json.dumps(whole).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                headers = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(headers.split(b"content-length:")[1].split(b"\r\n")[0]))
                await asyncio.sleep(milliseconds / 1000)
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def endpoint(milliseconds: float) -> Iterator[str]:
    command = [sys.executable, __file__, "--serve", "--milliseconds", str(milliseconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.communicate()


def matchups(requests: int) -> list[Matchup]:
    """Two requests each."""
    return [
        Matchup(f"Question {number}?", f"{_WORDS} {number}", f"{_WORDS} not {number}", 100, 101)
        for number in range(requests // 2)
    ]


def asked(some: list[Matchup]) -> list[dict[str, Any]]:
    """The bodies that the judge sends."""
    wishes = {"response_format": llm_question.SCHEMA, "temperature": 0.0, "max_tokens": 512}
    return [
        {"model": "stub", "messages": llm_question.messages(None, each.prompt, *both), **wishes}
        for each in some
        for both in ((each.first, each.second), (each.second, each.first))
    ]


def by_judge(url: str, some: list[Matchup], concurrency: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        llm = LLM(base_url=url, model="stub", max_concurrency=concurrency)
        judge = LLMJudge(llm, Seat("judge", "NONE", Path(folder) / "journal.jsonl"), Progress())
        assert judge.shares(some, lambda: None) == [0.5] * len(some)


def by_openai(url: str, some: list[Matchup], concurrency: int) -> None:
    async def run() -> None:
        async with AsyncOpenAI(api_key="none", base_url=url) as client:
            await _side_by_side(asked(some), concurrency, lambda body: client.chat.completions.create(**body))

    asyncio.run(run())


def by_http(url: str, some: list[Matchup], concurrency: int) -> None:
    async def run() -> None:
        async with DefaultAsyncHttpxClient() as client:

            async def ask(body: dict[str, Any]) -> Any:
                return (await client.post(f"{url}/chat/completions", json=body)).json()["choices"][0]

            await _side_by_side(asked(some), concurrency, ask)

    asyncio.run(run())


async def _side_by_side(
    bodies: list[dict[str, Any]], concurrency: int, ask: Callable[[dict[str, Any]], Awaitable[Any]]
) -> None:
    left = iter(bodies)

    async def one() -> None:
        for body in left:
            await ask(body)

    await asyncio.gather(*(one() for _ in range(concurrency)))


_BY: dict[str, Callable[[str, list[Matchup], int], None]] = {
    "judge": by_judge,
    "openai": by_openai,
    "http": by_http,
}


def timed(client: str, url: str, some: list[Matchup], concurrency: int) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    _BY[client](url, some, concurrency)
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--requests", type=int, default=400, help="of each run; at 1 at once a quarter of them"
    )
    parser.add_argument("--milliseconds", type=float, default=50, help="that the endpoint takes for a reply")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.milliseconds))
        return
    print(
        f"| at once | possible | {' | '.join(CLIENTS)} | judge / openai | CPU a request, ms: {', '.join(CLIENTS)} |"
    )
    print("|---|---|---|---|---|---|---|")
    with endpoint(arguments.milliseconds) as url:
        for client in CLIENTS:
            timed(client, url, matchups(8), 2)  # imports, and the first connection
        for concurrency in arguments.concurrency:
            count = arguments.requests // (4 if concurrency == 1 else 1)
            print(
                row(url, matchups(count), concurrency, arguments.rounds, arguments.milliseconds), flush=True
            )


def row(url: str, some: list[Matchup], concurrency: int, rounds: int, milliseconds: float) -> str:
    """Medians over the rounds, in which the clients take turns; the ratio is that of a round, with its range."""
    requests = 2 * len(some)
    found: dict[str, list[Took]] = {client: [] for client in CLIENTS}
    for turn in range(rounds):
        for client in (*CLIENTS[turn % 3 :], *CLIENTS[: turn % 3]):
            found[client].append(timed(client, url, some, concurrency))
    rates = {client: [requests / took.wall for took in found[client]] for client in CLIENTS}
    ratios = [ours / theirs for ours, theirs in zip(rates["judge"], rates["openai"], strict=True)]
    told = [f"{median(rates[client]):.0f}" for client in CLIENTS]
    cpu = [f"{1000 * median(took.cpu for took in found[client]) / requests:.1f}" for client in CLIENTS]
    possible = 1000 * concurrency / milliseconds
    ratio = f"{median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
    return f"| {concurrency} | {possible:.0f} | {' | '.join(told)} | {ratio} | {', '.join(cpu)} |"


if __name__ == "__main__":
    main()
