"""One request, and what became of it: every way to fail has a name, and no failure looks like an answer."""

import json
import time
from dataclasses import dataclass, field

import aiohttp

from benchmarks.common.records import Chunk
from benchmarks.load.targets import Ask
from benchmarks.load.wire_audio import NotWav, WireAudio

_DETAIL_CHARS = 200
_AUDIO_TYPES = ("audio/", "application/octet-stream")
UNREACHABLE = "connect"
WRONG_TYPE = "wrong_type"


@dataclass(slots=True)
class Answer:
    """Times are seconds after sending. A connection of its own is part of every request."""

    status: int | None = None
    error: str | None = None
    """refused (429), http_STATUS, connect, disconnected, timeout, cut_off, wrong_type, no_audio, or None."""
    detail: str = ""
    """What the server or the network said of the error."""
    chunks: list[Chunk] = field(default_factory=list)
    pcm: bytes = b""
    rate_hz: int = 0
    ended_after: float = 0.0


class _Hearing:
    """Gathers an answer's audio. Reads of one HTTP chunk are one chunk, which arrived with its first byte of audio:
    an answer that is not sent in HTTP chunks came whole, and is a single chunk however many reads it took."""

    def __init__(self, audio: WireAudio, sent: float) -> None:
        self._audio = audio
        self._sent = sent
        self._parts: list[tuple[float, bytearray]] = []
        self._continues = False

    def hear(self, data: bytes, chunk_ends: bool) -> None:
        heard = self._audio.feed(data)
        if heard and self._continues:
            self._parts[-1][1].extend(heard)
        elif heard:
            self._parts.append((time.perf_counter() - self._sent, bytearray(heard)))
            self._continues = True
        if chunk_ends:
            self._continues = False

    def fill(self, answer: Answer) -> None:
        # Where the header never came whole, there are no parts either.
        rate = self._audio.bytes_per_second
        answer.chunks = [Chunk(round(at, 6), round(len(part) / rate, 6)) for at, part in self._parts]
        answer.pcm = b"".join(part for _, part in self._parts)
        answer.rate_hz = rate // 2
        if answer.error is None and not answer.chunks:
            answer.error, answer.detail = "no_audio", "the answer ended before any audio"
        elif answer.error is None and self._audio.missing_bytes:
            answer.error, answer.detail = "cut_off", f"{self._audio.missing_bytes} bytes fewer than its header said"


async def send(http: aiohttp.ClientSession, url: str, ask: Ask, audio: WireAudio, answer: Answer) -> None:
    """Fills `answer` as far as it gets, also when it is cancelled."""
    sent = time.perf_counter()
    hearing = _Hearing(audio, sent)
    try:
        await _exchange(http, url + ask.path, ask, hearing, answer)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        answer.error, answer.detail = UNREACHABLE, str(error)[:_DETAIL_CHARS]
    except TimeoutError:
        answer.error, answer.detail = "timeout", f"no end after {time.perf_counter() - sent:.1f} s"
    except aiohttp.ClientError as error:
        answer.error = "disconnected" if answer.status is None else "cut_off"
        answer.detail = str(error)[:_DETAIL_CHARS]
    except NotWav as error:
        answer.error, answer.detail = WRONG_TYPE, f"the answer is no WAV: it {error}"
    finally:
        answer.ended_after = round(time.perf_counter() - sent, 6)
        hearing.fill(answer)


async def _exchange(http: aiohttp.ClientSession, url: str, ask: Ask, hearing: _Hearing, answer: Answer) -> None:
    async with http.post(url, **ask.body) as response:
        answer.status = response.status
        if response.status != 200:
            answer.error = "refused" if response.status == 429 else f"http_{response.status}"
            answer.detail = await _said(response)
        elif not response.content_type.startswith(_AUDIO_TYPES):
            answer.error = WRONG_TYPE
            answer.detail = f"{response.content_type} where audio was expected: {await _said(response)}"
        else:
            async for data, chunk_ends in response.content.iter_chunks():
                hearing.hear(data, chunk_ends)


async def _said(response: aiohttp.ClientResponse) -> str:
    text = (await response.content.read(4096)).decode(errors="replace")
    try:
        values = json.loads(text)
    except ValueError:
        return text[:_DETAIL_CHARS]
    detail = values.get("detail", values) if isinstance(values, dict) else values
    return str(detail)[:_DETAIL_CHARS]
