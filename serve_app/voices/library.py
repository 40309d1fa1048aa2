"""Keeps voices for all replicas: their rows in the database, their sound and codes as files of the store.

A voice's row is read at each use, so a voice that was removed on one replica is not spoken by another. Codes never
change, so they are cached.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serve_app.audio.read import read_recording
from serve_app.errors import InvalidRequest, UnknownFile, UnknownVoice
from serve_app.messages import SAMPLE_RATE_HZ, Codes, ContextSegment
from serve_app.ports import ContextEncoder
from serve_app.settings import VoiceSettings
from serve_app.store.database import Clock, Database
from serve_app.store.files import FileStore
from serve_app.voices.arrays import codes_file, codes_of, sound_file, sound_of
from serve_app.voices.intake import TakenClip, take_in
from serve_app.voices.records import VoiceRecords
from serve_app.voices.voice import NewVoice, Voice, VoiceClip, checked_consent, checked_name, new_voice_id

_MAX_FILE_BYTES = 64 * 1024 * 1024
_UNFINISHED_SECONDS = 3600.0
"""How long files of a voice are kept whose process died before it was added."""
_CACHED_VOICES = 256
_MOST_SILENCE = 1.5
_READERS = ThreadPoolExecutor(16, "voice-reader")
"""Apart from those of requests, which have a listener."""


class VoiceLibrary:
    """Voices by owner, the id of a key. All methods may raise StorageFailed."""

    def __init__(
        self,
        database: Database,
        files: FileStore,
        encoder: ContextEncoder,
        settings: VoiceSettings,
        clock: Clock | None = None,
    ) -> None:
        self._records = VoiceRecords(database, clock)
        self._files = files
        self._encoder = encoder
        self._settings = settings
        self._codec: str | None = None
        self._codes: OrderedDict[tuple[str, str], list[Codes]] = OrderedDict()

    async def find(self, name_or_id: str, owner: str) -> Voice:
        """Raises UnknownVoice."""
        return await self._records.find(name_or_id, owner)

    async def all(self, owner: str) -> list[Voice]:
        """The owner's voices by name."""
        return await self._records.all(owner)

    async def add(self, new: NewVoice, owner: str) -> Voice:
        """Keep a voice. Nothing is kept if this raises.

        Raises InvalidRequest at `name`, `consent.statement`, `consent.by`, `clips` or `clips[N].text`, InvalidAudio at
        `clips[N].audio`, VoiceNameTaken, QuotaExceeded, and Overloaded where too many clips wait to be decoded.
        """
        name, consent = checked_name(new.name), checked_consent(new.consent)
        self._check_clips(new.clips)
        await self._records.check_room(name, owner, self._settings.max_per_key)
        clips = [await self._taken(number, clip, owner) for number, clip in enumerate(new.clips)]
        self.check_length([len(clip.pcm) for clip in clips])
        report = {"clips": [clip.report for clip in clips]}
        texts = tuple(clip.text for clip in clips)
        voice = Voice(new_voice_id(), owner, name, texts, consent, 0.0, 0.0, report, new.adapter)
        return await self.keep(voice, [clip.pcm for clip in clips])

    async def keep(self, voice: Voice, clips: Sequence[bytes]) -> Voice:
        """Keep a voice of `clips` as they are: signed 16 bit mono PCM at 24 kHz. Raises as `add` for name and quota."""
        await self._records.check_room(voice.name, voice.owner, self._settings.max_per_key)
        codec, codes = await self._codec_name(), [await self._encoder.encode(clip, voice.owner) for clip in clips]
        source = await self._store(sound_file(clips), voice.owner)
        encoded = await self._store(codes_file(codes), voice.owner)
        return await self._records.add(voice, source, {codec: encoded}, self._settings.max_per_key)

    def check_length(self, clip_bytes: Sequence[int]) -> None:
        """Raises InvalidRequest at `clips` if they are too long together."""
        seconds, most = sum(clip_bytes) / (2 * SAMPLE_RATE_HZ), self._settings.max_seconds
        if seconds > most + len(clip_bytes):
            raise InvalidRequest("clips", f"have {seconds:.0f} s together, at most {most:g} s are allowed: send fewer")

    async def remove(self, name_or_id: str, owner: str) -> None:
        """Forget a voice, its recordings and its consent. Raises UnknownVoice."""
        await self._records.remove(name_or_id, owner)

    async def note(self, voice: Voice, **findings: Any) -> Voice:
        """The voice with `findings` in its report. Raises UnknownVoice if it was removed."""
        return await self._records.note(voice.id, voice.owner, findings)

    async def sound(self, voice: Voice) -> list[bytes]:
        """Its clips as they are kept: signed 16 bit mono PCM at 24 kHz. Raises UnknownVoice."""
        source = await self._records.source_file(voice.id, voice.owner)
        try:
            return sound_of(await self._files.read_all(source, _MAX_FILE_BYTES))
        except UnknownFile:
            raise UnknownVoice(voice.id) from None

    async def segments(self, voice_id: str, owner: str, speaker: int) -> tuple[ContextSegment, ...]:
        """The voice as context of a prompt, spoken by `speaker`. Raises UnknownVoice."""
        voice = await self._records.find(voice_id, owner)
        codes = await self._codes_of(voice)
        return tuple(
            ContextSegment(text, speaker, clip, anchor=True)
            for text, clip in zip(voice.transcripts, codes, strict=True)
        )

    async def _codes_of(self, voice: Voice) -> Sequence[Codes]:
        codec = await self._codec_name()
        cached = (voice.id, codec)
        if cached not in self._codes:
            self._codes[cached] = await self._loaded(voice, codec)
        self._codes.move_to_end(cached)
        while len(self._codes) > _CACHED_VOICES:
            self._codes.popitem(last=False)
        return self._codes[cached]

    async def _loaded(self, voice: Voice, codec: str) -> list[Codes]:
        """The codes of this codec, encoded anew where the voice was kept with another one."""
        file = await self._records.codes_file(voice.id, codec)
        if file is not None:
            try:
                return codes_of(await self._files.read_all(file, _MAX_FILE_BYTES))
            except UnknownFile:
                raise UnknownVoice(voice.id) from None
        codes = [await self._encoder.encode(clip, voice.owner) for clip in await self.sound(voice)]
        file = await self._store(codes_file(codes), voice.owner)
        await self._records.add_codes(voice.id, voice.owner, codec, file)
        return codes

    async def _codec_name(self) -> str:
        """Asked once, since a checkpoint does not change while the graph runs."""
        if self._codec is None:
            self._codec = await self._encoder.codec()
        return self._codec

    def _check_clips(self, clips: Sequence[VoiceClip]) -> None:
        if not 1 <= len(clips) <= self._settings.max_clips:
            raise InvalidRequest("clips", f"has {len(clips)} clips: send from 1 to {self._settings.max_clips}")
        for number, clip in enumerate(clips):
            if not clip.text.strip():
                raise InvalidRequest(f"clips[{number}].text", "is missing: send the words spoken in this clip")

    async def _taken(self, number: int, clip: VoiceClip, owner: str) -> TakenClip:
        return await asyncio.get_running_loop().run_in_executor(_READERS, self._take, number, clip, owner)

    def _take(self, number: int, clip: VoiceClip, owner: str) -> TakenClip:
        # The recording may be longer than its speech, by the silence around it.
        field, longest = f"clips[{number}].audio", _MOST_SILENCE * self._settings.max_seconds
        return take_in(number, clip.text.strip(), read_recording(field, clip.data, longest, owner), self._settings)

    async def _store(self, data: bytes, owner: str) -> str:
        file = await self._files.put(
            data,
            name="voice.safetensors",
            content_type="application/octet-stream",
            owner=owner,
            seconds=_UNFINISHED_SECONDS,
        )
        return file.id
