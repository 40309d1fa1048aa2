"""fal's own Python client, sync and async, as it is but for the addresses."""

import asyncio
import io
import wave
from collections.abc import Iterator
from pathlib import Path

import fal_client
import fal_client.client
import httpx
import pytest

from tests.support.contract_server import Server
from tests.support.fakes import pcm_of
from tests.support.waiting import until

APP = "fal-ai/csm-1b"
SCENE = {
    "scene": [
        {"text": "Hey how are you doing.", "speaker_id": 0},
        {"text": "Pretty good, pretty good.", "speaker_id": 1},
        {"text": "I'm great, so happy to be speaking to you.", "speaker_id": 0},
    ]
}
FRAMES = 5 + 4 + 9


@pytest.fixture(autouse=True)
def addresses(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe of docs/api.md."""
    base = f"{server.url}/fal"
    monkeypatch.setattr(fal_client.client, "RUN_URL_FORMAT", f"{base}/run/")
    monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{base}/queue/")
    monkeypatch.setattr(fal_client.client, "REALTIME_URL_FORMAT", f"ws://{server.host}/fal/run/")
    monkeypatch.setattr(fal_client.client, "REST_URL", f"{base}/rest")
    monkeypatch.setattr(fal_client.client, "CDN_URL", f"{base}/cdn")


@pytest.fixture
def client() -> fal_client.SyncClient:
    return fal_client.SyncClient(key="id:secret")


@pytest.fixture
def async_client() -> fal_client.AsyncClient:
    return fal_client.AsyncClient(key="id:secret")


def saying(text: str, **more: object) -> dict[str, object]:
    return {"scene": [{"text": text, "speaker_id": 0}], **more}


def num_frames(output: dict[str, object]) -> int:
    """Of the file that the output names."""
    audio = output["audio"]
    answer = httpx.get(audio["url"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    assert len(answer.content) == audio["file_size"]
    with wave.open(io.BytesIO(answer.content)) as file:
        return file.getnframes() // 1920


def is_completed(status: fal_client.Status) -> bool:
    return isinstance(status, fal_client.Completed)


def test_run_speaks_a_scene_in_one_file(client: fal_client.SyncClient) -> None:
    output = client.run(APP, arguments=SCENE)
    assert num_frames(output) == FRAMES
    assert output["audio"]["content_type"] == "audio/wav"
    assert output["audio"]["url"].endswith(output["audio"]["file_name"])


async def test_run_async(async_client: fal_client.AsyncClient) -> None:
    assert num_frames(await async_client.run(APP, arguments=SCENE)) == FRAMES


def test_run_takes_a_path_a_hint_and_a_start_timeout(client: fal_client.SyncClient) -> None:
    assert client.run(APP, arguments=SCENE, path="/dialogue", hint="h1", start_timeout=30)["audio"]


def test_subscribe_reports_the_queue_and_the_logs(client: fal_client.SyncClient) -> None:
    updates: list[fal_client.Status] = []
    ids: list[str] = []
    output = client.subscribe(
        APP, arguments=SCENE, with_logs=True, on_queue_update=updates.append, on_enqueue=ids.append
    )
    assert num_frames(output) == FRAMES
    assert isinstance(updates[-1], fal_client.Completed)
    assert updates[-1].metrics["inference_time"] > 0
    messages = [entry["message"] for entry in updates[-1].logs]
    assert messages[0] == "started: 3 turns, no context; turn 1 of 3"
    assert "turn 2 of 3 done: 4 frames, 0.3 s" in messages
    assert messages[-1].startswith("finished (eos): 1.44 s of audio")
    assert len(ids) == 1


def test_the_handle_follows_a_job_to_its_result(client: fal_client.SyncClient) -> None:
    handle = client.submit(APP, arguments=SCENE, path="/dialogue", hint="h2", priority="low", start_timeout=60)
    events = list(handle.iter_events(with_logs=True, interval=0.02))
    assert isinstance(events[-1], fal_client.Completed)
    assert num_frames(handle.get()) == FRAMES
    assert num_frames(client.result(APP, handle.request_id)) == FRAMES
    assert isinstance(client.status(APP, handle.request_id), fal_client.Completed)


async def test_the_handle_follows_a_job_async(async_client: fal_client.AsyncClient) -> None:
    handle = await async_client.submit(APP, arguments=SCENE)
    assert isinstance([event async for event in handle.iter_events()][-1], fal_client.Completed)
    assert num_frames(await handle.get()) == FRAMES
    output = await async_client.subscribe(APP, arguments=SCENE, with_logs=True, on_queue_update=lambda update: None)
    assert num_frames(output) == FRAMES


def test_the_top_level_functions_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY", "id:secret")
    request_id = fal_client.submit(APP, arguments=SCENE).request_id
    until(lambda: is_completed(fal_client.status(APP, request_id, with_logs=True)), "the job is completed")
    assert num_frames(fal_client.result(APP, request_id)) == FRAMES


def test_cancelling_stops_a_job_that_runs(client: fal_client.SyncClient, server: Server) -> None:
    handle = client.submit(APP, arguments=saying("never mind waitforever"))
    until(lambda: isinstance(handle.status(), fal_client.InProgress) and server.decoder.num_open, "the job runs")
    handle.cancel()
    for event in handle.iter_events():
        status = event
    assert status.error_type == "client_cancelled"
    until(lambda: not server.decoder.num_open, "the slot is free")
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        handle.get()
    assert (error.value.status_code, error.value.error_type) == (499, "client_cancelled")
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        handle.cancel()
    assert error.value.response.json() == {"status": "ALREADY_COMPLETED"}


def test_a_client_timeout_cancels_the_job(client: fal_client.SyncClient, server: Server) -> None:
    with pytest.raises(fal_client.FalClientTimeoutError) as error:
        client.subscribe(APP, arguments=saying("too slow waitforever"), client_timeout=2)
    request_id = error.value.request_id
    until(lambda: is_completed(client.status(APP, request_id)), "the job is completed")
    status = client.status(APP, request_id)
    assert isinstance(status, fal_client.Completed) and status.error_type == "client_cancelled"


def test_a_refused_input_names_its_places(client: fal_client.SyncClient) -> None:
    for call in (client.run, client.submit):
        with pytest.raises(fal_client.FalClientHTTPError) as error:
            call(APP, arguments={"scene": [{"speaker_id": 0}, {"text": "Hi.", "speaker_id": "x"}]})
        assert error.value.status_code == 422
        places = [detail["loc"] for detail in error.value.message]
        assert places == [["body", "scene", 0, "text"], ["body", "scene", 1, "speaker_id"]]


def test_what_only_the_work_finds_is_in_the_result(client: fal_client.SyncClient, server: Server) -> None:
    context = [{"prompt": "Hi.", "speaker_id": 0, "audio_url": f"{server.url}/nothing.wav"}]
    handle = client.submit(APP, arguments=saying("Hello.", context=context))
    for event in handle.iter_events():
        status = event
    assert status.error_type == "file_download_error"
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        handle.get()
    assert error.value.status_code == 422
    assert error.value.message[0]["loc"] == ["body", "context", 0, "audio_url"]


def test_an_overloaded_server_is_asked_again(client: fal_client.SyncClient, server: Server) -> None:
    server.decoder.refusals_left = 2
    assert num_frames(client.run(APP, arguments=saying("two words"))) == 2


def test_a_failed_run_says_so(client: fal_client.SyncClient) -> None:
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        client.run(APP, arguments=saying("it breaks breakdown"))
    assert (error.value.status_code, error.value.error_type) == (500, "runner_server_error")


def test_a_start_timeout_is_the_users_own(client: fal_client.SyncClient, server: Server) -> None:
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        client.run(APP, arguments=saying("in line stayqueued"), start_timeout=1.5)
    assert (error.value.status_code, error.value.error_type) == (504, "request_timeout")
    assert error.value.response_headers["x-fal-request-timeout-type"] == "user"
    until(lambda: not server.decoder.num_open, "the slot is free")


def test_a_stream_ends_with_the_whole_output(client: fal_client.SyncClient) -> None:
    *chunks, output = client.stream(APP, arguments=SCENE)
    assert [chunk["index"] for chunk in chunks] == list(range(FRAMES))
    assert {chunk["turn"] for chunk in chunks} == {0, 1, 2}
    assert num_frames(output) == FRAMES


async def test_a_stream_async(async_client: fal_client.AsyncClient) -> None:
    events = [event async for event in async_client.stream(APP, arguments=SCENE)]
    assert num_frames(events[-1]) == FRAMES


@pytest.fixture
def uploads(client: fal_client.SyncClient, clip: Path) -> Iterator[dict[str, str]]:
    yield {
        "with a token": client.upload_file(clip),
        "to a signed address": client.upload(clip.read_bytes(), "audio/wav", "clip.wav", repository="fal"),
    }


def test_uploaded_files_are_context(
    client: fal_client.SyncClient, server: Server, uploads: dict[str, str], clip: Path
) -> None:
    for url in [*uploads.values(), fal_client.encode_file(clip)]:
        if url.startswith("http"):
            assert httpx.get(url).content == clip.read_bytes()
        heard = len(server.encoder.clips)
        context = [{"prompt": "Before.", "speaker_id": 3, "audio_url": url}]
        client.run(APP, arguments=saying("Hello.", context=context))
        client.subscribe(APP, arguments=saying("Hello.", context=context))
        assert server.encoder.clips[heard:] == [pcm_of(5, 13)[:48_000]] * 2


def test_a_large_file_goes_up_in_parts(
    client: fal_client.SyncClient, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fal_client.client, "MULTIPART_THRESHOLD", 1_000)
    large = tmp_path / "large.bin"
    large.write_bytes(clip.read_bytes() * 40)
    url = client.upload_file(large, lifecycle=fal_client.client.StorageSettings(expires_in="1h"))
    assert httpx.get(url).content == large.read_bytes()


async def test_uploads_async(async_client: fal_client.AsyncClient, clip: Path) -> None:
    url = await async_client.upload_file(clip)
    async with httpx.AsyncClient() as http:
        assert (await http.get(url)).content == clip.read_bytes()


@pytest.mark.parametrize("use_jwt", [True, False])
def test_realtime_sends_sound_and_then_the_output(client: fal_client.SyncClient, use_jwt: bool) -> None:
    with client.realtime(APP, use_jwt=use_jwt, max_buffering=4) as connection:
        for text in ("one two three", "four five"):
            connection.send(saying(text, request_id="mine"))
            messages = [connection.recv() for _ in range(len(text.split()) + 1)]
            assert [len(message["audio_chunk"]) for message in messages[:-1]] == [3840] * len(text.split())
            assert {message["request_id"] for message in messages} == {"mine"}
            assert num_frames(messages[-1]) == len(text.split())


async def test_realtime_says_what_is_wrong_and_goes_on(async_client: fal_client.AsyncClient) -> None:
    async with async_client.realtime(APP) as connection:
        await connection.send({"scene": []})
        with pytest.raises(fal_client.client.RealtimeError, match=r"scene: has 0 turns: send from 1 to 32"):
            await connection.recv()
        await connection.send(saying("again"))
        await connection.recv()
        assert (await connection.recv())["audio"]["file_size"] > 0


async def test_leaving_a_realtime_connection_frees_its_slot(
    async_client: fal_client.AsyncClient, server: Server
) -> None:
    async with async_client.realtime(APP) as connection:
        await connection.send(saying("never ends waitforever"))
        await connection.recv()
        assert server.decoder.num_open == 1
    await asyncio.to_thread(until, lambda: not server.decoder.num_open, "the slot is free")
