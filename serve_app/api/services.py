"""The services behind the routes of jobs and files, opened once per process."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from serve_app.api.models import Models
from serve_app.jobs.batches import JobBatches
from serve_app.jobs.queue import JobQueue
from serve_app.jobs.webhooks import WebhookFormat
from serve_app.speech.audition import Auditions
from serve_app.speech.context_audio import Fetcher
from serve_app.speech.service import SpeechService
from serve_app.speech.talk import Talk
from serve_app.store.files import FileStore
from serve_app.store.signing import Tokens, UrlSigner
from serve_app.voices.library import VoiceLibrary
from serve_app.voices.packs import VoicePacks


@dataclass(frozen=True, slots=True)
class KeptVoices:
    library: VoiceLibrary
    auditions: Auditions
    packs: VoicePacks


@dataclass(frozen=True, slots=True)
class Services:
    models: Models
    queue: JobQueue
    batches: JobBatches
    files: FileStore
    voices: KeptVoices
    net: Fetcher
    urls: UrlSigner
    tokens: Tokens
    webhook_format: WebhookFormat
    talk: Talk
    jwks: Callable[[], dict[str, Any]]
    """The public keys that webhooks are signed with, as a JSON Web Key Set."""

    @property
    def speech(self) -> SpeechService:
        return self.models.own.speech
