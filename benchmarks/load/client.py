"""Plays sessions against a server: so many at once (closed loop), or when they are due (open loop)."""

import asyncio
import os
import resource
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import aiohttp

from benchmarks.common.records import Record
from benchmarks.load.arrivals import Arrival
from benchmarks.load.one_request import UNREACHABLE, WRONG_TYPE, Answer, send
from benchmarks.load.targets import Target
from benchmarks.load.workloads import Clip, Item, Session, wav_file

_PAUSE_AFTER_ERROR_SECONDS = 0.2
"""A listener in a closed loop who is refused takes a breath, or errors would come by the thousand."""
_FILES_FOR_OTHERS = 100
_CONNECT_SECONDS = 10.0
INTERRUPTED = "interrupted"
KEY_VARIABLE = "SPEECH_API_KEY"
"""Of the environment, for a server that wants a key: no option, since a run keeps its command line."""


@dataclass(frozen=True, slots=True)
class Limit:
    """When a level has had enough; sessions that have begun are heard to their end."""

    seconds: float | None
    requests: int | None


@dataclass(frozen=True, slots=True)
class ClosedPhase:
    level: int
    limit: Limit


@dataclass(frozen=True, slots=True)
class OpenPhase:
    label: str
    arrivals: tuple[Arrival, ...]


class Client:
    """Every request becomes a record, in the order they end."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, target: Target, on_record: Callable[[Record], None] | None = None
    ) -> None:
        self.records: list[Record] = []
        self._http = http
        self._url = url.rstrip("/")
        self._target = target
        self._on_record = on_record or (lambda record: None)
        self._began = time.perf_counter()
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Requests beyond it wait, which shows as lateness of sending, rather than as errors of the server's.
        self._connections = asyncio.Semaphore(max(1, files - _FILES_FOR_OTHERS))

    def now(self) -> float:
        """Seconds into the run."""
        return time.perf_counter() - self._began

    async def warm_up(self, sessions: Iterator[Session], requests: int, level: float) -> bool:
        """One after the other. False where the first found no server, or one that does not answer with audio."""
        first = len(self.records)
        while len(self.records) < first + requests:
            await self._play(next(sessions), level, self.now(), warm_up=True)
            if self.records[first].error in (UNREACHABLE, WRONG_TYPE):
                return False
        return True

    async def closed(self, sessions: Iterator[Session], phase: ClosedPhase) -> None:
        began, asked = self.now(), 0

        async def listen() -> None:
            nonlocal asked
            while not _is_over(phase.limit, self.now() - began, asked):
                session = next(sessions)
                asked += len(session.requests)
                if not await self._play(session, phase.level, self.now()):
                    await asyncio.sleep(_PAUSE_AFTER_ERROR_SECONDS)

        async with asyncio.TaskGroup() as listeners:
            for _ in range(phase.level):
                listeners.create_task(listen())

    async def open(self, sessions: Iterator[Session], phase: OpenPhase) -> None:
        began = self.now()
        async with asyncio.TaskGroup() as listeners:
            for arrival in phase.arrivals:
                due = began + arrival.at
                await asyncio.sleep(max(0.0, due - self.now()))
                listeners.create_task(self._play(next(sessions), arrival.level, due))

    async def _play(self, session: Session, level: float, due_at: float, warm_up: bool = False) -> bool:
        """Each turn with what was heard so far. An error ends the session: what should have been heard is missing."""
        heard: list[Clip] = []
        for number in range(len(session.requests)):
            item = session.item(number, heard)
            answer = await self._request(item, level, due_at, warm_up)
            if answer.error is not None:
                return False
            if number + 1 < len(session.requests):
                heard.append(_clip(item, answer))
            due_at = self.now()
        return True

    async def _request(self, item: Item, level: float, due_at: float, warm_up: bool) -> Answer:
        answer = Answer()
        sent_at = due_at
        try:
            async with self._connections:
                ask, audio = self._target.ask(item), self._target.audio()
                sent_at = self.now()
                await send(self._http, self._url, ask, audio, answer)
        except asyncio.CancelledError:
            answer.error, answer.detail = INTERRUPTED, "the run was interrupted"
            raise
        finally:
            self._keep(_record(item, answer, level, warm_up, due_at, sent_at))
        return answer

    def _keep(self, record: Record) -> None:
        self.records.append(record)
        self._on_record(record)


def open_http(timeout_seconds: float) -> aiohttp.ClientSession:
    """A connection a request: a kept one that the server is just closing would count as an error of its own."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=min(_CONNECT_SECONDS, timeout_seconds))
    key = os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)


def _is_over(limit: Limit, seconds: float, requests: int) -> bool:
    return (limit.seconds is not None and seconds >= limit.seconds) or (
        limit.requests is not None and requests >= limit.requests
    )


def _record(item: Item, answer: Answer, level: float, warm_up: bool, due_at: float, sent_at: float) -> Record:
    return Record(
        request_id=uuid.uuid4().hex,
        scenario=item.scenario,
        level=level,
        warm_up=warm_up,
        due_at=round(due_at, 6),
        sent_at=round(sent_at, 6),
        status=answer.status,
        error=answer.error,
        text_chars=item.text_chars,
        chunks=tuple(answer.chunks),
        ended_after=answer.ended_after,
        turn=item.number,
        context_seconds=round(sum(clip.seconds for clip in item.context), 3),
        detail=answer.detail,
    )


def _clip(item: Item, answer: Answer) -> Clip:
    [turn] = item.turns
    seconds = sum(chunk.audio_seconds for chunk in answer.chunks)
    return Clip(turn.text, turn.speaker, wav_file(answer.pcm, answer.rate_hz), seconds)
