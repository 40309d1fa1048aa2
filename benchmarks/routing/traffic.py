"""The requests that routers are compared by, and how they are played against a server."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Any

import aiohttp

from benchmarks.load.client import open_http
from benchmarks.load.one_request import Answer, send
from benchmarks.load.targets import Ours
from benchmarks.load.workloads import SENTENCE, Clip, Item, Turn, Workload
from benchmarks.routing.figures import busiest_share, counters, figures, growth, replicas_with, running

MANY_VOICES, ONE_VOICE, NO_VOICE = "many voices", "one popular voice", "no voice"
_TEXT = "So that is how it is."
_OTHER_TRANSCRIPT = "Said for the encoder alone, which knows its clips then."
_MIN_SECONDS = 0.08
_REQUEST_SECONDS = 60.0
_START_SECONDS = 120.0
_LOOK_SECONDS = 0.5
_QUIET_SECONDS = 4.0
"""Counters that did not change for so long are final: replicas publish every second, Ray's agent reads them twice a
second, and the ingress keeps what it read for two."""
_COUNT_SECONDS = 60.0
_CROWD = 8
"""Of fewer sequences at once, gauges that replicas set a second apart do not tell who had how many."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Requests in the order they are sent, `at_once` of them at any time."""

    name: str
    items: tuple[Item, ...]
    at_once: int
    voice_positions: int


def voices(number: int, clip_seconds: float, seed: int) -> list[Clip]:
    """Clips that sound different, with the same words."""
    workload = Workload(seed=seed, context_seconds=clip_seconds, fresh_context=True, texts=(_TEXT,))
    return [session.context[0] for session in islice(workload.sessions(0), number)]


def requests(clips: Sequence[Clip | None], each: int, audio_seconds: float, seed: int) -> tuple[Item, ...]:
    """`each` requests with every one of the clips, shuffled; None brings none."""
    random = Random(seed)
    items = [
        Item(SENTENCE, (Turn(_TEXT, 0),), (clip,) if clip else (), random.getrandbits(32), 0, audio_seconds)
        for clip in clips
        for _ in range(each)
    ]
    random.shuffle(items)
    return tuple(items)


def for_the_encoder(clips: Sequence[Clip]) -> tuple[Item, ...]:
    """Requests after which the encoder knows all clips, and no generator anything of them that a prompt will hold: the
    transcript comes first in it. What is measured then is the generators' work."""
    return requests([replace(clip, text=_OTHER_TRANSCRIPT) for clip in clips], 1, _MIN_SECONDS, 0)


class Traffic:
    """One client of one server."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._counted: dict[str, dict[str, float]] = {}
        """After the last scenario, which nothing but the next one will change."""

    async def until_all_run(self, generators: int, decoders: int) -> None:
        """A server is ready with the first replica of each. Raises TimeoutError."""
        async with asyncio.timeout(_START_SECONDS):
            while True:
                text = await self._metrics()
                found = [len(replicas_with(text, metric)) for metric in ("engine_slots", "decoder_slots")]
                if found == [generators, decoders]:
                    return
                await asyncio.sleep(_LOOK_SECONDS)

    async def measure(self, scenario: Scenario) -> dict[str, Any]:
        """The scenario's figures, from what the server counted meanwhile and what its listeners heard."""
        before = self._counted or await self._settled()
        samples: list[dict[str, float]] = []
        sampling = asyncio.create_task(self._sample(samples))
        answers = await self.play(scenario.items, scenario.at_once)
        sampling.cancel()
        with suppress(asyncio.CancelledError):
            await sampling
        self._counted = await self._settled()
        row = {"scenario": scenario.name, "at_once": scenario.at_once}
        row |= figures(growth(before, self._counted), answers, scenario.voice_positions)
        return row | {"busiest_share": busiest_share(samples, max(_CROWD, scenario.at_once // 2))}

    async def play(self, items: Sequence[Item], at_once: int) -> list[Answer]:
        """Whoever has heard an answer asks for the next. In the order they end."""
        waiting, answers = iter(items), list[Answer]()
        target = Ours()

        async def listen() -> None:
            for item in waiting:
                answer = Answer()
                await send(self._http, self._url, target.ask(item), target.audio(), answer)
                answers.append(answer)

        async with asyncio.TaskGroup() as listeners:
            for _ in range(at_once):
                listeners.create_task(listen())
        return answers

    async def _settled(self) -> dict[str, dict[str, float]]:
        """Counters, once they are final. Raises TimeoutError."""
        last, changed_at = counters(await self._metrics()), time.monotonic()
        async with asyncio.timeout(_COUNT_SECONDS):
            while time.monotonic() - changed_at < _QUIET_SECONDS:
                await asyncio.sleep(_LOOK_SECONDS)
                if (now := counters(await self._metrics())) != last:
                    last, changed_at = now, time.monotonic()
        return last

    async def _sample(self, samples: list[dict[str, float]]) -> None:
        while True:
            samples.append(running(await self._metrics()))
            await asyncio.sleep(_LOOK_SECONDS)

    async def _metrics(self) -> str:
        async with self._http.get(f"{self._url}/metrics") as response:
            response.raise_for_status()
            return await response.text()


def open_client() -> aiohttp.ClientSession:
    return open_http(_REQUEST_SECONDS)
