"""fal's API through the whole graph: real Ray, real HTTP, fal's own client."""

import io
import time
import wave
from pathlib import Path

import fal_client
import fal_client.client
import httpx
import msgpack
import numpy as np
import pytest
import soundfile
import websockets.sync.client

from tests.support.ray_server import Server

APP = "fal-ai/csm-1b"
SCENE = [
    {"text": "Hey how are you doing.", "speaker_id": 0},
    {"text": "Pretty good, pretty good.", "speaker_id": 1},
]
SHORT = {"scene": SCENE, "max_audio_seconds": 2, "seed": 7}
LONG = {"scene": [{"text": "This goes on for a good while. " * 20, "speaker_id": 0}], "max_audio_seconds": 80}


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> fal_client.SyncClient:
    base = f"{server.url}/fal"
    monkeypatch.setattr(fal_client.client, "RUN_URL_FORMAT", f"{base}/run/")
    monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{base}/queue/")
    monkeypatch.setattr(fal_client.client, "REST_URL", f"{base}/rest")
    monkeypatch.setattr(fal_client.client, "CDN_URL", f"{base}/cdn")
    return fal_client.SyncClient(key="id:secret")


def samples(output: dict[str, dict[str, str]]) -> bytes:
    with wave.open(io.BytesIO(httpx.get(output["audio"]["url"]).content)) as file:
        return file.readframes(file.getnframes())


def num_live(server: Server) -> float:
    """Answers that are being made, by the server's own account."""
    lines = httpx.get(f"{server.url}/metrics", timeout=30).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("ray_csm_requests_live"))


def test_run_stream_and_queue_speak_the_same_scene(client: fal_client.SyncClient) -> None:
    run = client.run(APP, arguments=SHORT)
    *chunks, streamed = client.stream(APP, arguments=SHORT)
    subscribed = client.subscribe(APP, arguments=SHORT, with_logs=True)
    assert len(samples(run)) == 25 * 1920 * 2
    assert len(chunks) > 2
    assert samples(run) == samples(streamed) == samples(subscribed)


def test_an_uploaded_clip_is_context(client: fal_client.SyncClient, tmp_path: Path) -> None:
    path = tmp_path / "before.flac"
    soundfile.write(path, 0.3 * np.sin(np.arange(48_000) / 20), 48_000)
    context = [{"prompt": "Before.", "speaker_id": 0, "audio_url": client.upload_file(path)}]
    output = client.subscribe(APP, arguments=SHORT | {"context": context})
    assert samples(output) != samples(client.run(APP, arguments=SHORT))


def test_a_wrong_input_is_refused_over_the_wire(client: fal_client.SyncClient) -> None:
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        client.run(APP, arguments={"scene": [{"speaker_id": 0}]})
    assert error.value.message[0]["loc"] == ["body", "scene", 0, "text"]


def test_realtime_speaks(server: Server) -> None:
    url = f"{server.url.replace('http', 'ws')}/fal/run/{APP}/realtime"
    with websockets.sync.client.connect(url, max_size=None) as socket:
        socket.send(msgpack.packb(SHORT))
        messages = [msgpack.unpackb(socket.recv(timeout=60))]
        while "audio" not in messages[-1]:
            messages.append(msgpack.unpackb(socket.recv(timeout=60)))
    pcm = b"".join(message["audio_chunk"] for message in messages[:-1])
    assert pcm == samples(messages[-1])


@pytest.mark.parametrize("surface", ["stream", "realtime"])
def test_leaving_frees_the_slot(server: Server, surface: str) -> None:
    before = num_live(server)
    if surface == "stream":
        with httpx.stream("POST", f"{server.url}/fal/run/{APP}/stream", json=LONG, timeout=60) as stream:
            next(stream.iter_bytes())
    else:
        url = f"{server.url.replace('http', 'ws')}/fal/run/{APP}/realtime"
        with websockets.sync.client.connect(url, max_size=None) as socket:
            socket.send(msgpack.packb(LONG))
            socket.recv(timeout=60)
    deadline = time.monotonic() + 30
    while num_live(server) > before:
        assert time.monotonic() < deadline, "the answer goes on without a listener"
        time.sleep(0.2)
