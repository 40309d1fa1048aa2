"""How the turns of a socket are spoken: what its first message said."""

from dataclasses import dataclass
from typing import Self

from serve_app.api.realtime.incoming import Opening
from serve_app.api.realtime.outgoing import Ready
from serve_app.audio.encode.formats import Coding, coding_of
from serve_app.conversations.conversation import Conversation
from serve_app.keys.key import Key
from serve_app.ports import WordAligner
from serve_app.settings import Settings
from serve_app.speech.build import Asked
from serve_app.speech.live.cutter import Schedule
from serve_app.speech.live.text import LiveText
from serve_app.speech.scene import Scene, Turn
from serve_app.speech.service import SpeechService

_SAMPLING = ("temperature", "top_k", "top_p", "repetition_penalty")


@dataclass(frozen=True, slots=True)
class Opened:
    """One conversation over one socket."""

    conversation: Conversation
    """As it was when the socket was opened."""
    coding: Coding
    aligner: WordAligner | None
    _said: Opening
    _speech: SpeechService
    _settings: Settings
    _key: Key

    @classmethod
    async def by(
        cls, said: Opening, conversation: Conversation, speech: SpeechService, settings: Settings, key: Key
    ) -> Self:
        """Raises InvalidRequest for what no turn can be spoken with."""
        coding = coding_of(said.format, said.sample_rate)
        opened = cls(conversation, coding, speech.aligner if said.words else None, said, speech, settings, key)
        await opened.live()
        return opened

    async def ready(self) -> Ready:
        info = await self._speech.info()
        return Ready(
            conversation_id=self.conversation.id,
            turns=len(self.conversation.turns),
            sample_rate=self.coding.rate_hz,
            format=self.coding.format.name,
            weights=info.weights,
            notice=info.notice,
        )

    async def live(self) -> tuple[Scene, LiveText]:
        """How to speak a turn whose text is still to come, and the text to feed."""
        said = self._said
        asked = Asked(
            turns=[Turn("", said.speaker, voice=said.voice)],
            sampling={name: value for name in _SAMPLING if (value := getattr(said, name)) is not None},
            seed=said.seed,
            normalize=said.normalize,
            adapter=said.adapter,
        )
        return await self._speech.live(asked, self._settings, Schedule(), self._key)
