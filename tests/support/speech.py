"""The speech service over fakes of the graph."""

from typing import Any, cast

from serve_app.adapters.registry import AdapterRegistry
from serve_app.errors import DownloadFailed
from serve_app.keys.limits import Allowance
from serve_app.ports import AudioDecoder, ContextEncoder
from serve_app.settings import Settings
from serve_app.speech.context_audio import ContextAudio, Fetcher
from serve_app.speech.files import SpeechFiles
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.service import SpeechService
from serve_app.store.files import FileStore
from tests.support.fakes import FakeDecoder, FakeEncoder


class NoNetwork:
    """A `Fetcher` that finds nothing."""

    def check_url(self, field: str, url: str) -> None: ...

    async def fetch(self, field: str, url: str, *, owner: str = "") -> bytes:
        raise DownloadFailed(field, "nothing there")


def speech_service(  # noqa: PLR0913 - all of them are optional
    decoder: AudioDecoder | None = None,
    encoder: ContextEncoder | None = None,
    settings: Settings | None = None,
    allowance: Allowance | None = None,
    files: FileStore | None = None,
    net: Fetcher | None = None,
    secret: bytes = b"secret",
    context_charge: float = 0.0,
    adapters: AdapterRegistry | None = None,
) -> SpeechService:
    """Without `files` for answers that leave no file, and whose context comes from none."""
    speech_files = SpeechFiles(files or cast(Any, None), secret)
    return SpeechService(
        SpeechPipeline(encoder or FakeEncoder(), decoder or FakeDecoder()),
        ContextAudio(speech_files, net or NoNetwork(), settings or Settings()),
        speech_files,
        allowance or Allowance(),
        context_charge,
        adapters=adapters,
    )
