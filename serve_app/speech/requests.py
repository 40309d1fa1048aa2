"""Makes a scene and its caller into the request that the pipeline speaks: voices, adapters, recordings, and a seed."""

import hashlib
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import replace

from serve_app.adapters.registry import AdapterRegistry
from serve_app.errors import InvalidRequest, UnknownAdapter
from serve_app.keys.key import ANONYMOUS, Key
from serve_app.messages import AdapterRef, ContextSegment
from serve_app.speech.call import Before, Call
from serve_app.speech.casting import Casting
from serve_app.speech.context_audio import ContextAudio
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import SpeechRequest
from serve_app.speech.scene import Scene
from serve_app.speech.speaker_voices import SpeakerVoices

_SEED_BITS = 53
"""JavaScript's numbers are exact up to here, so a client can send a seed back as it read it."""


def owner_of(key: Key) -> str:
    """Without keys all callers are one."""
    return "" if key == ANONYMOUS else key.id


class Requests:
    """Of one model."""

    def __init__(
        self,
        pipeline: SpeechPipeline,
        context: ContextAudio,
        casting: Casting,
        speakers: SpeakerVoices | None,
        adapters: AdapterRegistry | None,
    ) -> None:
        self._pipeline = pipeline
        self._context = context
        self._casting = casting
        self._speakers = speakers
        self._adapters = adapters

    async def made(self, scene: Scene, call: Call, before: Before) -> tuple[SpeechRequest, tuple[str, ...]]:
        """The request, and notices about its context's recordings."""
        owner = owner_of(call.key)
        context, notices = await self._context.clips(scene.context, owner)
        request = SpeechRequest(
            request_id=call.request_id,
            turns=scene.turns,
            context=context,
            history=before.history,
            sampling=replace(scene.sampling, seed=_seed(scene, call)),
            max_audio_seconds=scene.max_audio_seconds,
            is_streamed=call.is_streamed,
            speed=call.speed,
            is_lossy=call.is_lossy,
            priority=call.priority,
            arrived_at=call.arrived_at,
            trace=call.trace,
            adapters=await self.adapters_of(scene),
            part_draws=scene.part_draws,
            voices=await self._voices_of(scene, call.key, before),
            frames_before=before.broken_off.num_frames if before.broken_off else 0,
            owner=owner,
        )
        return request, notices

    async def reading(self, scene: Scene, before: Before, key: Key) -> SpeechRequest:
        """What `scene`, one turn without words, goes on from."""
        return SpeechRequest(
            request_id=uuid.uuid4().hex,
            turns=scene.turns,
            context=(),
            sampling=scene.sampling,
            max_audio_seconds=scene.max_audio_seconds,
            voices=await self._voices_of(scene, key, before),
            history=before.history,
            adapters=await self.adapters_of(scene),
            owner=owner_of(key),
        )

    async def find_adapter(self, name: str) -> AdapterRef:
        """Raises InvalidRequest where there is no such adapter."""
        try:
            if self._adapters is None:
                raise UnknownAdapter(name)
            return await self._adapters.find(name)
        except UnknownAdapter:
            raise InvalidRequest("adapter", "names none of this server's: GET /adapters lists them") from None

    async def adapters_of(self, scene: Scene) -> dict[str, AdapterRef]:
        """Those that its turns name. Raises InvalidRequest where there is no such adapter."""
        names = {turn.adapter for turn in scene.turns if turn.adapter is not None}
        return {name: await self.find_adapter(name) for name in sorted(names)}

    async def _voices_of(self, scene: Scene, key: Key, before: Before) -> tuple[ContextSegment, ...]:
        """By speaker, so that the same speakers have the same beginning of their prompts."""
        cast = await self._casting.segments(scene, key.id)
        named = {voice.speaker for voice in cast}
        before_given = [known for known in before.given if known.speaker not in named]
        had = {known.speaker for known in before_given}
        added: tuple[ContextSegment, ...] = ()
        if self._speakers is not None:
            given = had | {known.speaker for known in (*cast, *scene.context)}
            alone = {turn.speaker for turn in scene.turns if turn.adapter is None}  # An adapter is a voice.
            added = await self._speakers.segments(alone - given)
        known = await self._known_as_public(before_given)
        return (*known, *sorted((*cast, *added), key=lambda segment: segment.speaker))

    async def _known_as_public(self, given: Sequence[ContextSegment]) -> list[ContextSegment]:
        """What a conversation has kept, with the server's own voices marked as such again."""
        own = [*(await self._pipeline.default_voices()).values(), *(self._speakers.known if self._speakers else ())]
        known = {(voice.text, voice.codes) for voice in own}
        return [replace(segment, public=(segment.text, segment.codes) in known) for segment in given]


def _seed(scene: Scene, call: Call) -> int:
    """The caller's seed, or a new one. For background work it follows from the id, so that a second run repeats it."""
    if scene.seed is not None:
        return scene.seed
    if call.priority > 0:
        digest = hashlib.blake2b(call.request_id.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") & (2**_SEED_BITS - 1)
    return secrets.randbits(_SEED_BITS)
