"""What the recorder adds to a request: latency, and requests a second, beside the server alone.

    python benchmarks/recorder.py

The server answers at once with a kilobyte, so that nothing hides what the recorder takes. Both ways take turns;
requests go out one at a time for the latencies, and 32 at a time for the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import subprocess
import sys
import tempfile
import time
from statistics import quantiles

import aiohttp
from aiohttp import web

from tests.cluster.processes import free_ports

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "served",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "word " * 200},
            "finish_reason": "stop",
        }
    ],
}
ASKED = {"model": "served", "messages": [{"role": "user", "content": "question " * 50}]}
AT_ONCE = 32


def serve(port: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response(ANSWER)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


async def until_served(session: aiohttp.ClientSession, url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            async with session.get(url) as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit(f"{url} does not answer")
        await asyncio.sleep(0.05)


async def asked(session: aiohttp.ClientSession, url: str) -> float:
    """Seconds."""
    started = time.perf_counter()
    async with session.post(f"{url}/v1/chat/completions", json=ASKED) as answer:
        await answer.read()
        if answer.status != 200:
            raise SystemExit(f"{url} answered {answer.status}")
    return time.perf_counter() - started


async def measure(server: str, recorder: str, requests: int, rounds: int) -> None:
    latencies: dict[str, list[float]] = {server: [], recorder: []}
    rates: dict[str, list[float]] = {server: [], recorder: []}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        for url in (server, recorder):
            await until_served(session, url)
        for turn in range(rounds):
            for url in (server, recorder) if turn % 2 else (recorder, server):
                latencies[url] += [await asked(session, url) for _ in range(requests)]
                started = time.perf_counter()
                await asyncio.gather(*(asked(session, url) for _ in range(requests)))
                rates[url].append(requests / (time.perf_counter() - started))
    print("| | server alone | through the recorder | |\n|---|---|---|---|")
    percents = {url: quantiles(seconds, n=100) for url, seconds in latencies.items()}
    for percent in (50, 99):
        alone, through = (1000 * percents[url][percent - 1] for url in (server, recorder))
        print(f"| p{percent}, ms | {alone:.2f} | {through:.2f} | {through - alone:+.2f} ms |")
    alone, through = (sum(rates[url]) / rounds for url in (server, recorder))
    print(
        f"| requests a second, {AT_ONCE} at once | {alone:.0f} | {through:.0f} | ratio {through / alone:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1000, help="of each kind in a round")
    parser.add_argument("--rounds", type=int, default=6)
    given = parser.parse_args()
    upstream, port = free_ports(2)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(upstream,))
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-m",
                "alignment_recorder",
                "--upstream",
                f"http://127.0.0.1:{upstream}",
            ]
            command += ["--log", folder, "--port", str(port), "--metrics-port", "0"]
            recorder = subprocess.Popen(command)
            try:
                urls = f"http://127.0.0.1:{upstream}", f"http://127.0.0.1:{port}"
                asyncio.run(measure(*urls, given.requests, given.rounds))
            finally:
                recorder.terminate()
                recorder.wait()
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
