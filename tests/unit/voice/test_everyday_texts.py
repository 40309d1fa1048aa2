"""What people really send to the demo voice: numbers, times, prices, signs, names, several lines, long texts.

The ear picks among everything that any text here could mean, and near misses. With `pytest -rP` the figures are shown.
"""

import asyncio
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby

import pytest

from serve_app.messages import FinishReason
from serve_app.settings import CodecSettings, EngineSettings, Settings
from serve_app.verify.served import ServedModel, Sound
from tests.listener import Listener, espeak
from tests.support.system_packages import need
from training.texts import read_lines

pytestmark = pytest.mark.timeout(600)

AT_ONCE = 8
EVERYDAY = {
    "I have 3 cats and 12 birds.": "I have three cats and twelve birds.",
    "She was born in 1984.": "She was born in nineteen eighty four.",
    "It costs $5.": "It costs five dollars.",
    "Turn left after 200 yards.": "Turn left after two hundred yards.",
    "He came in 2nd.": "He came in second.",
    "Take the 3rd door on the left.": "Take the third door on the left.",
    "The room is 21°C today.": "The room is twenty one degrees Celsius today.",
    "About 50% of them left.": "About fifty percent of them left.",
    "It starts at 9:15.": "It starts at nine fifteen.",
    "The train leaves at 18:45.": "The train leaves at eighteen forty five.",
    "That is £20 a week.": "That is twenty pounds a week.",
    "It weighs 4 kg.": "It weighs four kilograms.",
    "We drove 60 km today.": "We drove sixty kilometers today.",
    "Add 1/2 of the milk.": "Add one half of the milk.",
    "It is 2.5 miles long.": "It is two point five miles long.",
    "Meet me on May 3.": "Meet me on May third.",
    "They won 3 - 1.": "They won three, one.",
    "Dr. Brown is here.": "Doctor Brown is here.",
    "Mr. White and Mrs. Green came.": "Mister White and Missus Green came.",
    "Bread & butter, please.": "Bread and butter, please.",
    "He said “good morning” to her.": "He said good morning to her.",
    "It\u2019s a long way home\u2026": "It's a long way home.",
    "The café was empty.": "The cafe was empty.",
    "**Never** open the *red* door.": "Never open the red door.",
    "# Shopping list\n- bread\n- milk\n- butter": "Shopping list. Bread. Milk. Butter.",
    "Open <b>the window</b> please.": "Open the window please.",
    "Tea &amp; coffee are ready.": "Tea and coffee are ready.",
    "That was great! 😀": "That was great!",
    "Wait—what did you say?": "Wait, what did you say?",
    "Good morning,\r\nhow are you today?\r\n": "Good morning, how are you today?",
    "   The   train  is  late.  ": "The train is late.",
    "The train is late.\n\nWe will wait here.": "The train is late. We will wait here.",
    "THE DOOR IS OPEN.": "The door is open.",
    "Chapter 7 is short.": "Chapter seven is short.",
    "Page 100 is missing.": "Page one hundred is missing.",
    "There were 1,000 people.": "There were one thousand people.",
    "It is -5 outside.": "It is minus five outside.",
    "I will be there at 5 p.m.": "I will be there at five p m.",
    "The 1990s were quiet.": "The nineteen nineties were quiet.",
    "Room 12 is on floor 3.": "Room twelve is on floor three.",
}
NEAR_MISSES = [
    "I have cats and birds.", "She was born.", "It costs.", "Turn left.", "He came in.", "The room is today.",
    "We will wait here.", "Good morning.", "The train leaves.", "Bread, please.", "Chapter is short.",
    "There were people.",
]  # fmt: skip
PARAGRAPH = [
    "The old lighthouse stood at the end of a narrow road.",
    "Every evening the keeper climbed the stairs and lit the lamp.",
    "Ships far out at sea could see the light for many miles.",
    "One winter night a storm came and the wind broke a window.",
    "The keeper held the lamp in his arms until the morning.",
    "When the sun came up, three boats lay safe in the harbor.",
    "The people of the village brought him bread and warm milk.",
    "He smiled, thanked them all, and went to bed at last.",
]
PAGE = [*PARAGRAPH, *(line for line in read_lines("sentences.txt") if len(line.split()) > 3)]
"""Each is at least a piece of its own: shorter ones are joined to their neighbours."""


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    need("espeak-ng")
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def model(loop: asyncio.Runner) -> Iterator[ServedModel]:
    async def load() -> ServedModel:
        return ServedModel(
            Settings(model="demo", engine=EngineSettings(threads=1, max_lead_seconds=0), codec=CodecSettings(threads=1))
        )

    served = loop.run(load())
    yield served
    served.stop()


def speak(loop: asyncio.Runner, model: ServedModel, texts: Sequence[str], seed: int = 0) -> list[Sound]:
    async def all_of_them() -> list[Sound]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, text: str) -> Sound:
            async with gate:
                return await model.speak(text, 0, seed=seed + number)

        return await asyncio.gather(*(one(number, text) for number, text in enumerate(texts)))

    return loop.run(all_of_them())


def test_everyday_texts_are_understood(loop: asyncio.Runner, model: ServedModel) -> None:
    meanings = list(EVERYDAY.values())
    listener = Listener([*meanings, *NEAR_MISSES], voice=0)
    sounds = speak(loop, model, list(EVERYDAY))
    misheard = {
        typed: heard
        for (typed, meant), sound in zip(EVERYDAY.items(), sounds, strict=True)
        if (heard := listener.hears(sound.pcm)) != meant
    }
    sys.stdout.write(f"{len(EVERYDAY) - len(misheard)} of {len(EVERYDAY)} everyday texts understood\n")
    assert len(misheard) <= 2, misheard


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_paragraph_is_heard_whole_in_order_and_once(loop: asyncio.Runner, model: ServedModel, seed: int) -> None:
    whole = " ".join(PARAGRAPH)
    others = [" ".join(PARAGRAPH[:n] + PARAGRAPH[n + 1 :]) for n in range(len(PARAGRAPH))]
    others += [" ".join([*PARAGRAPH[: n + 1], *PARAGRAPH[n:]]) for n in range(len(PARAGRAPH))]
    others += [" ".join(PARAGRAPH[n:] + PARAGRAPH[:n]) for n in (1, 2, 4)]
    listener = Listener([whole, *others], voice=0)
    [sound] = speak(loop, model, [whole], seed)
    seconds = len(sound.pcm) / 48_000
    sys.stdout.write(f"seed {seed}: {seconds:.1f} s, a reading at this pace takes {listener.seconds[0]:.1f} s\n")
    assert sound.finish is FinishReason.EOS
    assert 0.85 < seconds / listener.seconds[0] < 1.15
    assert listener.hears(sound.pcm) == whole


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_page_is_heard_sentence_by_sentence(loop: asyncio.Runner, model: ServedModel, seed: int) -> None:
    """500 words. A chunk says how much of the text was spoken before it, and so which sentence it belongs to."""
    listener = Listener(PAGE, voice=0)
    chunks = loop.run(model.chunks(" ".join(PAGE), seed=seed))
    starts = [0, *accumulate(len(sentence) + 1 for sentence in PAGE[:-1])]
    by_sentence = groupby(chunks[:-1], lambda chunk: bisect_right(starts, chunk.spoken_chars))
    sounds = [b"".join(chunk.pcm for chunk in sentence) for _, sentence in by_sentence]
    finish = chunks[-1].finish
    heard = [listener.hears(sound) for sound in sounds]
    right = sum(one == said for one, said in zip(heard, PAGE, strict=True))
    seconds = sum(map(len, sounds)) / 48_000
    reading = len(espeak().speak(" ".join(PAGE), 0)[0]) / espeak().sample_rate
    sys.stdout.write(f"seed {seed}: {right} of {len(PAGE)} sentences, {seconds:.0f} s; a reading: {reading:.0f} s\n")
    assert finish is FinishReason.EOS
    assert right >= 0.95 * len(PAGE)
    assert 0.85 < seconds / reading < 1.15
