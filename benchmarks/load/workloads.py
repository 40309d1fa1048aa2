"""What is asked of the server: sentences, scenes, and conversations whose context grows by what was heard."""

import io
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random

import numpy as np

from benchmarks.load.sentences import SENTENCES

SENTENCE, SCENE, CONVERSATION = "sentence", "scene", "conversation"
SCENARIOS = (SENTENCE, SCENE, CONVERSATION)
_TURN_CHARS = 80
"""Longest text of a turn. Untrained weights speak as long as they may: more would outgrow the model's window."""
_CLIP_RATE_HZ = 24_000
_CLIP_TEXT = "This is how I sound when I read something aloud."


@dataclass(frozen=True, slots=True)
class Turn:
    text: str
    speaker: int


@dataclass(frozen=True, slots=True)
class Clip:
    """Something said before: transcript and WAV."""

    text: str
    speaker: int
    wav: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Item:
    """One request."""

    scenario: str
    turns: tuple[Turn, ...]
    context: tuple[Clip, ...]
    seed: int
    number: int
    """Which request of its session it is."""
    max_audio_seconds: float | None

    @property
    def text_chars(self) -> int:
        return sum(len(turn.text) for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Session:
    """Requests that one user sends, each after the answer to the one before. Only a conversation has several."""

    scenario: str
    requests: tuple[tuple[Turn, ...], ...]
    context: tuple[Clip, ...]
    seed: int
    max_audio_seconds: float | None

    def item(self, number: int, heard: Sequence[Clip]) -> Item:
        context = (*self.context, *heard)
        return Item(self.scenario, self.requests[number], context, self.seed + number, number, self.max_audio_seconds)


@dataclass(frozen=True, slots=True)
class Workload:
    """A mix of scenarios in equal parts."""

    scenarios: tuple[str, ...] = (SENTENCE,)
    seed: int = 0
    conversation_turns: int = 4
    context_seconds: float = 0.0
    """A clip that every session begins with; 0 for none."""
    fresh_context: bool = False
    """Each session has a clip of its own, which no server can have kept; otherwise all have the same, like a voice."""
    max_audio_seconds: float | None = None
    texts: tuple[str, ...] = SENTENCES

    @property
    def requests_per_session(self) -> float:
        return sum(self.conversation_turns if s == CONVERSATION else 1 for s in self.scenarios) / len(self.scenarios)

    def sessions(self, phase: int) -> Iterator[Session]:
        """Endless. Every phase of a run asks the same; only fresh clips differ."""
        random = Random(self.seed)
        shared = self._clips(0)
        for number in count():
            scenario = self.scenarios[number % len(self.scenarios)]
            yield Session(
                scenario=scenario,
                requests=self._requests(scenario, random),
                context=self._clips(1 + number, phase) if self.fresh_context else shared,
                seed=random.getrandbits(32),
                max_audio_seconds=self.max_audio_seconds,
            )

    def _requests(self, scenario: str, random: Random) -> tuple[tuple[Turn, ...], ...]:
        if scenario == SENTENCE:
            return ((Turn(random.choice(self.texts), 0),),)
        spoken = tuple(text for text in self.texts if len(text) <= _TURN_CHARS) or self.texts
        num_turns = random.randint(2, 4) if scenario == SCENE else self.conversation_turns
        turns = tuple(Turn(random.choice(spoken), number % 2) for number in range(num_turns))
        return (turns,) if scenario == SCENE else tuple((turn,) for turn in turns)

    def _clips(self, *key: int) -> tuple[Clip, ...]:
        if not self.context_seconds:
            return ()
        wav = wav_file(_babble(self.context_seconds, np.random.default_rng([self.seed, *key])), _CLIP_RATE_HZ)
        return (Clip(_CLIP_TEXT, 0, wav, self.context_seconds),)


def wav_file(pcm: bytes, rate_hz: int) -> bytes:
    """Signed 16 bit, mono."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm)
    return buffer.getvalue()


def _babble(seconds: float, random: np.random.Generator) -> bytes:
    """Hum and hiss in syllables: nothing that means anything, but neither silence nor a plain tone to a codec."""
    t = np.arange(int(seconds * _CLIP_RATE_HZ)) / _CLIP_RATE_HZ
    pitch_hz, syllables_hz = random.uniform(90, 220), random.uniform(3, 5)
    hum = sum(np.sin(2 * np.pi * pitch_hz * n * t + random.uniform(0, 6)) / n for n in range(1, 8))
    voiced = np.sin(np.pi * syllables_hz * t) ** 2
    sound = 0.15 * voiced * hum + 0.02 * random.standard_normal(len(t))
    return (np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes()
