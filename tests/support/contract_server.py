"""A whole server in this process, its engine a fake: real HTTP, real queue, files, keys and webhooks on SQLite."""

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import update

from serve_app.api.app import build_api
from serve_app.deployments.services import Applications, job_work, open_services
from serve_app.errors import GenerationFailed, Overloaded
from serve_app.jobs.runner import JobRunner
from serve_app.jobs.transitions import JobLeases
from serve_app.jobs.webhooks import Outbox, WebhookSender
from serve_app.keys.keys import Keys
from serve_app.keys.limits import Allowance
from serve_app.messages import Accepted, AdapterRef, AudioChunk, Codes, FinishReason, GenerationRequest, ModelInfo
from serve_app.settings import Settings
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.store.database import Database
from serve_app.store.tables import FILES
from tests.support.fakes import NUM_CODEBOOKS, FakeEncoder, frames_of, pcm_of

INFO = ModelInfo("fake", "trained", NUM_CODEBOOKS, 2048, 2048, "cpu", "float32", 8)


class TalkingDecoder:
    """Speaks a frame for each word, and obeys the words `stayqueued`, `waitforever` and `breakdown` of a text."""

    def __init__(self) -> None:
        self.requests: list[GenerationRequest] = []
        self.num_open = 0
        self.refusals_left = 0
        self.go_on = threading.Event()
        """Ends what `waitforever` waits for."""

    async def info(self) -> ModelInfo:
        return INFO

    async def decode(self, codes: Codes) -> bytes:
        return pcm_of(int(codes.to_array()[0, 0]), codes.num_frames) if codes.num_frames else b""

    async def check_adapter(self, ref: AdapterRef) -> None:
        return None

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        self.requests.append(request)
        if self.refusals_left > 0:
            self.refusals_left -= 1
            raise Overloaded("every slot is taken", 1)
        self.num_open += 1
        try:
            if "stayqueued" in request.text:
                await asyncio.sleep(600)
            yield Accepted(request.request_id, request.sampling.seed, "fake", 0.0, 10)
            num_frames = min(len(request.text.split()), request.sampling.max_frames)
            for frame in range(num_frames):
                yield AudioChunk(frame, pcm_of(request.speaker + 1), frames_of(request.speaker + 1, 1))
            await self._obey(request.text)
            yield AudioChunk(num_frames, b"", frames_of(0, 0), FinishReason.EOS)
        finally:
            self.num_open -= 1

    async def _obey(self, text: str) -> None:
        if "breakdown" in text:
            await asyncio.sleep(0.3)  # A browser drops what it has not read when a stream breaks.
            raise GenerationFailed("the engine broke")
        while "waitforever" in text and not self.go_on.is_set():
            await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Server:
    url: str
    decoder: TalkingDecoder
    encoder: FakeEncoder
    database: Database
    settings: Settings
    keys: Keys
    others: Mapping[str, TalkingDecoder]
    """The decoders of other applications, by name."""

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    def expire(self, url: str) -> None:
        """Lets the time of the file at `url` be over."""
        with self.database.writing() as connection:
            connection.execute(update(FILES).where(FILES.c.id == url.split("/")[-2]).values(expires_at=0))


@contextmanager
def serving(
    folder: Path, *, needs_keys: bool = False, ssl: dict[str, str] | None = None, port: int = 0, **sections: Any
) -> Iterator[Server]:
    """Until the block ends. `sections` are those of the settings. `port` 0 is a free one."""
    application = "csm"
    # Otherwise the first request of a speaker would be preceded by one of the server's own.
    voices = {"fixed_speakers": False} | sections.pop("voices", {})
    settings = Settings(data_dir=folder, voices=voices, **sections)
    database = Database.open(settings.database_url)
    decoder, encoder, keys = TalkingDecoder(), FakeEncoder(), Keys(database, settings.keys)
    others = {name: TalkingDecoder() for name in settings.other_models}

    def build() -> tuple[Any, list[Loop]]:
        pipelines = {application: SpeechPipeline(encoder, decoder)}
        pipelines |= {name: SpeechPipeline(encoder, other) for name, other in others.items()}
        ours = Applications(application, {name: pipelines[name] for name in others})
        services = open_services(settings, database, pipelines[application], Allowance(database), None, ours)
        checked = keys if needs_keys else None
        app = build_api(services.speech, settings, keys=checked, services=services)
        outbox = Outbox(database, settings.webhooks)
        sender = WebhookSender(outbox, services.net, services.webhook_format, settings.webhooks)
        return app, [sender.run, *(runner_of(name, pipeline, checked) for name, pipeline in pipelines.items())]

    def runner_of(name: str, pipeline: SpeechPipeline, checked: Keys | None) -> Loop:
        own = open_services(settings, database, pipeline, Allowance(database))
        leases = JobLeases(database, settings.jobs, own.webhook_format, application=name)
        return JobRunner(leases, job_work(own, checked, settings.jobs), settings.jobs, name).run

    with in_thread(build, ssl or {}, port) as url:
        yield Server(url, decoder, encoder, database, settings, keys, others)
    database.close()


Loop = Callable[[], Coroutine[Any, Any, None]]


@contextmanager
def in_thread(
    build: Callable[[], tuple[Any, list[Loop]]], ssl: dict[str, str], port: int = 0, start_seconds: float = 30
) -> Iterator[str]:
    """Serve what `build` makes, and run its loops beside it, in an event loop of their own."""
    # By its protocol asyncio knows that it need not wait for more to send.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # As servers do: connections of one that has just ended do not count.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        app, loops = build()
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", **ssl))
        serving = asyncio.create_task(server.serve([listener]))
        others = [asyncio.create_task(loop()) for loop in loops]
        while not stop.is_set() and not any(task.done() for task in (serving, *others)):
            if server.started:
                started.set()
            await asyncio.sleep(0.02)
        server.should_exit = server.force_exit = True
        for task in others:
            task.cancel()
        await asyncio.wait((serving, *others))

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(start_seconds), "the server did not start"
    try:
        yield f"{'https' if ssl else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        thread.join(30)
