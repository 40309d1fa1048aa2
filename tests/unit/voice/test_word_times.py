"""Word times of what the demo voice itself has said. Its sounds last whole frames like its teacher's, so that one's
exact edges are carried over frame by frame. `pytest -rP` shows the figures; tests/unit/align has the teacher's own."""

import asyncio
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from serve_app.align.sphinx import SphinxAligner
from serve_app.messages import FRAME_SAMPLES, SAMPLE_RATE_HZ, AudioChunk, SamplingParams
from serve_app.settings import CodecSettings, EngineSettings, Settings
from serve_app.speech.build import Asked, build_scene
from serve_app.speech.request import SpeechRequest
from serve_app.speech.scene import Turn
from serve_app.verify.served import ServedModel
from tests.listener import espeak, wave
from tests.support.system_packages import need
from training.mel import mel_bank
from training.robot_speech import Speech, say
from training.texts import read_lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SENTENCES = read_lines("sentences.txt")
AT_ONCE = 8
FRAME_SECONDS = FRAME_SAMPLES / SAMPLE_RATE_HZ
_WINDOW = FRAME_SAMPLES // 4


async def test_the_error_on_the_demo_voice_is_within_the_goal() -> None:
    need("espeak-ng")
    aligner, errors, num_estimated, num_words = SphinxAligner(), list[float](), 0, 0
    for number, pcm in enumerate(await _spoken()):
        text = SENTENCES[number]
        words, truth = aligner.align(pcm, text), _truth(say(espeak(), text, number % 2), wave(pcm))
        num_words += len(words)
        place = 0
        for word in words:
            num_estimated += word.is_estimated
            place = text.index(word.text, place)
            # espeak runs some short words together; those have no time of their own.
            if known := truth.get(place + 1, truth.get(place)):
                errors += [abs(word.start_seconds - known[0]), abs(word.end_seconds - known[1])]
            place += len(word.text)
    median, p95 = np.percentile(np.array(errors) * 1000, [50, 95])
    sys.stdout.write(
        f"{len(errors)} word edges: error {median:.0f} ms at the median, {p95:.0f} ms at the 95th percentile"
    )
    sys.stdout.write(f"; {num_estimated} of {num_words} words not found\n")
    assert len(errors) > 500
    assert median <= 40
    assert p95 <= 120


async def _spoken() -> list[bytes]:
    """Every sentence, by the two voices in turn."""
    settings = Settings(
        model="demo",
        engine=EngineSettings(threads=1, max_step_ms=0, max_wait_seconds=600),
        codec=CodecSettings(threads=1, max_wait_seconds=600),
    )
    model, at_once = ServedModel(settings), asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> bytes:
        scene = build_scene(Asked([Turn(SENTENCES[number], number % 2)]), await model.tokens.info(), settings)
        sampling = SamplingParams(seed=number)
        request = SpeechRequest(f"words-{number}", scene.turns, (), sampling, scene.max_audio_seconds)
        async with at_once:
            messages = [message async for message in model.pipeline().stream(request)]
        return b"".join(message.pcm for message in messages if isinstance(message, AudioChunk))

    try:
        return await asyncio.gather(*(one(number) for number in range(len(SENTENCES))))
    finally:
        model.stop()


def _truth(teacher: Speech, heard: NDArray[np.float32]) -> dict[int, tuple[float, float]]:
    """When the word that begins at each place of the text is heard."""
    first_heard = {len(teacher.frames): len(heard) // FRAME_SAMPLES}
    for theirs, ours in _path(_features(teacher.wave), _features(heard)):
        first_heard.setdefault(theirs, ours)
    truth: dict[int, tuple[float, float]] = {}
    for number, frame in enumerate(teacher.frames):
        if not frame.phoneme.is_pause:
            start = truth.get(frame.phoneme.word_start, (first_heard[number] * FRAME_SECONDS, 0.0))[0]
            truth[frame.phoneme.word_start] = (start, first_heard[number + 1] * FRAME_SECONDS)
    return truth


def _features(sound: NDArray[np.float32]) -> NDArray[np.float64]:
    """`[frames, ...]`: the mel spectrum of each quarter of a frame."""
    quarters = sound[: len(sound) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, 4, _WINDOW)
    power = (
        np.abs(np.fft.rfft(quarters * np.hanning(_WINDOW))) ** 2 @ mel_bank(_WINDOW, 24, SAMPLE_RATE_HZ, 100, 7000).T
    )
    return np.log(power + power.max() * 1e-5).reshape(len(quarters), -1)


def _path(left: NDArray[np.float64], right: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """The frames that belong together, by dynamic time warping, in order."""
    costs = np.linalg.norm(left[:, None] - right[None], axis=-1)
    best = np.full((len(left) + 1, len(right) + 1), np.inf)
    best[0, 0] = 0
    for i, j in np.ndindex(costs.shape):
        best[i + 1, j + 1] = costs[i, j] + min(best[i, j], best[i, j + 1], best[i + 1, j])
    i, j, pairs = len(left), len(right), list[tuple[int, int]]()
    while i and j:
        pairs.append((i - 1, j - 1))
        i, j = min(((i - 1, j - 1), (i - 1, j), (i, j - 1)), key=lambda place: best[place])
    return reversed(pairs)
