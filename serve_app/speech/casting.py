"""Which speaker of a scene speaks with which kept voice."""

from dataclasses import replace

from serve_app.errors import InvalidRequest, UnknownVoice
from serve_app.messages import ContextSegment
from serve_app.speech.scene import CastVoice, Scene, Turn
from serve_app.voices.library import VoiceLibrary
from serve_app.voices.voice import Voice


class Casting:
    def __init__(self, library: VoiceLibrary | None) -> None:
        """`library`: None where this server keeps no voices."""
        self._library = library

    async def cast(self, scene: Scene, owner: str) -> Scene:
        """The scene with the voices that its turns name. Raises InvalidRequest at `turns[N].voice` for unknown ones.

        A turn that names none has the voice that another turn gave its speaker. Of two voices for one speaker, the
        second gets the lowest number that is free, so that callers who leave numbers out need not invent them.
        The adapter of a voice speaks the turns of its speaker that name no other.
        """
        found = {name: await self._found(number, name, owner) for number, name in _first_named(scene)}
        cast: dict[int, str] = {}
        moved: dict[tuple[int, str], int] = {}
        taken = {turn.speaker for turn in scene.turns} | {clip.speaker for clip in scene.context}
        turns: list[Turn] = []
        for turn in scene.turns:
            speaker = turn.speaker
            if turn.voice is not None:
                voice_id = found[turn.voice].id
                speaker = moved.get((speaker, voice_id), speaker)
                if cast.setdefault(speaker, voice_id) != voice_id:
                    speaker = next(number for number in range(len(taken) + 1) if number not in taken)
                    moved[turn.speaker, voice_id] = speaker
                    cast[speaker] = voice_id
                    taken.add(speaker)
            turns.append(replace(turn, speaker=speaker, voice=None))
        adapters = {voice.id: voice.adapter for voice in found.values()}
        spoken = [replace(turn, adapter=turn.adapter or adapters.get(cast.get(turn.speaker, ""))) for turn in turns]
        return replace(scene, turns=tuple(spoken), voices=tuple(CastVoice(*pair) for pair in sorted(cast.items())))

    async def segments(self, scene: Scene, owner: str) -> tuple[ContextSegment, ...]:
        """The cast voices as context. Raises InvalidRequest where one was deleted in the meantime."""
        found: list[ContextSegment] = []
        for cast in scene.voices:
            try:
                if self._library is None:
                    raise UnknownVoice(cast.voice_id)
                found += await self._library.segments(cast.voice_id, owner, cast.speaker)
            except UnknownVoice:
                raise InvalidRequest("voice", "was deleted after this was asked for: choose another") from None
        return tuple(found)

    async def _found(self, number: int, name: str, owner: str) -> Voice:
        try:
            if self._library is None:
                raise UnknownVoice(name)
            return await self._library.find(name, owner)
        except UnknownVoice:
            raise InvalidRequest(
                f"turns[{number}].voice", "is not known to this key: send the id or the name of a voice that it keeps"
            ) from None


def _first_named(scene: Scene) -> list[tuple[int, str]]:
    """The first turn that names each voice, and the voice."""
    named = {turn.voice: number for number, turn in reversed([*enumerate(scene.turns)]) if turn.voice is not None}
    return [(number, name) for name, number in named.items()]
