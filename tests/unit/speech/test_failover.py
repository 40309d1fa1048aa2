"""A replica that dies in the middle: every frame comes once, in order, and the listener is told nothing."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import numpy as np
import pytest

from serve_app.errors import GenerationFailed, Overloaded, ReplicaLost
from serve_app.messages import Accepted, Codes, FinishReason, GenerationRequest, ModelInfo, TokenFrames
from serve_app.settings import FailoverSettings
from serve_app.speech.failover import ResumingGenerator

FRAMES = np.arange(1, 41).reshape(20, 2)
REQUEST = GenerationRequest("r", "text", 0)


class DyingGenerator:
    """Dies after so many messages of its first streams; what it says depends on the frame number alone."""

    def __init__(self, *lives: int, silent_end: bool = False) -> None:
        self._lives = list(lives)
        self._silent_end = silent_end
        self.requests: list[GenerationRequest] = []
        self.num_open = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        self.requests.append(request)
        self.num_open += 1
        life = self._lives.pop(0) if self._lives else 10**6
        try:
            first = request.resume.num_frames if request.resume else 0
            for number, message in enumerate(self._messages(request, first)):
                if number == life:
                    if self._silent_end:
                        return
                    raise ReplicaLost("died")
                yield message
        finally:
            self.num_open -= 1

    def _messages(self, request: GenerationRequest, first: int) -> list[Accepted | TokenFrames]:
        messages: list[Accepted | TokenFrames] = [
            Accepted(request.request_id, 1, f"replica {len(self.requests)}", 0, 3)
        ]
        for start in range(first, 20, 3):
            codes = Codes.from_array(FRAMES[start : start + 3])
            messages.append(TokenFrames(start, codes, FinishReason.EOS if start + 3 >= 20 else None))
        return messages

    async def info(self) -> ModelInfo:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def skip(_: float) -> None:
        pass

    monkeypatch.setattr("serve_app.speech.failover.asyncio.sleep", skip)


async def listen(
    generator: DyingGenerator, request: GenerationRequest = REQUEST, **settings: float
) -> list[TokenFrames]:
    resuming = ResumingGenerator(generator, FailoverSettings.model_validate(settings))
    messages = [message async for message in resuming.generate(request)]
    assert isinstance(messages[0], Accepted)
    assert messages[0].replica
    frames = [message for message in messages if isinstance(message, TokenFrames)]
    assert len(frames) == len(messages) - 1, "Accepted comes once"
    return frames


def heard(frames: list[TokenFrames]) -> list[list[int]]:
    assert [m.finish is not None for m in frames] == [False] * (len(frames) - 1) + [True]
    first = 0
    for message in frames:
        assert message.first_frame == first
        first += message.codes.num_frames
    return [row for message in frames for row in message.codes.to_array().tolist()]


@pytest.mark.parametrize("silent_end", [False, True], ids=["error", "silent end"])
@pytest.mark.parametrize("lives", [(), (0,), (1,), (2,), (7,), (3, 2, 0, 1, 4)], ids=str)
async def test_every_frame_comes_once(lives: tuple[int, ...], silent_end: bool) -> None:
    generator = DyingGenerator(*lives, silent_end=silent_end)
    assert heard(await listen(generator)) == FRAMES.tolist()
    assert len(generator.requests) == len(lives) + 1
    assert generator.num_open == 0


class OnceUnreliable(DyingGenerator):
    """Its first stream is like `sent`: messages by their numbers, one perhaps lost or repeated on the way."""

    def __init__(self, sent: tuple[int, ...]) -> None:
        super().__init__()
        self._sent = sent

    def _messages(self, request: GenerationRequest, first: int) -> list[Accepted | TokenFrames]:
        messages = super()._messages(request, first)
        return [messages[number] for number in self._sent] if len(self.requests) == 1 else messages


@pytest.mark.parametrize("sent", [(0, 1, 3, 4), (0, 2), (0, 1, 2, 2, 3), (0, 1, 2, 3, 1)], ids=str)
async def test_a_message_that_was_lost_or_came_twice_is_not_heard(sent: tuple[int, ...]) -> None:
    generator = OnceUnreliable(sent)
    assert heard(await listen(generator)) == FRAMES.tolist()
    assert len(generator.requests) == 2


async def test_what_is_asked_for_again_continues_and_is_not_refused() -> None:
    generator = DyingGenerator(3)
    await listen(generator)
    first, second = generator.requests
    assert first == REQUEST
    assert second.resume == Codes.from_array(FRAMES[:6])
    assert second.priority < 0


async def test_background_work_that_goes_on_stays_in_the_background() -> None:
    generator = DyingGenerator(3)
    await listen(generator, replace(REQUEST, priority=2))
    assert [asked.priority for asked in generator.requests] == [2, 2]


async def test_a_request_that_was_lost_before_it_was_accepted_waits_its_turn() -> None:
    generator = DyingGenerator(0)
    await listen(generator)
    assert generator.requests == [REQUEST, replace(REQUEST, num_lost=1)]


async def test_each_attempt_says_how_many_were_lost_so_that_it_goes_elsewhere() -> None:
    generator = DyingGenerator(3, 0, 1)
    await listen(generator)
    assert [asked.num_lost for asked in generator.requests] == [0, 1, 2, 3]


async def test_a_stream_that_resumes_already_keeps_what_it_had() -> None:
    generator = DyingGenerator(2)
    request = GenerationRequest("r", "text", 0, resume=Codes.from_array(FRAMES[:4]))
    frames = await listen(generator, request)
    assert frames[0].first_frame == 4
    assert generator.requests[1].resume == Codes.from_array(FRAMES[:7])


async def test_losses_are_bounded() -> None:
    generator = DyingGenerator(*[2] * 10)
    with pytest.raises(GenerationFailed, match="no replica could go on after 9 frames") as caught:
        await listen(generator, max_losses=2)
    assert not isinstance(caught.value, ReplicaLost), "nobody further up should try again"
    assert len(generator.requests) == 3


async def test_a_stream_that_does_not_get_on_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 20))
    monkeypatch.setattr("serve_app.speech.failover.time.monotonic", lambda: next(now))
    with pytest.raises(GenerationFailed, match="no replica could go on"):
        await listen(DyingGenerator(*[1] * 10), max_wait_seconds=50)


async def test_refusals_and_failures_are_not_tried_again() -> None:
    class Refusing(DyingGenerator):
        async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
            self.requests.append(request)
            raise Overloaded("full")
            yield

    generator = Refusing()
    with pytest.raises(Overloaded):
        await listen(generator)
    assert len(generator.requests) == 1


async def test_leaving_closes_the_stream_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = DyingGenerator(2)
    stream = ResumingGenerator(generator, FailoverSettings()).generate(REQUEST)
    for _ in range(4):
        await anext(stream)
    assert generator.num_open == 1
    await stream.aclose()
    assert generator.num_open == 0
    await asyncio.gather()


async def test_a_stream_that_is_heard_already_waits_for_a_busy_replica() -> None:
    class BusyAfterwards(DyingGenerator):
        async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
            if request.resume is not None and len(self.requests) < 20:
                self.requests.append(request)
                raise Overloaded("full")
            async for message in super().generate(request):
                yield message

    generator = BusyAfterwards(3)
    assert heard(await listen(generator)) == FRAMES.tolist()
    assert len(generator.requests) == 21
