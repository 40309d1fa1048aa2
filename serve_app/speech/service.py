"""Opens an answer for a scene and its caller, for every dialect."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing

from serve_app.adapters.registry import AdapterRegistry
from serve_app.audio.watermark.mark import Watermark
from serve_app.errors import StartTimeout, UnknownRequest, UnknownVoice
from serve_app.keys.key import ANONYMOUS, Key
from serve_app.keys.limits import Allowance, Taken
from serve_app.messages import (
    FRAME_RATE_HZ,
    SAMPLE_RATE_HZ,
    Accepted,
    AdapterRef,
    ContextSegment,
    ModelInfo,
)
from serve_app.ports import WordAligner
from serve_app.settings import Settings
from serve_app.speech.answer import Answer
from serve_app.speech.build import Asked, build_live_scene, build_scene
from serve_app.speech.call import NOTHING_BEFORE, Before, Call
from serve_app.speech.casting import Casting
from serve_app.speech.context_audio import ContextAudio
from serve_app.speech.costly import PREPARING
from serve_app.speech.files import SpeechFiles
from serve_app.speech.heard import note_opened
from serve_app.speech.kept_records import KeptRecords
from serve_app.speech.live.cutter import Schedule
from serve_app.speech.live.text import LiveText
from serve_app.speech.marking import marked
from serve_app.speech.outcomes import Outcome, RecentOutcomes, outcome_of
from serve_app.speech.parts import Part
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.recorder import Recorder
from serve_app.speech.requests import Requests, owner_of
from serve_app.speech.scene import ContextSource, Scene
from serve_app.speech.score import Ear
from serve_app.speech.speaker_voices import SpeakerVoices
from serve_app.speech.takes import Takes
from serve_app.speech.text.duration import frame_cap
from serve_app.store.stored_file import StoredFile
from serve_app.voices.library import VoiceLibrary
from serve_app.voices.voice import Voice

_MAX_INLINE_CHARS = 4000
"""Text that is prepared on the event loop, in a few milliseconds."""


class SpeechService:
    """Opens answers: charges the key, fetches the context, and waits for admission."""

    def __init__(  # noqa: PLR0913 - what an answer is made of
        self,
        pipeline: SpeechPipeline,
        context: ContextAudio,
        files: SpeechFiles,
        allowance: Allowance,
        context_charge: float = 0.0,
        voices: VoiceLibrary | None = None,
        speakers: SpeakerVoices | None = None,
        watermark: Watermark | None = None,
        adapters: AdapterRegistry | None = None,
        ear: Ear | None = None,
    ) -> None:
        """context_charge: seconds of audio that a key is charged for each second of context.

        speakers: None leaves to chance how a speaker sounds to whom nobody gives a voice.

        ear: checks the words of takes.
        """
        self.voices = voices
        self.records: KeptRecords | None = None
        """Without them no answer can be had again."""
        self.adapters = adapters
        self._casting = Casting(voices)
        self._speakers = speakers
        self._requests = Requests(pipeline, context, self._casting, speakers, adapters)
        self.watermark = watermark
        self.ear = ear
        self.context = context
        self.outcomes = RecentOutcomes()
        self._pipeline = pipeline
        self._files = files
        self._allowance = allowance
        self._context_charge = context_charge

    @property
    def aligner(self) -> WordAligner | None:
        """Finds when words are heard, where this server has one."""
        return self.records.aligner if self.records is not None else None

    async def info(self) -> ModelInfo:
        return await self._pipeline.info()

    async def scene(self, asked: Asked, settings: Settings, key: Key = ANONYMOUS) -> Scene:
        """The scene that `asked` describes, within the limits, with the voices of `key`. Raises InvalidRequest."""
        info = await self.info()
        if sum(len(turn.text) for turn in asked.turns) <= _MAX_INLINE_CHARS:
            scene = build_scene(asked, info, settings)
        else:  # The longest texts take seconds to prepare, which would stall every stream of this event loop.
            scene = await PREPARING.done(lambda: build_scene(asked, info, settings))
        cast = await self._casting.cast(scene, key.id)
        await self._requests.adapters_of(cast)
        return cast

    async def outcome(self, owner: str, request_id: str) -> Outcome:
        """How a request ended, or where it is. Raises UnknownRequest."""
        try:
            return self.outcomes.get(owner, request_id)
        except UnknownRequest:
            if self.records is None:
                raise
            return outcome_of(await self.records.get(owner, request_id))

    async def encoded(self, clips: Sequence[ContextSource], key: Key) -> tuple[ContextSegment, ...]:
        """Recordings as codes. Raises errors of the audio at `context[N].audio`, and those of the encoder."""
        owner = owner_of(key)
        recordings, _ = await self.context.clips(clips, owner)
        async with self._allowance.take(key, 0.0) as taken:
            seconds = sum(len(clip.pcm) for clip in recordings) / (2 * SAMPLE_RATE_HZ)
            taken.charge_context(seconds * self._context_charge)
            return await self._pipeline.segments(recordings, owner)

    async def with_voices(self, speakers: Iterable[int]) -> frozenset[int]:
        """Those of `speakers` who have a voice although nobody gave them one."""
        return frozenset(speakers if self._speakers is not None else await self._pipeline.default_voices())

    async def prepare(self, scene: Scene, before: Before, key: Key) -> int:
        """Have the model read what `scene`, one turn, goes on from. The positions that it read.

        Raises what `open` raises.
        """
        request = await self._requests.reading(scene, before, key)
        async with self._allowance.take(key, 0.0):
            return await self._pipeline.prepare(request)

    async def find_adapter(self, name: str) -> AdapterRef:
        """Raises InvalidRequest where there is no such adapter."""
        return await self._requests.find_adapter(name)

    async def check_adapter(self, ref: AdapterRef) -> None:
        """Load an adapter once. Raises CheckpointError, in one line, where it cannot be served."""
        await self._pipeline.check_adapter(ref)

    async def kept_voice(self, name_or_id: str, key: Key) -> Voice | None:
        """The voice of `key` with that id or name, for dialects in which other names are voices too."""
        try:
            return await self.voices.find(name_or_id, key.id) if self.voices else None
        except UnknownVoice:
            return None

    async def live(
        self, asked: Asked, settings: Settings, schedule: Schedule, key: Key = ANONYMOUS
    ) -> tuple[Scene, LiveText]:
        """How to speak a text that is still to come, and the text to feed. `asked` has one turn, without text.

        Raises InvalidRequest.
        """
        info = await self.info()
        scene = await self._casting.cast(build_live_scene(asked, info, settings), key.id)
        await self._requests.adapters_of(scene)
        speaker, limit = scene.turns[0].speaker, settings.limits.max_text_chars
        return scene, LiveText(info.trained_for, schedule, speaker, asked.normalize, limit)

    async def check_ready(self) -> None:
        await self._pipeline.check_ready()

    async def open(
        self, scene: Scene, call: Call, text: LiveText | None = None, before: Before = NOTHING_BEFORE
    ) -> Answer:
        """The answer, once the engine has admitted the request.

        before: what was said before, in codes.

        text: spoken instead of the scene's turns. Wait for `text.ready()` first, so that the start is not timed out by
        a text that does not come. Its key is charged part by part, so `Answer.chunks` may raise LimitReached.
        Raises before anything is spoken: LimitReached before any work is done, errors of the context audio at
        `context[N].audio`, errors of the pipeline, and StartTimeout.
        """
        try:
            async with asyncio.timeout(call.start_timeout_seconds), AsyncExitStack() as stack:
                return await self._opened(scene, call, stack, text, before)
        except TimeoutError:
            seconds = call.start_timeout_seconds or 0
            raise StartTimeout(f"the request did not start within its {seconds:g} s: send it again") from None

    async def _opened(
        self, scene: Scene, call: Call, stack: AsyncExitStack, text: LiveText | None, before: Before
    ) -> Answer:
        longest_seconds = scene.longest_seconds if text is None else 0.0
        taken = await stack.enter_async_context(self._allowance.take(call.key, longest_seconds))
        request, notices = await self._requests.made(scene, call, before)
        taken.charge_context(request.context_seconds * self._context_charge)
        owner = call.key.id
        keep = None if self.records is None else self.records.keeper(owner, call.record_seconds)
        # The record first: a conversation's turn gives its place back, and whoever takes that goes on from the record.
        keepers = [keeper for keeper in (keep, call.on_record) if keeper is not None]
        recorder = Recorder(request, await self.info(), call.notes, keepers, text, before.broken_off)
        coming = None
        if text is not None:
            coming = await stack.enter_async_context(aclosing(_covered(text, taken)))
        takes = Takes(scene.quality, self._pipeline.decoder, self.ear) if scene.quality else None
        speech = recorder.recorded(self._pipeline.stream(request, coming, takes))
        if self.watermark is not None:
            speech = marked(speech, self.watermark)
        await stack.enter_async_context(aclosing(speech))
        accepted = await anext(speech)
        assert isinstance(accepted, Accepted), "a stream opens with Accepted"
        wish = scene.file

        def record(outcome: Outcome) -> None:
            self.outcomes.record(owner, outcome)

        async def store(pcm: bytes) -> tuple[StoredFile, str]:
            assert wish is not None
            file = await self._files.put_answer(wish, call.request_id, owner, pcm)
            return file, f"{wish.url_base}{file.path}"

        answer = Answer(
            recorder,
            accepted,
            speech,
            taken,
            record=record,
            store=store if wish else None,
            held=stack.pop_all(),
            notices=(*scene.notices, *notices),
            takes=takes,
        )
        note_opened(answer)
        return answer


async def _covered(text: LiveText, taken: Taken) -> AsyncGenerator[Part, None]:
    async with aclosing(text.parts()) as parts:
        async for part in parts:
            await taken.cover(frame_cap(part.piece.num_words) / FRAME_RATE_HZ)
            yield part
