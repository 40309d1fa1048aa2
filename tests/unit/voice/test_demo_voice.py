"""The demo voice through the served configuration, in this process: words go in, the same words come out.

The sentences and a third of the words are not in its training data; see training/README.md. `pytest -rP` shows the
figures.
"""

import asyncio
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from serve_app.messages import FinishReason
from serve_app.settings import CodecSettings, EngineSettings, Settings
from serve_app.speech.request import ContextClip
from serve_app.verify.served import ServedModel, Sound
from tests.listener import Listener, espeak, pitch_hz
from tests.support.system_packages import need
from training.espeak import PITCH_HZ
from training.robot_speech import say
from training.texts import read_lines

pytestmark = pytest.mark.timeout(600)

VOICES = (0, 1)
AT_ONCE = 8
"""Streams of one batch."""

SENTENCES = read_lines("sentences.txt")
in_context = pytest.mark.parametrize("num_sentences", [16, pytest.param(30, marks=pytest.mark.slow)])
"""Two batches tell which voice is heard; the figures of docs/benchmarks.md are of thirty."""
LEARNT, NEVER_MET = (
    [f"{word.capitalize()}." for word in read_lines(name)] for name in ("words_in_training.txt", "words_never_met.txt")
)
WORDS = LEARNT + NEVER_MET


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    need("espeak-ng")
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def model(loop: asyncio.Runner) -> Iterator[ServedModel]:
    async def load() -> ServedModel:
        # One thread: the other tests of this machine want the other core.
        return ServedModel(Settings(model="demo", engine=EngineSettings(threads=1), codec=CodecSettings(threads=1)))

    served = loop.run(load())
    yield served
    served.stop()


def speak(
    loop: asyncio.Runner,
    model: ServedModel,
    texts: Sequence[str],
    speaker: int,
    context: tuple[ContextClip, ...] = (),
) -> list[Sound]:
    async def all_of_them() -> list[Sound]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(seed: int, text: str) -> Sound:
            async with gate:
                return await model.speak(text, speaker, context, seed)

        return await asyncio.gather(*(one(seed, text) for seed, text in enumerate(texts)))

    return loop.run(all_of_them())


@pytest.mark.parametrize("voice", VOICES)
def test_sentences_that_it_has_never_met(loop: asyncio.Runner, model: ServedModel, voice: int) -> None:
    listener = Listener(SENTENCES, voice)
    spoken = speak(loop, model, SENTENCES, voice)
    misheard = {text: heard for text, heard in heard_by(listener, SENTENCES, spoken) if heard != text}
    sys.stdout.write(f"voice {voice}: {len(SENTENCES) - len(misheard)} of {len(SENTENCES)} sentences understood\n")
    assert len(misheard) <= 0.05 * len(SENTENCES), misheard
    assert all(sound.finish == FinishReason.EOS for sound in spoken)
    seconds = [sound.num_frames * 0.08 for sound in spoken]
    assert sum(seconds) == pytest.approx(sum(listener.seconds), rel=0.15)
    ratios = np.array(seconds) / listener.seconds
    sys.stdout.write(
        f"length beside espeak-ng's: {sum(seconds) / sum(listener.seconds):.2f}, of each {np.sort(ratios).round(2)}\n"
    )
    assert np.mean(abs(ratios - 1) < 0.3) > 0.9, ratios


@pytest.mark.parametrize("voice", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_words_alone(loop: asyncio.Runner, model: ServedModel, voice: int) -> None:
    heard = heard_by(Listener(WORDS, voice), WORDS, speak(loop, model, WORDS, voice))
    misheard = {text: other for text, other in heard if other != text}
    strange = len(misheard.keys() & set(NEVER_MET))
    sys.stdout.write(
        f"voice {voice}: {len(WORDS) - len(misheard)} of {len(WORDS)} words understood, {strange} never met are not\n"
    )
    assert len(misheard) <= 0.1 * len(WORDS), misheard
    assert strange <= 0.2 * len(NEVER_MET), misheard


@in_context
@pytest.mark.parametrize(
    ("voice", "speaker", "share"),
    [
        # The speaker's own voice: a model that ignored the context would reach this too.
        pytest.param(0, 0, 0.9, marks=pytest.mark.slow),
        pytest.param(1, 1, 0.9, marks=pytest.mark.slow),
        (1, 0, 0.8),
        (0, 1, 0.5),
        (0, 5, 0.8),
        (1, 5, 0.9),
    ],
)
def test_the_voice_is_that_of_the_context(
    loop: asyncio.Runner, model: ServedModel, voice: int, speaker: int, share: float, num_sentences: int
) -> None:
    """A model that ignored the context would reach 0 where the clip is not in the speaker's own voice, and one half
    for speaker 5, who has none."""
    context = (clip("The weather is fine today.", speaker, voice),)
    spoken = speak(loop, model, SENTENCES[:num_sentences], speaker, context)
    assert share_of_voice(voice, spoken) >= share


@in_context
@pytest.mark.parametrize(("voice", "speaker"), [(0, 4), (1, 7)])
def test_each_speaker_of_a_context_keeps_their_voice(
    loop: asyncio.Runner, model: ServedModel, voice: int, speaker: int, num_sentences: int
) -> None:
    context = (clip("The weather is fine today.", 4, 0), clip("I have not been outside yet.", 7, 1))
    assert share_of_voice(voice, speak(loop, model, SENTENCES[:num_sentences], speaker, context)) >= 0.7


def test_a_listener_can_be_disappointed() -> None:
    """The listener does not take every sound for the sentence that was asked for."""
    need("espeak-ng")
    listener = Listener(SENTENCES, 0)
    assert listener.hears(clip(SENTENCES[1], 0, 0).pcm) == SENTENCES[1] != SENTENCES[0]


def share_of_voice(voice: int, spoken: Sequence[Sound]) -> float:
    right = [pitch_hz(sound.pcm) == pytest.approx(PITCH_HZ[voice], rel=0.05) for sound in spoken]
    sys.stdout.write(f"{sum(right)} of {len(right)} have voice {voice}\n")
    return float(np.mean(right))


def clip(text: str, speaker: int, voice: int) -> ContextClip:
    return ContextClip(text, speaker, (say(espeak(), text, voice).wave * 32767).astype("<i2").tobytes())


def heard_by(listener: Listener, texts: Sequence[str], spoken: Sequence[Sound]) -> Iterator[tuple[str, str]]:
    return ((text, listener.hears(sound.pcm)) for text, sound in zip(texts, spoken, strict=True))
