"""The Python client against a real server."""

import asyncio
import io
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from serve_app.client import (
    AsyncClient,
    BadRequest,
    Busy,
    Client,
    Clip,
    JobFailed,
    NotFound,
    StreamBroken,
    Turn,
    Unauthorized,
    Unreachable,
)
from tests.support.contract_server import Server, serving
from tests.support.fakes import pcm_of
from tests.support.ray_server import free_port
from tests.support.waiting import until

SCENE = [Turn("One two.", 0), Turn("Three four five.", 1)]
FRAME_BYTES = 3840


def test_it_needs_neither_torch_nor_ray() -> None:
    heavy = '{"torch", "ray", "numpy", "pydantic", "fastapi", "sqlalchemy"}'
    program = f"import sys, serve_app.client; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_text_is_spoken_and_saved(server: Server, tmp_path: Path) -> None:
    with Client(server.url) as client:
        speech = client.speak("One two.", speaker=3, seed=7)
    assert (speech.outcome.seed, speech.outcome.finish_reason, speech.outcome.audio_seconds) == (7, "eos", 0.16)
    speech.save(tmp_path / "speech.wav")
    with wave.open(str(tmp_path / "speech.wav")) as file:
        assert file.readframes(file.getnframes()) == pcm_of(4) * 2


def test_a_scene_says_when_each_turn_begins_and_takes_recordings(server: Server, clip: Path) -> None:
    with Client(server.url) as client:
        speech = client.speak(SCENE, context=[Clip(clip, "a tone", 1)], format="flac")
    assert speech.content_type == "audio/flac"
    assert speech.outcome.turn_starts == (0.0, 0.16)
    assert next(segment.text for segment in server.decoder.requests[-1].context) == "a tone"


def test_a_stream_gives_whole_samples_while_it_is_made(server: Server) -> None:
    server.decoder.go_on.clear()
    with Client(server.url) as client, client.stream("One two waitforever") as stream:
        pieces = iter(stream)
        first = next(pieces)
        assert first.startswith(pcm_of(1)[:100]) and len(first) % 2 == 0
        assert stream.sample_rate == 24000
        server.decoder.go_on.set()
        assert len(first + b"".join(pieces)) == 3 * FRAME_BYTES
        assert client.outcome(stream.request_id).turn_starts == (0.0,)


def test_leaving_a_stream_cancels_it(server: Server) -> None:
    server.decoder.go_on.clear()
    with Client(server.url) as client:
        with client.stream("One waitforever") as stream:
            next(iter(stream))
        until(lambda: not server.decoder.num_open, "the server cancels")
        until(lambda: client.outcome(stream.request_id).finish_reason == "cancelled", "the outcome says so")
    server.decoder.go_on.set()


def test_a_stream_that_breaks_off_is_an_error(server: Server) -> None:
    with Client(server.url) as client, client.stream("One breakdown") as stream, pytest.raises(StreamBroken):
        list(stream)


def test_errors_name_the_field(server: Server) -> None:
    with Client(server.url) as client:
        with pytest.raises(BadRequest, match="temperature: ") as refused:
            client.speak("Hi.", temperature=9)
        assert (refused.value.field, refused.value.status) == ("temperature", 422)
        with pytest.raises(BadRequest) as refused:
            client.submit([Turn("", 0)])
        assert refused.value.field == "scene.0.text"
        with pytest.raises(NotFound):
            client.job("nothing")


def test_a_refusal_is_tried_again_after_the_time_that_the_server_names(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("serve_app.client.synchronous.time.sleep", pauses.append)
    server.decoder.refusals_left = 2
    with Client(server.url) as client:
        assert client.speak("Hi.").outcome.finish_reason == "eos"
    assert len(pauses) == 2 and set(pauses) <= {1, 2}  # the server spreads them
    server.decoder.refusals_left = 2
    with Client(server.url, most_retries=1) as client, pytest.raises(Busy) as refused:
        client.speak("Hi.")
    assert refused.value.retry_after in (1, 2)
    assert len(pauses) == 3
    server.decoder.refusals_left = 0


def test_a_server_that_is_not_there_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(f"http://127.0.0.1:{free_port()}", most_retries=0) as client, pytest.raises(Unreachable, match="is it"):
        client.info()


def test_a_job_is_queued_shown_and_fetched(server: Server) -> None:
    with Client(server.url) as client:
        job = client.wait(client.submit(SCENE, seed=5).id, timeout_seconds=30)
        assert (job.state, job.audio_seconds, job.seed) == ("completed", 0.4, 5)
        assert job.logs
        with wave.open(io.BytesIO(client.audio(job))) as file:
            assert file.getnframes() == 5 * FRAME_BYTES // 2
        assert client.jobs(limit=1)[0].id == job.id


def test_a_failed_job_is_run_again_and_no_other(server: Server) -> None:
    with Client(server.url) as client:
        failed = client.wait(client.submit("One breakdown", seed=4).id, timeout_seconds=60)
        assert (failed.state, failed.error_kind) == ("failed", "generation_failed")
        again = client.wait(client.retry(failed.id).id, timeout_seconds=60)
        assert again.id != failed.id and again.state == "failed"
        assert server.decoder.requests[-1].sampling.seed == 4
        ended = client.wait(client.submit("One.").id, timeout_seconds=30)
        with pytest.raises(BadRequest, match="is completed, and only a failed job"):
            client.retry(ended.id)


def test_a_job_can_be_cancelled(server: Server) -> None:
    server.decoder.go_on.clear()
    with Client(server.url) as client:
        job = client.submit("One waitforever")
        client.cancel(job.id)
        ended = client.wait(job.id, timeout_seconds=30)
        assert ended.state == "cancelled"
        with pytest.raises(JobFailed):
            client.audio(ended)
    server.decoder.go_on.set()


def test_a_key_is_sent_and_another_keys_jobs_are_not_shown(tmp_path: Path) -> None:
    with serving(tmp_path, needs_keys=True) as server:
        keys = [server.keys.create(name)[1] for name in ("a", "b")]
        with Client(server.url) as nobody, pytest.raises(Unauthorized):
            nobody.jobs()
        with Client(server.url, keys[0]) as one, Client(server.url, keys[1]) as other:
            job = one.submit("Hi.")
            assert [each.id for each in one.jobs()] == [job.id]
            assert other.jobs() == []
            with pytest.raises(NotFound):
                other.cancel(job.id)


async def test_the_async_client_does_the_same(server: Server) -> None:
    async with AsyncClient(server.url) as client:
        speech = await client.speak(SCENE, seed=3)
        async with client.stream(SCENE, seed=3) as stream:
            pcm = b"".join([piece async for piece in stream])
        assert pcm == speech.audio[44:]
        job = await client.wait((await client.submit("Hi there.")).id, timeout_seconds=30)
        assert len(await client.audio(job)) == 44 + 2 * FRAME_BYTES
        assert [voice.id for voice in await client.voices()]


async def test_cancelling_a_task_cancels_its_stream(server: Server) -> None:
    server.decoder.go_on.clear()

    async def listen() -> None:
        async with AsyncClient(server.url) as client, client.stream("One waitforever") as stream:
            async for _ in stream:
                pass

    task = asyncio.create_task(listen())
    await asyncio.to_thread(until, lambda: server.decoder.num_open == 1, "it is spoken")
    task.cancel()
    await asyncio.to_thread(until, lambda: not server.decoder.num_open, "the server cancels")
    server.decoder.go_on.set()
