"""Takes with an ear: of the demo voice's words, how many are misheard in the first take and in the one that is kept."""

import asyncio
import sys
from contextlib import aclosing

import pytest

from serve_app.messages import AudioChunk, SamplingParams
from serve_app.settings import CodecSettings, EngineSettings, Settings
from serve_app.speech.build import Asked, build_scene
from serve_app.speech.request import SpeechRequest
from serve_app.speech.scene import Quality, Turn
from serve_app.speech.takes import Takes
from serve_app.verify.served import ServedModel
from tests.listener import Listener, espeak
from tests.support.system_packages import need
from training.robot_speech import say
from training.texts import read_lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CANDIDATES, SPREAD = 4, 1.6
AT_ONCE = 8
WORDS = [
    f"{word.capitalize()}." for name in ("words_in_training.txt", "words_never_met.txt") for word in read_lines(name)
]


class ListenersEar:
    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    async def hears(self, pcm: bytes) -> str:
        return await asyncio.to_thread(self._listener.hears, pcm)


def heard_well(ear: Listener, voice: int) -> list[str]:
    """The words that the ear knows when the demo voice's own teacher says them."""
    spoken = {word: (say(espeak(), word, voice).wave * 32767).astype("<i2").tobytes() for word in WORDS}
    return [word for word, pcm in spoken.items() if ear.hears(pcm) == word]


@pytest.mark.parametrize("voice", [0, 1])
async def test_half_as_many_words_are_misheard_with_four_takes(voice: int) -> None:
    need("espeak-ng")
    settings = Settings(
        model="demo",
        engine=EngineSettings(threads=1, max_step_ms=0, max_wait_seconds=600),
        codec=CodecSettings(threads=1, max_wait_seconds=600),
    )
    model = ServedModel(settings)
    # The second ear knows the words in another voice. It has no say in what is kept.
    listener, judge = Listener(WORDS, voice), Listener(WORDS, 1 - voice)
    ear, words = ListenersEar(listener), heard_well(listener, voice)
    at_once = asyncio.Semaphore(AT_ONCE)

    async def reports() -> list[tuple[dict[str, object], bool]]:
        return await asyncio.gather(*(one(number, text) for number, text in enumerate(words)))

    async def one(number: int, text: str) -> tuple[dict[str, object], bool]:
        async with at_once:
            pipeline = model.pipeline()
            scene = build_scene(Asked([Turn(text, voice)]), await model.tokens.info(), settings)
            takes = Takes(Quality(CANDIDATES, spread=SPREAD), pipeline.decoder, ear)
            request = SpeechRequest(
                f"word-{number}", scene.turns, (), SamplingParams(seed=number), 10.0, is_streamed=False, priority=1
            )
            async with aclosing(pipeline.stream(request, None, takes)) as messages:
                pcm = b"".join([message.pcm async for message in messages if isinstance(message, AudioChunk)])
            return takes.report, await asyncio.to_thread(judge.hears, pcm) == text

    try:
        found = await reports()
    finally:
        model.stop()
    utterances = [report["utterances"][0] for report, _ in found]  # pyright: ignore[reportIndexIssue]
    first = sum(utterance["takes"][0]["words_heard"] < 1 for utterance in utterances)
    kept = sum(utterance["takes"][utterance["kept"]]["words_heard"] < 1 for utterance in utterances)
    drawn = sum(len(utterance["takes"]) for utterance in utterances)
    by_judge = sum(not is_right for _, is_right in found)
    sys.stdout.write(
        f"voice {voice}: {first} of {len(words)} words misheard in the first take, {kept} in the best of at most "
        f"{CANDIDATES}; {drawn / len(words):.2f} takes a word; the ear of the other voice mishears {by_judge}\n"
    )
    assert first > 0
    assert 2 * kept <= first
