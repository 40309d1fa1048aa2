"""Listens to many paced streams at once and notes every read; judges nothing."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from benchmarks.datapath.figures import (
    FRAME_BYTES,
    FRAME_SECONDS,
    HEADER_BYTES,
    UNDERRUN_SECONDS,
    chunk_ends,
    worst_lateness,
)

TEXT = "The quick brown fox jumps over the lazy dog, and says so at some length. " * 2
"""Long enough to be spoken for 25 s, short enough for the engine to take in several requests a step."""
STARTS_PER_SECOND = 30
"""A new stream costs as much as dozens of chunks, so a level's streams join at a rate that a server meets in use."""
SETTLE_SECONDS = 1.0
"""After the last one joined, before lateness counts."""


@dataclass(slots=True)
class Stream:
    """`reads`: when, and how many bytes until then, the header included."""

    num_frames: int
    sent_at: float = 0.0
    reads: list[tuple[float, int]] = field(default_factory=list)
    error: str | None = None

    @property
    def is_whole(self) -> bool:
        return bool(self.reads) and self.reads[-1][1] >= HEADER_BYTES + FRAME_BYTES * self.num_frames

    @property
    def ends(self) -> list[tuple[float, int]]:
        return chunk_ends(self.reads)

    @property
    def first_byte_seconds(self) -> float | None:
        return self.reads[0][0] - self.sent_at if self.reads else None

    @property
    def first_audio_seconds(self) -> float | None:
        return next((at - self.sent_at for at, total in self.reads if total > HEADER_BYTES), None)

    def late_seconds(self, since: float) -> float | None:
        return worst_lateness(self.ends, since)

    def failed(self, since: float) -> bool:
        """It did not come whole, or its player ran dry."""
        late = self.late_seconds(since)
        return self.error is not None or not self.is_whole or late is None or late > UNDERRUN_SECONDS


class Client:
    """One connection a stream."""

    def __init__(self, url: str) -> None:
        self._url = url
        timeout = aiohttp.ClientTimeout(total=None, sock_read=20)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)

    async def close(self) -> None:
        await self._session.close()

    async def listen(self, seconds: float, seed: int = 0, delay_seconds: float = 0.0) -> Stream:
        """To one stream of this length, after the delay."""
        await asyncio.sleep(delay_seconds)
        stream = Stream(num_frames=round(seconds / FRAME_SECONDS))
        # Half a frame more: the server rounds down.
        audio_seconds = (stream.num_frames + 0.5) * FRAME_SECONDS
        body = {"text": TEXT, "seed": seed, "streaming": True, "max_audio_seconds": audio_seconds}
        stream.sent_at = time.perf_counter()
        try:
            async with self._session.post(f"{self._url}/generate", json=body) as response:
                response.raise_for_status()
                total = 0
                async for data in response.content.iter_any():
                    total += len(data)
                    stream.reads.append((time.perf_counter(), total))
        except (aiohttp.ClientError, TimeoutError) as error:
            stream.error = f"{type(error).__name__}: {error}"
        return stream

    def level(self, num_streams: int, hold_seconds: float) -> "Level":
        """So many at once: they join one after the other, and all go on for `hold_seconds` once they have settled."""
        ramp = num_streams / STARTS_PER_SECOND
        delays = [ramp * number / num_streams for number in range(num_streams)]
        seconds = ramp + SETTLE_SECONDS + hold_seconds
        settled_at = time.perf_counter() + ramp + SETTLE_SECONDS
        tasks = [asyncio.create_task(self.listen(seconds - delay, seed, delay)) for seed, delay in enumerate(delays)]
        return Level(settled_at, tasks)


@dataclass(slots=True)
class Level:
    settled_at: float
    _tasks: Sequence[asyncio.Task[Stream]]

    async def settled(self) -> None:
        await asyncio.sleep(self.settled_at - time.perf_counter())

    async def streams(self) -> list[Stream]:
        return list(await asyncio.gather(*self._tasks))


def chunks_between(streams: Sequence[Stream], began: float, ended: float) -> int:
    return sum(began <= at < ended for stream in streams for at, _ in stream.ends)
