"""A scene that is spoken while its caller waits."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Self

from serve_app.api.services import Services
from serve_app.errors import StartTimeout
from serve_app.keys.key import Key
from serve_app.messages import Accepted, AudioChunk
from serve_app.speech.scene import SceneInput
from serve_app.speech.scene_work import SceneAnswer


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks for a scene, and how."""

    request_id: str
    key: Key
    is_streamed: bool
    start_timeout_seconds: float | None = None
    trace: str = ""


class LiveScene:
    """To be entered with `async with`: leaving it, however that comes, frees every slot."""

    def __init__(self, spoken: AsyncGenerator[Accepted | AudioChunk | SceneAnswer, None]) -> None:
        self._spoken = spoken

    @classmethod
    async def open(cls, services: Services, scene: SceneInput, call: Call) -> Self:
        """Wait until the pipeline admits it: a refusal is raised here, and so is StartTimeout."""
        try:
            async with asyncio.timeout(call.start_timeout_seconds):
                request = await services.work.request(
                    scene, call.request_id, is_streamed=call.is_streamed, trace=call.trace
                )
                spoken = services.work.speak(scene, request, call.key)
                accepted = await anext(spoken)
        except TimeoutError:
            seconds = call.start_timeout_seconds or 0
            raise StartTimeout(f"the request did not start within its {seconds:g} s: send it again") from None
        assert isinstance(accepted, Accepted), "a stream opens with Accepted"
        return cls(spoken)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._spoken.aclose()

    async def messages(self) -> AsyncGenerator[AudioChunk | SceneAnswer, None]:
        async for message in self._spoken:
            assert not isinstance(message, Accepted), "Accepted comes once"
            yield message

    async def answer(self) -> SceneAnswer:
        """All of it, once it is stored."""
        async with aclosing(self.messages()) as messages:
            async for message in messages:
                if isinstance(message, SceneAnswer):
                    return message
        raise AssertionError("a scene ends with its answer")
