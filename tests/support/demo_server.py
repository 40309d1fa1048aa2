"""A whole server in this process that speaks with a real engine and codec: real HTTP and WebSockets, no Ray."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from serve_app.align.sphinx import SphinxAligner
from serve_app.api.app import build_api
from serve_app.codec.decoder_service import DecoderService
from serve_app.codec.encoder_service import EncoderService
from serve_app.conversations.tables import CONVERSATIONS
from serve_app.deployments.services import open_services
from serve_app.engine.service import TokenService
from serve_app.keys.keys import Keys
from serve_app.keys.limits import Allowance
from serve_app.messages import WordTime
from serve_app.settings import Settings
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.store.database import Database
from tests.support.contract_server import Loop, in_thread


class InThreads:
    """A `ports.WordAligner`, as the deployment is one."""

    def __init__(self, aligner: SphinxAligner) -> None:
        self._aligner = aligner

    async def align(self, pcm: bytes, text: str) -> list[WordTime]:
        return await asyncio.to_thread(self._aligner.align, pcm, text)


@dataclass(frozen=True)
class DemoServer:
    """`urls`: two ingresses over one database, engine and codec."""

    urls: tuple[str, str]
    tokens: TokenService
    decoder: DecoderService
    database: Database
    settings: Settings
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return self.urls[0]

    def run(self, work: Any) -> Any:
        """The result of a coroutine on the loop of the engine's services."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def num_taken(self) -> int:
        """Conversations whose next turn is reserved."""
        with self.database.reading() as connection:
            taken = select(func.count()).select_from(CONVERSATIONS).where(CONVERSATIONS.c.taken_by.is_not(None))
            return connection.scalar(taken) or 0

    def num_running(self) -> int:
        """Sequences in the engine and streams of the decoder."""
        stats = self.run(self.tokens.stats())
        return stats.running + stats.waiting + self.run(self.decoder.num_streams())


@contextmanager
def demo_server(folder: Path, *, needs_keys: bool = False, **sections: Any) -> Iterator[DemoServer]:
    """Until the block ends. `sections` are those of the settings; the model is the demo voice by default."""
    settings = Settings(data_dir=folder, **{"model": "demo", **sections})
    database = Database.open(settings.database_url)
    keys = Keys(database, settings.keys) if needs_keys else None
    made: dict[str, Any] = {}

    def build() -> tuple[Any, list[Loop]]:
        if not made:
            made["loop"] = asyncio.get_running_loop()
            made["tokens"] = TokenService.load(settings)
            made["encoder"] = EncoderService.load(settings)
            made["aligner"] = SphinxAligner()
            made["decoder"] = DecoderService.load(settings, made["tokens"])
        pipeline = SpeechPipeline(made["encoder"], made["decoder"])
        services = open_services(settings, database, pipeline, Allowance(database), InThreads(made["aligner"]))
        made["app"] = build_api(services.speech, settings, keys=keys, services=services)
        return made["app"], []

    def both(app: Any) -> Any:
        """The second ingress is the same code over other objects. It stands under another root path."""
        second, _ = build()

        async def route(scope: Any, receive: Any, send: Any) -> None:
            prefix = "/second"
            if scope["type"] in ("http", "websocket") and scope["path"].startswith(prefix):
                scope = {**scope, "path": scope["path"].removeprefix(prefix), "raw_path": b""}
                await second(scope, receive, send)
            else:
                await app(scope, receive, send)

        return route

    with in_thread(lambda: (both(build()[0]), []), {}, start_seconds=300) as url:
        yield DemoServer((url, f"{url}/second"), made["tokens"], made["decoder"], database, settings, made["loop"])
        for part in ("decoder", "encoder", "tokens"):
            made[part].stop()
    database.close()
