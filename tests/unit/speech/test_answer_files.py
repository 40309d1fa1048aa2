"""Answers in files, and context audio from the request, from a URL and from a file."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

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
from serve_app.messages import FinishReason, SamplingParams
from serve_app.settings import LimitSettings, NetSettings, Settings
from serve_app.speech.answer import Answer, StoredAnswer
from serve_app.speech.call import Call
from serve_app.speech.progress import SpeechProgress
from serve_app.speech.scene import AnswerFile, Audio, ContextSource, FileAudio, InlineAudio, Scene, Turn, UrlAudio
from serve_app.speech.service import SpeechService
from serve_app.store.database import Database
from serve_app.store.files import FileStore
from serve_app.store.object_store import Objects
from tests.support.fakes import FakeDecoder, FakeEncoder, Utterance, frames_of, pcm_of
from tests.support.speech import speech_service

TWO_TURNS = (Turn("Hello.", 0), Turn("Hi.", 1))
CLIP = wav_file(pcm_of(5, 10))
OWNER = ANONYMOUS.id


class FakeFetcher:
    """Serves its pages. A URL it lacks fails; the URL `slow` never ends."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.checked: list[str] = []
        self.open = 0

    def check_url(self, field: str, url: str) -> None:
        self.checked.append(url)

    async def fetch(self, field: str, url: str, *, owner: str = "") -> bytes:
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

    def speech(self, *utterances: Utterance, secret: bytes = b"secret") -> SpeechService:
        self.decoder = FakeDecoder(*utterances)
        return speech_service(self.decoder, self.encoder, self.settings, files=self.files, net=self.net, secret=secret)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parts = Parts(tmp_path)
    yield parts
    parts.database.close()


def scene(*audio: Audio, turns: tuple[Turn, ...] = TWO_TURNS) -> Scene:
    context = tuple(ContextSource("Before.", number, item) for number, item in enumerate(audio))
    return Scene(turns, context, 7, SamplingParams(), 90.0, AnswerFile("http://csm"))


@asynccontextmanager
async def opened(speech: SpeechService, asked: Scene, request_id: str = "r") -> AsyncIterator[Answer]:
    async with await speech.open(asked, Call(request_id, ANONYMOUS)) as answer:
        yield answer


async def spoken(speech: SpeechService, asked: Scene, request_id: str = "r") -> StoredAnswer:
    async with opened(speech, asked, request_id) as answer:
        return await answer.file()


async def test_all_turns_are_one_file(parts: Parts) -> None:
    answer = await spoken(parts.speech(Utterance(3)), scene())
    assert await parts.files.read_all(answer.file.id, 10**6) == wav_file(b"".join(pcm_of(n) for n in range(6)))
    assert answer.url == f"http://csm{answer.file.path}"
    assert (answer.seed, answer.finish_reason, answer.audio_seconds) == (7, FinishReason.EOS, 6 / 12.5)
    assert (answer.file.content_type, answer.file.owner) == ("audio/wav", OWNER)


async def test_each_turn_conditions_on_those_before(parts: Parts) -> None:
    await spoken(parts.speech(), scene())
    first, second = parts.decoder.requests
    assert first.context == ()
    assert [(segment.text, segment.codes) for segment in second.context] == [("Hello.", frames_of(1, 4))]


async def test_context_comes_from_the_request_a_url_or_a_file(parts: Parts) -> None:
    stored = await parts.files.put(CLIP, name="a", content_type="audio/wav", owner=OWNER)
    parts.net.pages["https://x/a.wav"] = CLIP
    await spoken(parts.speech(), scene(InlineAudio(CLIP), UrlAudio("https://x/a.wav"), FileAudio(stored.id)))
    assert parts.encoder.clips == [pcm_of(5, 10)] * 3


async def test_a_url_of_our_own_file_is_read_from_the_store_whatever_its_host(parts: Parts) -> None:
    stored = await parts.files.put(CLIP, name="a", content_type="audio/wav", owner=OWNER)
    ours, theirs = UrlAudio(f"https://elsewhere{stored.path}"), UrlAudio("https://x/a.wav")
    located = await parts.speech().context.locate(scene(ours, theirs), "http://csm")
    assert [item.audio for item in located.context] == [FileAudio(stored.id), theirs]
    assert parts.net.checked == ["https://x/a.wav"]


async def test_a_url_below_our_own_address_must_name_a_file(parts: Parts) -> None:
    with pytest.raises(DownloadFailed) as error:
        await parts.speech().context.locate(scene(UrlAudio(f"http://csm/files/{'a' * 32}/a.wav")), "http://csm")
    assert error.value.field == "context[0].audio"


@pytest.mark.parametrize(
    ("audio", "kind"),
    [
        (InlineAudio(b"no sound"), InvalidAudio),
        (InlineAudio(wav_file(pcm_of(5, 30))), AudioTooLong),
        (UrlAudio("https://x/nothing"), DownloadFailed),
        (FileAudio("unknown"), DownloadFailed),
    ],
    ids=["noise", "too long", "no such url", "no such file"],
)
async def test_context_that_cannot_be_used_is_named(parts: Parts, audio: Audio, kind: type[InvalidRequest]) -> None:
    with pytest.raises(kind) as error:
        await spoken(parts.speech(), scene(InlineAudio(CLIP), audio))
    assert error.value.field == "context[1].audio"
    assert parts.decoder.requests == []


async def test_a_file_larger_than_a_download_may_be_is_refused(parts: Parts) -> None:
    stored = await parts.files.put(bytes(100_001), name="a", content_type="audio/wav", owner=OWNER)
    with pytest.raises(FileTooLarge) as error:
        await spoken(parts.speech(), scene(FileAudio(stored.id)))
    assert error.value.field == "context[0].audio"


async def test_one_clip_that_fails_stops_the_fetching_of_the_others(parts: Parts) -> None:
    with pytest.raises(DownloadFailed):
        await spoken(parts.speech(), scene(UrlAudio("slow"), UrlAudio("nothing")))
    await asyncio.sleep(0)
    assert parts.net.open == 0


async def test_a_second_run_stores_no_second_file(parts: Parts) -> None:
    speech = parts.speech()
    first, second = [await spoken(speech, scene(), "job") for _ in range(2)]
    other = await spoken(speech, scene(), "another")
    assert first.file == second.file
    assert other.file.id != first.file.id


async def test_inline_audio_is_kept_under_the_same_name_again(parts: Parts) -> None:
    context = parts.speech().context
    asked = scene(InlineAudio(CLIP), UrlAudio("https://x/a.wav"))
    first, second = [await context.keep(asked, OWNER, 3600) for _ in range(2)]
    assert first == second
    kept = first.context[0].audio
    assert isinstance(kept, FileAudio)
    assert await parts.files.read_all(kept.file_id, 10**6) == CLIP
    assert (await parts.files.info(kept.file_id)).expires_at > time.time() + 3590
    assert first.context[1] == asked.context[1]
    theirs = await context.keep(asked, "somebody else", 3600)
    assert theirs.context[0] != first.context[0]
    first.to_json()


@pytest.mark.parametrize("finish", [FinishReason.ERROR, FinishReason.CANCELLED])
async def test_a_scene_that_the_engine_gave_up_is_no_answer(parts: Parts, finish: FinishReason) -> None:
    with pytest.raises(GenerationFailed):
        await spoken(parts.speech(Utterance(3, finish)), scene())


async def test_leaving_frees_the_slot_and_stores_nothing(parts: Parts) -> None:
    async with opened(parts.speech(Utterance(stalls=True)), scene()) as answer:
        assert parts.decoder.num_open == 1
    assert parts.decoder.num_open == 0
    assert answer.stored is None


async def test_progress_tells_turns_frames_and_seconds(parts: Parts) -> None:
    asked = scene(InlineAudio(CLIP), turns=(Turn("Hello, " * 20, 0), Turn("Hi.", 1)))
    async with opened(parts.speech(Utterance(60), Utterance(3)), asked) as answer:
        progress = SpeechProgress(answer)
        told = [progress.opening()]
        told += [line async for chunk in answer.chunks() for line in progress.lines(chunk)]
        *more, last = progress.closing(await answer.file())
    assert [*told, *more] == [
        "started: 2 turns, context of 1 clip, 0.8 s; turn 1 of 2",
        "turn 1 of 2: 50 frames, 4.0 s so far",
        "turn 1 of 2 done: 60 frames, 4.8 s",
        "turn 2 of 2 done: 3 frames, 0.2 s",
    ]
    assert last.startswith("finished (eos): 5.04 s of audio in ")


async def test_inline_audio_that_is_sent_again_is_the_same_file_and_is_kept_anew(parts: Parts) -> None:
    now = time.time()
    parts.files = FileStore(
        parts.database, Objects.open(parts.settings.files, parts.settings.data_dir), parts.settings.files, lambda: now
    )
    context, asked = parts.speech().context, scene(InlineAudio(CLIP))
    first = await context.keep(asked, OWNER, 3600)
    file = first.context[0].audio
    assert isinstance(file, FileAudio)
    for hours in (0.5, 23.0, 24.0):  # while it is there, and after it was gone
        now += hours * 3600
        assert await context.keep(asked, OWNER, 3600) == first
        assert (await parts.files.info(file.file_id)).expires_at == now + 3600


async def test_a_files_id_cannot_be_computed_without_the_servers_secret(parts: Parts) -> None:
    ids = set()
    for secret in (b"ours", b"theirs"):
        speech = parts.speech(secret=secret)
        answer = await spoken(speech, scene(), "job")
        kept = (await speech.context.keep(scene(InlineAudio(CLIP)), OWNER, 3600)).context[0].audio
        assert isinstance(kept, FileAudio)
        ids |= {answer.file.id, kept.file_id}
    assert len(ids) == 4
