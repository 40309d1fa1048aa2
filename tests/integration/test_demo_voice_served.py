"""The demo voice over HTTP, streamed, eight at once, while replicas are killed: every listener hears the sentence."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from serve_app.settings import EngineSettings, Settings
from tests.listener import Listener
from tests.support.ray_server import Server
from tests.support.stand_in_graph import replica_processes, running, until_running
from tests.support.system_packages import need
from training.texts import read_lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SENTENCES = read_lines("sentences.txt")
AT_ONCE = 8


async def speak(client: httpx.AsyncClient, server: Server, text: str, voice: int) -> bytes:
    body = {"text": text, "speaker": voice, "streaming": True}
    async with client.stream("POST", f"{server.url}/generate", json=body, timeout=120) as response:
        assert response.status_code == 200
        return (await response.aread())[44:]


async def speak_all(server: Server, texts: Sequence[str], voice: int, kill: str = "") -> list[bytes]:
    """Every text, `AT_ONCE` at a time; with `kill`, a replica of it is killed after each ten of them."""
    gate, done = asyncio.Semaphore(AT_ONCE), 0
    async with httpx.AsyncClient() as client:

        async def one(text: str) -> bytes:
            nonlocal done
            async with gate:
                sound = await speak(client, server, text, voice)
            done += 1
            if kill and done % 10 == 0 and len(replicas := replica_processes(kill)) > 1:
                replicas[0].send_signal(signal.SIGKILL)
            return sound

        return await asyncio.gather(*map(one, texts))


def misheard(texts: Sequence[str], voice: int, sounds: Sequence[bytes]) -> dict[str, str]:
    listener = Listener(texts, voice)
    heard = [listener.hears(sound) for sound in sounds]
    return {text: other for text, other in zip(texts, heard, strict=True) if other != text}


async def test_fifty_sentences_streamed_and_through_failovers(tmp_path: Path) -> None:
    need("espeak-ng")
    settings = Settings(model="demo", data_dir=tmp_path, engine=EngineSettings(max_batch_size=8, threads=1))
    with running(settings, num_replicas=2) as server:
        for voice, kill in ((0, ""), (1, ""), (0, "TokenGenerator"), (1, "AudioDecoder")):
            for kind in ("TokenGenerator", "AudioDecoder"):
                await until_running(kind, 2)
            sounds = await speak_all(server, SENTENCES, voice, kill)
            assert len(wrong := misheard(SENTENCES, voice, sounds)) <= 0.05 * len(SENTENCES), (kill, wrong)
