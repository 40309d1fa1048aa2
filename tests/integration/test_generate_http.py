"""`POST /generate` through the whole graph: real Ray, real HTTP."""

import asyncio
import base64
import io
import math
import struct
import time
import wave
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from ray import serve

from tests.support.ray_server import Server
from tests.support.waiting import until

LONG = "This goes on for a good while, so that there is time to look at what happens meanwhile. " * 4


def samples(wav: bytes) -> bytes:
    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        return file.readframes(file.getnframes())


def clip(seconds: float, rate: int = 24_000, channels: int = 1) -> str:
    time_axis = np.arange(int(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * math.pi * 220 * time_axis)
    file = io.BytesIO()
    soundfile.write(file, np.repeat(tone[:, None], channels, axis=1), rate, format="WAV")
    return base64.b64encode(file.getvalue()).decode()


def post(server: Server, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/generate", json=body, timeout=60)


def test_whole_and_streamed_bodies_hold_the_same_samples(server: Server) -> None:
    body = {"text": "The same, whichever way.", "seed": 7, "max_audio_seconds": 3}
    whole = post(server, **body)
    assert whole.status_code == 200
    assert whole.headers["content-type"] == "audio/wav"
    with httpx.stream("POST", f"{server.url}/generate", json=body | {"streaming": True}, timeout=60) as streamed:
        reads = list(streamed.iter_raw())
    assert len(reads[0]) == 44
    assert struct.unpack("<I", reads[0][40:44])[0] == 0xFFFFFFFF
    assert all(len(read) % 2 == 0 for read in reads)
    assert b"".join(reads[1:]) == samples(whole.content)
    assert len(samples(whole.content)) == 37 * 1920 * 2
    assert whole.headers["x-csm-seed"] == streamed.headers["x-csm-seed"] == "7"
    assert whole.headers["x-csm-finish-reason"] == "length"
    assert whole.headers["x-csm-audio-seconds"] == "2.96"
    assert whole.headers["x-csm-weights"] == "random"


def test_forms_stream_by_default_and_the_outcome_can_be_asked_for(server: Server) -> None:
    response = httpx.post(f"{server.url}/generate", data={"text": "As vox-serve's users do.", "max_audio_seconds": "1"})
    assert response.content[40:44] == b"\xff\xff\xff\xff"
    assert len(response.headers.get_list("x-request-id")) == 1
    outcome = httpx.get(f"{server.url}/requests/{response.headers['x-request-id']}").json()
    assert outcome["finish_reason"] == "length"
    assert outcome["audio_seconds"] == 0.96
    assert outcome["seed"] == int(response.headers["x-csm-seed"])


def test_context_audio_changes_what_is_said_and_any_rate_and_channel_count_works(server: Server) -> None:
    body = {"text": "After what was said.", "seed": 1, "max_audio_seconds": 1}
    plain = post(server, **body)
    heard = [
        post(server, **body, context=[{"text": "Before.", "speaker": 0, "audio": clip(1.5, rate, channels)}])
        for rate, channels in ((24_000, 1), (8_000, 1), (48_000, 8))
    ]
    assert [r.status_code for r in heard] == [200] * 3
    assert samples(heard[0].content) != samples(plain.content)


def test_a_scene_is_one_audio_and_its_turns_condition_on_each_other(server: Server) -> None:
    def scene(first: str) -> list[dict[str, Any]]:
        return [{"text": first, "speaker": 0}, {"text": "The very same answer.", "speaker": 1}]

    one = post(server, scene=scene("Hello there."), seed=3)
    two = post(server, scene=scene("Hello where?"), seed=3)
    assert one.status_code == two.status_code == 200
    assert samples(one.content)[-40 * 3840 :] != samples(two.content)[-40 * 3840 :]
    short = post(server, scene=scene("Hello there."), seed=3, max_audio_seconds=1)
    assert short.headers["x-csm-audio-seconds"] == "0.96"


async def test_eight_at_once_each_get_their_own(server: Server) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        bodies = [{"text": f"Number {n} of eight.", "seed": n, "max_audio_seconds": 2} for n in range(8)]
        responses = await asyncio.gather(*(client.post(f"{server.url}/generate", json=body) for body in bodies))
    heard = [samples(r.content) for r in responses]
    assert {len(pcm) for pcm in heard} == {25 * 3840}
    assert len(set(heard)) == 8


async def slots_in_use(server: Server) -> tuple[float, float]:
    generator = serve.get_deployment_handle("TokenGenerator", server.app_name)
    decoder = serve.get_deployment_handle("AudioDecoder", server.app_name)
    engine = await generator.record_autoscaling_stats.remote()
    codec = await decoder.record_autoscaling_stats.remote()
    return engine["taken"] + engine["waiting"], codec["taken"]


async def until_free(server: Server) -> None:
    deadline = time.monotonic() + 60
    while await slots_in_use(server) != (0, 0):
        assert time.monotonic() < deadline, "slots are still taken a minute after all clients left"
        await asyncio.sleep(0.02)


async def until_cancelled(server: Server, request_id: str) -> None:
    """Fails where the answer was spoken to its end."""

    def is_cancelled() -> bool:
        return httpx.get(f"{server.url}/requests/{request_id}").json()["finish_reason"] == "cancelled"

    await asyncio.to_thread(until, is_cancelled, f"{request_id} ends because its client left")


@pytest.mark.parametrize("num_clients", [1, 6])
async def test_clients_that_disconnect_free_their_slots_on_every_hop(server: Server, num_clients: int) -> None:
    ids = [f"left-{number}-of-{num_clients}" for number in range(num_clients)]
    async with httpx.AsyncClient(timeout=60) as client:

        async def listen_a_little(number: int) -> None:
            body = {"text": LONG, "streaming": True, "seed": number, "max_audio_seconds": 80}
            headers = {"X-Request-Id": ids[number]}
            async with client.stream("POST", f"{server.url}/generate", json=body, headers=headers) as response:
                received = 0
                async for read in response.aiter_raw():
                    received += len(read)
                    if received > 3 * 3840:
                        break

        await asyncio.gather(*(listen_a_little(n) for n in range(num_clients)))
    await until_free(server)
    for request_id in ids:
        await until_cancelled(server, request_id)


async def test_a_client_that_leaves_a_whole_answer_frees_its_slots_too(server: Server) -> None:
    # Half an hour of audio is not made while the client waits.
    body, headers = {"text": LONG * 40, "max_audio_seconds": 1800}, {"X-Request-Id": "left-whole"}
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(f"{server.url}/generate", json=body, headers=headers, timeout=httpx.Timeout(60, read=0.8))
    await until_free(server)
    await until_cancelled(server, "left-whole")


def num_refused_by_the_engine(server: Server) -> int:
    lines = httpx.get(f"{server.url}/metrics", timeout=30).text.splitlines()
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("ray_csm_engine_refused_total")))


@pytest.mark.timeout(400)
async def test_more_than_can_run_or_wait_are_refused_before_any_audio(server: Server) -> None:
    num_before = num_refused_by_the_engine(server)
    async with httpx.AsyncClient(timeout=300) as client:
        # So long that few end before the last has come through the door.
        bodies = [{"text": LONG, "max_audio_seconds": 60, "seed": n} for n in range(16)]
        responses = await asyncio.gather(*(client.post(f"{server.url}/generate", json=body) for body in bodies))
    refused = [r for r in responses if r.status_code == 429]
    served = [r for r in responses if r.status_code == 200]
    # 8 slots and room for 4 to wait: who was let in to wait is served, also while the stream before is still decoded.
    assert len(served) + len(refused) == 16
    assert len(served) >= 12 and refused
    assert all(int(r.headers["retry-after"]) >= 1 and "detail" in r.json() for r in refused)
    assert all(len(samples(r.content)) == 750 * 3840 for r in served)
    # Each asked the only generator once: to ask again costs as much once more, just when there is too much to do.
    until(lambda: num_refused_by_the_engine(server) >= num_before + len(refused), "the refusals are published", 20)
    await asyncio.sleep(2)
    assert num_refused_by_the_engine(server) == num_before + len(refused)


def test_health_ready_and_info(server: Server) -> None:
    assert httpx.get(f"{server.url}/health").json() == {"status": "healthy"}
    assert httpx.get(f"{server.url}/ready").json() == {"status": "ready"}
    info = httpx.get(f"{server.url}/info").json()
    assert (info["weights"], info["num_codebooks"], info["max_batch_size"]) == ("random", 32, 8)
    assert "noise" in info["notice"]
