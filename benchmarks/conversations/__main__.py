"""First audio of a clause over the WebSocket and by `/generate`, with and without `prepare`; prefill that was saved.

    python -m benchmarks.conversations                                a demo server of its own; two minutes
    python -m benchmarks.conversations --url http://127.0.0.1:8000    one that runs already

The ways alternate request by request, so what else the machine does hits them alike.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from statistics import median
from typing import Any

import httpx

from benchmarks.common import results_file
from benchmarks.common.server_process import free_port, own_ray, started
from benchmarks.conversations.socket import TIMEOUT_SECONDS, opened

_SERVE = ("-c", "from serve_app.cli import main; main()", "serve", "--model", "demo")
_METRICS_SECONDS = 15.0
"""Until what happened before is published for certain: Ray collects metrics every ten seconds."""
CLAUSE = "Good morning to you all."
_TURNS = (
    "Good morning to you all.",
    "It is nice to see you again.",
    "Please tell me where the station is.",
    "The train leaves at seven.",
)


async def plain_ms(http: httpx.AsyncClient, text: str, seed: int) -> float:
    """The same clause by `/generate`: from sending to the first byte behind the header."""
    sent_at, first = time.perf_counter(), 0.0
    body = {"text": text, "seed": seed, "streaming": True, "format": "pcm"}
    async with http.stream("POST", "/generate", json=body) as answer:
        answer.raise_for_status()
        async for _ in answer.aiter_bytes():
            first = first or time.perf_counter()
    return 1000 * (first - sent_at)


async def first_audio(url: str, http: httpx.AsyncClient, repeats: int) -> dict[str, float]:
    """Medians in ms, of pairs."""
    over_socket, plain = list[float](), list[float]()
    for number in range(repeats + 1):
        fresh = await opened(url, number)  # an empty conversation, as a plain request has no context
        over_socket.append((await fresh.say(CLAUSE))[0])
        await fresh.close()
        plain.append(await plain_ms(http, CLAUSE, number))
    return {"websocket_ms": median(over_socket[1:]), "generate_ms": median(plain[1:])}


async def with_prepare(url: str, repeats: int) -> dict[str, float]:
    """First audio of a turn after a long recording was heard, whose context nobody has read yet."""
    found: dict[str, list[float]] = {"prepared_ms": [], "unprepared_ms": []}
    for number in range(repeats + 1):
        for name, values in found.items():
            socket = await opened(url, number)
            await socket.send("heard", text="A long tone.", audio=_tone(number * 2 + (name == "prepared_ms")))
            await socket.until("heard")
            if name == "prepared_ms":
                await socket.send("prepare")
                await socket.until("prepared")
            values.append((await socket.say(CLAUSE))[0])
            await socket.close()
    return {name: median(values[1:]) for name, values in found.items()}


async def prefill_saved(url: str, http: httpx.AsyncClient, num_turns: int) -> dict[str, float]:
    """Positions of the prompts of one conversation, and how many the prefix cache restored."""
    await asyncio.sleep(_METRICS_SECONDS)
    socket, before = await opened(url, 3), await _counters(http)
    for number in range(num_turns):
        await socket.say(_TURNS[number % len(_TURNS)])
    await socket.close()
    await asyncio.sleep(_METRICS_SECONDS)
    after = await _counters(http)
    read, restored = (after[name] - before[name] for name in ("prompt", "restored"))
    return {"prompt_positions": read, "restored_positions": restored, "saved_share": restored / read if read else 0}


async def long_talk(url: str, http: httpx.AsyncClient, num_turns: int) -> dict[str, float]:
    """How large context and prompt of one conversation become."""
    socket, positions, frames = await opened(url, 4), list[int](), list[int]()
    for number in range(num_turns):
        _, began = await socket.say(_TURNS[number % len(_TURNS)])
        positions.append(began["prompt_positions"])
        frames.append((await http.get(f"/v1/conversations/{socket.conversation}")).json()["context_frames"])
    await socket.close()
    return {"turns": num_turns, "largest_prompt_positions": max(positions), "largest_context_frames": max(frames)}


async def left_behind(http: httpx.AsyncClient) -> dict[str, float]:
    """Once every socket is closed: answers, slots and streams that are still held."""
    await asyncio.sleep(_METRICS_SECONDS)
    text = (await http.get("/metrics")).text
    return {name: _sum_of(text, name) for name in ("csm_requests_live", "csm_engine_running", "csm_decoder_streams")}


async def _counters(http: httpx.AsyncClient) -> dict[str, float]:
    names = {"prompt": "csm_engine_prompt_positions_total", "restored": "csm_engine_restored_positions_total"}
    text = (await http.get("/metrics")).text
    return {short: _sum_of(text, name) for short, name in names.items()}


def _sum_of(metrics: str, name: str) -> float:
    """Over all replicas."""
    return sum(float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(f"ray_{name}{{"))


def _tone(number: int) -> str:
    import base64
    import io
    import wave

    import numpy as np

    samples = (np.sin(np.arange(24_000 * 8) * (0.05 + number / 1000)) * 9000).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return base64.b64encode(buffer.getvalue()).decode()


async def _run(url: str, repeats: int, num_turns: int, num_long: int) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS) as http:
        info = (await http.get("/info")).json()
        return {
            "model": info.get("model"),
            "first_audio": await first_audio(url, http, repeats),
            "prepare": await with_prepare(url, repeats),
            "prefill": await prefill_saved(url, http, num_turns),
            "long_talk": await long_talk(url, http, num_long) if num_long else {},
            "left_behind": await left_behind(http),
        }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.conversations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", help="of a server that runs; one is started if left out")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--long-turns", type=int, default=200, help="0 leaves the long talk out")
    given = parser.parse_args(arguments)
    with nullcontext(given.url) if given.url else _demo_server() as url:
        result = asyncio.run(_run(url, given.repeats, given.turns, given.long_turns))
    print(json.dumps(result, indent=1))  # noqa: T201  the result
    command = f"python -m benchmarks.conversations --repeats {given.repeats} --turns {given.turns}"
    results_file.write("conversations", "cpu", [result], f"{command} --long-turns {given.long_turns}")


@contextmanager
def _demo_server() -> Iterator[str]:
    port = free_port()
    command = [*_SERVE, "--host", "127.0.0.1", "--port", str(port)]
    with started(command, own_ray(), f"http://127.0.0.1:{port}") as server:
        yield server.url


if __name__ == "__main__":
    main()
