"""From a scene to its file: where context comes from, what is stored, what an end without sound is."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from fakes import FakeDecoder, FakeEncoder, Utterance, frames_of, pcm_of, sound_of

from serve_app.audio.wav import wav_file
from serve_app.errors import (
    AudioTooLong,
    DownloadFailed,
    FileTooLarge,
    GenerationFailed,
    InvalidAudio,
    InvalidRequest,
)
from serve_app.keys.key import ANONYMOUS
from serve_app.keys.limits import Allowance
from serve_app.messages import Accepted, AudioChunk, FinishReason, SamplingParams
from serve_app.settings import LimitSettings, NetSettings, Settings
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import Turn
from serve_app.speech.scene import ContextSource, FileAudio, InlineAudio, SceneFile, SceneInput, UrlAudio
from serve_app.speech.scene_progress import SceneProgress
from serve_app.speech.scene_work import SceneAnswer, SceneWork
from serve_app.store.database import Database
from serve_app.store.files import FileStore
from serve_app.store.object_store import Objects

TWO_TURNS = (Turn("Hello.", 0), Turn("Hi.", 1))
CLIP = wav_file(sound_of(5, 10))
OWNER = "anonymous"


class FakeFetcher:
    """Serves what it has; where it has nothing it is slow to say so."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.open = 0

    def check_url(self, field: str, url: str) -> None: ...

    async def fetch(self, field: str, url: str) -> bytes:
        self.open += 1
        try:
            if url == "slow":
                await asyncio.sleep(600)
            if url not in self.pages:
                raise DownloadFailed(field, "nothing there")
            return self.pages[url]
        finally:
            self.open -= 1


class Parts:
    def __init__(self, folder: Path) -> None:
        self.settings = Settings(
            data_dir=folder, limits=LimitSettings(max_context_seconds=2), net=NetSettings(max_download_bytes=100_000)
        )
        self.database = Database.open(self.settings.database_url)
        self.files = FileStore(self.database, Objects.open(self.settings.files, folder), self.settings.files)
        self.net = FakeFetcher()
        self.encoder = FakeEncoder()

    def work(self, *utterances: Utterance) -> SceneWork:
        self.decoder = FakeDecoder(*utterances)
        pipeline = SpeechPipeline(self.encoder, self.decoder)
        return SceneWork(pipeline, self.files, self.net, Allowance(), self.settings, b"secret")


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parts = Parts(tmp_path)
    yield parts
    parts.database.close()


def scene(*audio: InlineAudio | UrlAudio | FileAudio, turns: tuple[Turn, ...] = TWO_TURNS) -> SceneInput:
    context = tuple(ContextSource("Before.", number, item) for number, item in enumerate(audio))
    return SceneInput(turns, context, 7, SamplingParams(), 90.0, SceneFile("http://csm"))


async def spoken(
    work: SceneWork, asked: SceneInput, request_id: str = "r"
) -> list[Accepted | AudioChunk | SceneAnswer]:
    request = await work.request(asked, request_id)
    async with aclosing(work.speak(asked, request, ANONYMOUS)) as messages:
        return [message async for message in messages]


async def test_all_turns_are_one_file(parts: Parts) -> None:
    *_, answer = await spoken(parts.work(Utterance(3)), scene())
    assert isinstance(answer, SceneAnswer)
    assert await parts.files.read_all(answer.file.id, 10**6) == wav_file(b"".join(pcm_of(n) for n in range(6)))
    assert answer.url == f"http://csm{answer.file.path}"
    assert (answer.seed, answer.finish_reason, answer.audio_seconds) == (7, FinishReason.EOS, 6 / 12.5)
    assert (answer.file.content_type, answer.file.owner) == ("audio/wav", OWNER)


async def test_each_turn_conditions_on_those_before(parts: Parts) -> None:
    await spoken(parts.work(), scene())
    first, second = parts.decoder.requests
    assert first.context == ()
    assert [(segment.text, segment.codes) for segment in second.context] == [("Hello.", frames_of(1, 4))]


async def test_context_comes_from_the_request_a_url_or_a_file(parts: Parts) -> None:
    stored = await parts.files.put(CLIP, name="a", content_type="audio/wav", owner=OWNER)
    parts.net.pages["https://x/a.wav"] = CLIP
    await spoken(parts.work(), scene(InlineAudio(CLIP), UrlAudio("https://x/a.wav"), FileAudio(stored.id)))
    assert parts.encoder.clips == [sound_of(5, 10)] * 3


@pytest.mark.parametrize(
    ("audio", "kind"),
    [
        (InlineAudio(b"no sound"), InvalidAudio),
        (InlineAudio(wav_file(sound_of(5, 30))), AudioTooLong),
        (UrlAudio("https://x/nothing"), DownloadFailed),
        (FileAudio("unknown"), DownloadFailed),
    ],
    ids=["noise", "too long", "no such url", "no such file"],
)
async def test_context_that_cannot_be_used_is_named(
    parts: Parts, audio: InlineAudio | UrlAudio | FileAudio, kind: type[InvalidRequest]
) -> None:
    with pytest.raises(kind) as error:
        await parts.work().request(scene(InlineAudio(CLIP), audio), "r")
    assert error.value.field == "context.1.audio_url"
    assert parts.decoder.requests == []


async def test_a_file_larger_than_a_download_may_be_is_refused(parts: Parts) -> None:
    stored = await parts.files.put(bytes(100_001), name="a", content_type="audio/wav", owner=OWNER)
    with pytest.raises(FileTooLarge) as error:
        await parts.work().request(scene(FileAudio(stored.id)), "r")
    assert error.value.field == "context.0.audio_url"


async def test_one_clip_that_fails_stops_the_fetching_of_the_others(parts: Parts) -> None:
    with pytest.raises(DownloadFailed):
        await parts.work().request(scene(UrlAudio("slow"), UrlAudio("nothing")), "r")
    await asyncio.sleep(0)
    assert parts.net.open == 0


async def test_a_second_run_stores_no_second_file(parts: Parts) -> None:
    work = parts.work()
    first, second = [(await spoken(work, scene(), "job"))[-1] for _ in range(2)]
    other = (await spoken(work, scene(), "another"))[-1]
    assert first.file == second.file
    assert other.file.id != first.file.id


async def test_inline_audio_is_kept_under_the_same_name_again(parts: Parts) -> None:
    work = parts.work()
    asked = scene(InlineAudio(CLIP), UrlAudio("https://x/a.wav"))
    first, second = [await work.keep_inputs(asked, OWNER, 3600) for _ in range(2)]
    assert first == second
    kept = first.context[0].audio
    assert isinstance(kept, FileAudio)
    assert await parts.files.read_all(kept.file_id, 10**6) == CLIP
    assert (await parts.files.info(kept.file_id)).expires_at > time.time() + 3590
    assert first.context[1] == asked.context[1]
    theirs = await work.keep_inputs(asked, "somebody else", 3600)
    assert theirs.context[0] != first.context[0]
    first.to_json()


@pytest.mark.parametrize("finish", [FinishReason.ERROR, FinishReason.CANCELLED])
async def test_a_scene_that_the_engine_gave_up_is_no_answer(parts: Parts, finish: FinishReason) -> None:
    with pytest.raises(GenerationFailed):
        await spoken(parts.work(Utterance(3, finish)), scene())


async def test_leaving_frees_the_slot_and_stores_nothing(parts: Parts) -> None:
    work = parts.work(Utterance(stalls=True))
    asked = scene()
    request = await work.request(asked, "r")
    async with aclosing(work.speak(asked, request, ANONYMOUS)) as messages:
        assert isinstance(await anext(messages), Accepted)
        assert parts.decoder.num_open == 1
    assert parts.decoder.num_open == 0


async def test_progress_is_what_a_person_would_want_to_know(parts: Parts) -> None:
    asked = scene(InlineAudio(CLIP), turns=(Turn("Hello, " * 20, 0), Turn("Hi.", 1)))
    work = parts.work(Utterance(60), Utterance(3))
    progress = SceneProgress(await work.request(asked, "r"))
    *told, last = [line for message in await spoken(work, asked) for line in progress.lines(message)]
    assert told == [
        "started: 2 turns, context of 1 clip, 0.8 s; turn 1 of 2",
        "turn 1 of 2: 50 frames, 4.0 s so far",
        "turn 1 of 2 done: 60 frames, 4.8 s",
        "turn 2 of 2 done: 3 frames, 0.2 s",
    ]
    assert last.startswith("finished (eos): 5.04 s of audio in ")


async def test_inline_audio_sent_again_later_is_the_same_and_is_kept_anew(parts: Parts) -> None:
    now = time.time()
    parts.files = FileStore(
        parts.database, Objects.open(parts.settings.files, parts.settings.data_dir), parts.settings.files, lambda: now
    )
    work, asked = parts.work(), scene(InlineAudio(CLIP))
    first = await work.keep_inputs(asked, OWNER, 3600)
    file = first.context[0].audio
    assert isinstance(file, FileAudio)
    for hours in (0.5, 23.0, 24.0):  # while it is there, and after it was gone
        now += hours * 3600
        assert await work.keep_inputs(asked, OWNER, 3600) == first
        assert (await parts.files.info(file.file_id)).expires_at == now + 3600


async def test_nobody_without_the_servers_secret_can_tell_a_files_id(parts: Parts) -> None:
    ids = set()
    for secret in (b"ours", b"theirs"):
        work = SceneWork(
            SpeechPipeline(FakeEncoder(), FakeDecoder()), parts.files, parts.net, Allowance(), parts.settings, secret
        )
        answer = (await spoken(work, scene(), "job"))[-1]
        kept = (await work.keep_inputs(scene(InlineAudio(CLIP)), OWNER, 3600)).context[0].audio
        assert isinstance(answer, SceneAnswer) and isinstance(kept, FileAudio)
        ids |= {answer.file.id, kept.file_id}
    assert len(ids) == 4
