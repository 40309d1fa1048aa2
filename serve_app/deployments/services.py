"""Opens what ingress and job runner share: the speech pipeline over deployment handles, jobs and files.

This is the one place that injects fal's dialect.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from ray.serve.handle import DeploymentHandle

from serve_app.adapters.registry import AdapterRegistry
from serve_app.api.fal.webhook import FalWebhookFormat
from serve_app.api.job_work import SceneWork
from serve_app.api.models import Model, Models
from serve_app.api.services import KeptVoices, Services
from serve_app.audio.watermark.mark import open_watermark
from serve_app.conversations.conversations import Conversations
from serve_app.conversations.portable import PortableStates
from serve_app.deployments.handles import DecoderHandle, EncoderHandle
from serve_app.jobs.batches import JobBatches
from serve_app.jobs.queue import JobQueue
from serve_app.jobs.runner import Work
from serve_app.keys.keys import Keys
from serve_app.keys.limits import Allowance
from serve_app.metrics import Meter
from serve_app.net.ear import open_ear
from serve_app.net.guarded import GuardedClient
from serve_app.ports import WordAligner
from serve_app.records.records import Records
from serve_app.settings import JobSettings, Settings
from serve_app.speech.audition import Auditions
from serve_app.speech.context_audio import ContextAudio
from serve_app.speech.failover import ResumingDecoder, RetryingEncoder
from serve_app.speech.files import SpeechFiles
from serve_app.speech.kept_records import KeptRecords
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.service import SpeechService
from serve_app.speech.speaker_voices import SpeakerVoices
from serve_app.speech.talk import Talk
from serve_app.speech.watch import Watcher
from serve_app.store.database import Database
from serve_app.store.files import FileStore
from serve_app.store.object_store import Objects
from serve_app.store.secrets import Secrets
from serve_app.store.signing import Seals, Tokens, UrlSigner
from serve_app.voices.library import VoiceLibrary
from serve_app.voices.packs import VoicePacks

_SIGNING_SECRET = "signing"
_FILE_IDS_SECRET = "file-ids"


def speech_pipeline(
    encoder: DeploymentHandle, decoder: DeploymentHandle, settings: Settings, meter: Meter, watcher: Watcher
) -> SpeechPipeline:
    """The pipeline over these handles. It goes on with other replicas when those behind it die."""
    failover = settings.failover
    return SpeechPipeline(
        RetryingEncoder(EncoderHandle(encoder, failover), failover, meter),
        ResumingDecoder(DecoderHandle(decoder, failover, settings.graph == "fused"), failover, meter),
        watcher,
    )


@dataclass(frozen=True, slots=True)
class Applications:
    """This application's name in Serve, and the pipelines of others whose models requests may name."""

    own: str = ""
    others: Mapping[str, SpeechPipeline] = field(default_factory=dict[str, SpeechPipeline])


def open_services(
    settings: Settings,
    database: Database,
    pipeline: SpeechPipeline,
    allowance: Allowance,
    aligner: WordAligner | None = None,
    applications: Applications = Applications(),
) -> Services:
    """Jobs, files and what they need. Raises StartupError if a store cannot be used as configured."""
    own = Secrets(database)
    signing_secret, file_ids_secret = (
        own.get(name, lambda: secrets.token_bytes(32)) for name in (_SIGNING_SECRET, _FILE_IDS_SECRET)
    )
    webhook_format = FalWebhookFormat.open(own)
    files = FileStore(database, Objects.open(settings.files, settings.data_dir), settings.files)
    speech_files = SpeechFiles(files, file_ids_secret)
    net = GuardedClient(settings.net)
    context, watermark = ContextAudio(speech_files, net, settings), open_watermark(settings.watermark)
    ear = open_ear(settings.voices)

    def speech_of(pipeline: SpeechPipeline, adapters: Mapping[str, str]) -> SpeechService:
        speech = SpeechService(
            pipeline,
            context,
            speech_files,
            allowance,
            context_charge=settings.keys.context_charge,
            voices=VoiceLibrary(database, files, pipeline.encoder, settings.voices),
            adapters=AdapterRegistry(database, adapters),
            watermark=watermark,
            speakers=SpeakerVoices(pipeline, speech_files, settings) if settings.voices.fixed_speakers else None,
            ear=ear,
        )
        speech.records = KeptRecords(Records(database), pipeline.decoder, settings.records, aligner, watermark)
        return speech

    speech = speech_of(pipeline, settings.adapters)
    models = Models(
        Model(applications.own, speech),
        {name: Model(name, speech_of(other, {})) for name, other in applications.others.items()},
    )
    for other in models.others.values():
        other.speech.outcomes = speech.outcomes  # asked for by id, whichever model speaks
    library = speech.voices
    assert library is not None
    packs = VoicePacks(library, own, settings.voices)
    voices = KeptVoices(library, Auditions(speech, library, settings), packs)
    conversations = Conversations(database, settings.conversations)
    return Services(
        models=models,
        voices=voices,
        talk=Talk(speech, conversations, PortableStates(Seals(signing_secret))),
        queue=JobQueue(database, settings.shared_jobs, webhook_format),
        batches=JobBatches(database, settings.shared_jobs),
        files=files,
        net=net,
        urls=UrlSigner(signing_secret),
        tokens=Tokens(signing_secret),
        webhook_format=webhook_format,
        jwks=webhook_format.jwks,
    )


def job_work(services: Services, keys: Keys | None, settings: JobSettings) -> Work:
    """The work of queued jobs. Without `keys` every job runs as anonymous."""
    return SceneWork(services.speech, keys, settings.kept_seconds)
