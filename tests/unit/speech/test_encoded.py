"""Answers encoded beside an event loop."""

import asyncio
import threading

import pytest

from serve_app.audio.encode.formats import coding_of
from serve_app.speech import encoding
from serve_app.speech.encoding import LiveEncoder, encoded_whole
from tests.support.decoded import decoded
from tests.support.fakes import pcm_of


class RecordedEncoder:
    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.finished = threading.Event()

    def feed(self, pcm: bytes) -> bytes:
        self.threads.append(threading.current_thread())
        return pcm

    def finish(self) -> bytes:
        self.finished.set()
        return b""


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> RecordedEncoder:
    encoder = RecordedEncoder()
    monkeypatch.setattr(encoding, "open_encoder", lambda coding: encoder)
    return encoder


@pytest.mark.parametrize(
    ("name", "speed", "in_loop"), [("wav", 1, True), ("mulaw", 1, True), ("wav", 2, False), ("mp3", 1, False)]
)
async def test_only_costly_work_leaves_the_event_loop(
    encoder: RecordedEncoder, name: str, speed: float, in_loop: bool
) -> None:
    async with LiveEncoder(coding_of(name, None, speed)) as live:
        await live.feed(b"ab")
    assert (encoder.threads == [threading.current_thread()]) is in_loop


async def test_an_encoder_that_is_given_up_is_finished_so_that_its_memory_is_freed(encoder: RecordedEncoder) -> None:
    with pytest.raises(GeneratorExit):
        async with LiveEncoder(coding_of("mp3")) as live:
            await live.feed(b"ab")
            raise GeneratorExit
    assert await asyncio.to_thread(encoder.finished.wait, 30)


async def test_a_whole_answer_is_encoded_with_its_length() -> None:
    data = await encoded_whole(pcm_of(1, 25), coding_of("flac"))
    assert len(decoded("flac", data)) == 25 * 1920
    assert int.from_bytes(data[21:26], "big") & 0xFFFFFFFFF == 25 * 1920
