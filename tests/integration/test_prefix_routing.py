"""Three generator replicas behind two decoders, which route each for itself: where a voice's requests land. With
stand-ins for the models."""

import asyncio
import base64
import io
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import soundfile

from tests.support.configured_graph import deploy, replica_states, serving, until, until_running
from tests.support.ray_server import Server
from tests.support.stand_in_graph import TEXT, samples

pytestmark = pytest.mark.slow

GENERATOR = "TokenGenerator"
REPLICAS, SLOTS = 3, 16
SHORT, LONG = 2, 100
"""Frames. Long ones are all there at once before the first ends."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    args = {
        "model": "stand-in",
        "stand_in": {"step_ms_by_batch": {1: 40}},
        "engine": {"max_batch_size": SLOTS, "max_step_ms": 0},
        "codec": {"max_streams": REPLICAS * SLOTS},
    }
    with serving() as server:
        deploy(args, {GENERATOR: {"num_replicas": REPLICAS}, "AudioDecoder": {"num_replicas": 2}})
        until_running()
        until("three generators run", lambda: replica_states(GENERATOR).get("RUNNING") == REPLICAS)
        yield server


def voice(number: int) -> list[dict[str, object]]:
    """A context of its own sound."""
    sound = np.random.default_rng(number).uniform(-0.5, 0.5, 12_000)
    file = io.BytesIO()
    soundfile.write(file, sound, 24_000, format="WAV")
    return [{"text": "As it was said.", "speaker": 0, "audio": base64.b64encode(file.getvalue()).decode()}]


async def speak(client: httpx.AsyncClient, server: Server, context: list[dict[str, object]], num_frames: int) -> None:
    body = {"text": TEXT, "context": context, "max_audio_seconds": num_frames * 0.08}
    response = await client.post(f"{server.url}/generate", json=body, timeout=60)
    assert response.status_code == 200, response.text


def frames(server: Server) -> Counter[str]:
    """By replica, since its start."""
    return Counter(
        {
            replica: int(value)
            for name, where, replica, value in samples(server)
            if (name, where) == ("engine_frames_total", GENERATOR)
        }
    )


async def landed(server: Server, before: Counter[str], requests: int, num_frames: int) -> Counter[str]:
    """How many of these requests each replica had, once all are counted: metrics are some seconds old."""
    deadline = time.monotonic() + 20
    while (grown := await asyncio.to_thread(frames, server) - before).total() < requests * num_frames:
        assert time.monotonic() < deadline, f"{requests} requests, and these frames: {grown}"
        await asyncio.sleep(0.3)
    return Counter({replica: count // num_frames for replica, count in grown.items()})


async def test_a_voice_stays_where_it_was_read_whoever_asks_and_voices_spread(server: Server) -> None:
    """Twelve voices in turn. All in one place would be a chance of one in 177,147."""
    before, rounds = frames(server), []
    async with httpx.AsyncClient() as client:
        for _ in range(2):
            for number in range(12):
                await speak(client, server, voice(number), SHORT)
            rounds.append(await landed(server, before, 12 * (1 + len(rounds)), SHORT))
        before = frames(server)
        for _ in range(6):
            await speak(client, server, voice(0), SHORT)
    assert len(rounds[0]) > 1
    assert rounds[1] == rounds[0] + rounds[0], "the second time each voice was where it was the first time"
    assert list((await landed(server, before, 6, SHORT)).values()) == [6]


@pytest.mark.parametrize("context", [[], voice(1)], ids=["no voice", "one voice"])
async def test_many_at_once_use_all_replicas(server: Server, context: list[dict[str, object]]) -> None:
    before, crowd = frames(server), REPLICAS * SLOTS * 3 // 4
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:
        await asyncio.gather(*(speak(client, server, context, LONG) for _ in range(crowd)))
    used = await landed(server, before, crowd, LONG)
    assert (len(used), used.total()) == (REPLICAS, crowd)
    assert max(used.values()) <= crowd // 2
