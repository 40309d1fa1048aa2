"""Which clips are encoded next, and which together."""

import asyncio
from collections.abc import Sequence

import pytest

from serve_app.codec.encoding_line import MAX_CLIPS_PER_PASS, EncodingLine, WaitingClip
from serve_app.errors import GenerationFailed, Overloaded
from serve_app.messages import SAMPLE_RATE_HZ, Codes


def clip(seconds: float) -> bytes:
    return bytes(int(seconds * SAMPLE_RATE_HZ) * 2)


class Encoder:
    """Encodes nothing until it is let go, pass by pass."""

    def __init__(self) -> None:
        self.passes: list[list[str]] = []
        self.go = asyncio.Semaphore(0)
        self.error: Exception | None = None
        self.line = EncodingLine(self.encode)

    async def encode(self, clips: Sequence[WaitingClip]) -> list[Codes]:
        self.passes.append([each.owner for each in clips])
        await self.go.acquire()
        if self.error is not None:
            raise self.error
        return [Codes.empty(len(each.pcm) // SAMPLE_RATE_HZ + 1) for each in clips]

    def send(self, owner: str, seconds: float) -> asyncio.Task[Codes]:
        return asyncio.create_task(self.line.encoded(clip(seconds), owner))

    async def until_passes(self, number: int) -> None:
        async with asyncio.timeout(10):
            while len(self.passes) < number:
                await asyncio.sleep(0.001)


async def test_a_key_with_a_short_clip_waits_for_one_pass_of_a_flood_of_long_ones() -> None:
    encoder = Encoder()
    sent = [encoder.send("many", 60) for _ in range(6)]
    await encoder.until_passes(1)
    sent.append(encoder.send("one", 2))
    for _ in range(10):
        encoder.go.release()
    codes = await asyncio.gather(*sent)
    assert encoder.passes[0] == ["many"]
    assert "one" in encoder.passes[1]
    assert codes[-1].num_codebooks == 2 * 2 + 1


async def test_short_clips_go_together() -> None:
    encoder = Encoder()
    sent = [encoder.send("", 1) for _ in range(MAX_CLIPS_PER_PASS + 2)]
    await encoder.until_passes(1)
    assert len(encoder.passes[0]) == MAX_CLIPS_PER_PASS
    encoder.go.release()
    encoder.go.release()
    await asyncio.gather(*sent)
    assert len(encoder.passes) == 2


async def test_a_clip_whose_caller_has_left_is_not_encoded() -> None:
    encoder = Encoder()
    first = encoder.send("a", 60)
    await encoder.until_passes(1)
    left, waits = encoder.send("a", 60), encoder.send("b", 60)
    await asyncio.sleep(0)
    left.cancel()
    for _ in range(3):
        encoder.go.release()
    await asyncio.gather(first, waits)
    assert encoder.passes == [["a"], ["b"]]


async def test_all_clips_of_a_pass_get_its_error_and_the_next_pass_runs() -> None:
    encoder = Encoder()
    encoder.error = GenerationFailed("broken")
    sent = [encoder.send("a", 1), encoder.send("b", 1)]
    encoder.go.release()
    assert [type(end) for end in await asyncio.gather(*sent, return_exceptions=True)] == [GenerationFailed] * 2
    encoder.error = None
    encoder.go.release()
    await encoder.send("a", 1)


async def test_a_key_that_has_too_many_waiting_is_refused_and_another_is_not() -> None:
    encoder = Encoder()
    sent = [encoder.send("many", 60)]
    await encoder.until_passes(1)
    sent += [encoder.send("many", 60) for _ in range(48)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="too many clips wait to be encoded"):
        await encoder.line.encoded(clip(1), "many")
    sent.append(encoder.send("other", 1))
    for _ in range(60):
        encoder.go.release()
    await asyncio.gather(*sent)
