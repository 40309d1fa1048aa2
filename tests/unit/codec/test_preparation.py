"""A codec made ready by another process: it decodes alike, is made once, and leaves torch out of the replica."""

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.codec import preparation
from serve_app.codec.encoder import ClipEncoder
from serve_app.codec.encoder_service import EncoderService
from serve_app.codec.fingerprint import fingerprint
from serve_app.codec.loading import load_codec
from serve_app.codec.mimi import MimiModel
from serve_app.codec.native.decoder import NativeSlotDecoder
from serve_app.codec.native.from_mimi import decoder_weights
from serve_app.codec.native.weights import DecoderWeights
from serve_app.codec.preparation import prepared_codec
from serve_app.errors import CheckpointError
from serve_app.settings import CodecSettings, Settings
from tests.support.sounds import speech_like

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation.platformdirs, "user_cache_dir", lambda *_, **__: str(cache))


@pytest.fixture(scope="module")
def folder(tiny_checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a voice of its own."""
    copy = tmp_path_factory.mktemp("checkpoint") / "tiny"
    shutil.copytree(tiny_checkpoint_folder, copy)
    (copy / "prompts").mkdir()
    (copy / "prompts" / "conversational_a.wav").write_bytes(speech_like(0.5))
    return copy


def sound_of(weights: DecoderWeights, mimi: MimiModel) -> list[int]:
    frames = np.random.default_rng(1).integers(mimi.cardinality, size=(20, mimi.num_codebooks))
    decoder = NativeSlotDecoder(weights, 1, 1)
    slot = decoder.open()
    assert slot is not None
    return decoder.decode({slot: frames})[slot].tolist()


def test_it_is_the_checkpoints_codec_and_it_is_made_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(model=str(folder), device="cpu")
    made = prepared_codec(settings)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it was made twice"))
    found = prepared_codec(settings)
    _, mimi = load_codec(settings)
    assert made is not None and found is not None
    assert sound_of(found.weights, mimi) == sound_of(decoder_weights(mimi), mimi)
    assert found.fingerprint == made.fingerprint == fingerprint(mimi)
    voice = found.voices[0]
    assert voice.anchor and voice.text == made.voices[0].text
    clip = next(iter(prompt_clips(folder)))
    assert voice.codes == ClipEncoder(mimi, 0).encode(clip)


def prompt_clips(folder: Path) -> list[bytes]:
    from serve_app.codec.default_voices import default_clips

    return [pcm for _, _, pcm in default_clips(folder)]


def test_other_files_are_another_codec(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(model=str(folder), device="cpu")
    prepared_codec(settings)
    (folder / "prompts" / "conversational_a.txt").write_text("Other words.")
    changed = prepared_codec(settings)
    assert changed is not None and changed.voices[0].text == "Other words."


def test_a_replica_starts_and_decodes_without_torch(folder: Path, cache: Path) -> None:
    prepared_codec(Settings(model=str(folder), device="cpu"))
    code = (
        "import sys, platformdirs; platformdirs.user_cache_dir = lambda *_, **__: sys.argv[2]\n"
        "from serve_app.codec.decoder_service import DecoderService\n"
        "from serve_app.codec.encoder_service import EncoderService\n"
        "from serve_app.settings import CodecSettings, Settings\n"
        "settings = Settings(model=sys.argv[1], device='cpu', codec=CodecSettings(load_encoder='first_clip'))\n"
        "DecoderService.load(settings, None).stop(); EncoderService.load(settings).stop()\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(cache)], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


async def test_the_encoder_that_loads_late_gives_the_same_codes(folder: Path) -> None:
    settings = Settings(model=str(folder), device="cpu", codec=CodecSettings(load_encoder="first_clip"))
    (clip,) = prompt_clips(folder)
    _, mimi = load_codec(settings)
    service = EncoderService.load(settings)
    try:
        assert await service.encode(clip) == await service.encode(clip) == ClipEncoder(mimi, 0).encode(clip)
        assert await service.codec() == fingerprint(mimi)
    finally:
        service.stop()


@pytest.mark.parametrize(
    "settings",
    [Settings(device="cuda"), Settings(device="cpu", codec=CodecSettings(step="moshi"))],
    ids=["card", "moshi"],
)
def test_moshi_is_not_prepared(settings: Settings) -> None:
    assert prepared_codec(settings) is None


def test_a_checkpoint_that_cannot_be_served_says_why(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "config.json").write_text('{"model_type": "csm"}')
    with pytest.raises(CheckpointError, match="codec weights"):
        prepared_codec(Settings(model=str(broken), device="cpu"))


@pytest.fixture
def dying(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a checkpoint whose codec was not made yet. The process that is to make it dies half-way."""

    run = subprocess.run

    def dies(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        if "serve_app.codec.prepare" not in command:
            return run(command, **how)
        Path(json.loads(command[-1])["path"]).write_bytes(b"half of it")
        return subprocess.CompletedProcess(command, -9, stdout="")

    monkeypatch.setattr(subprocess, "run", dies)
    return Settings(model=str(shutil.copytree(folder, tmp_path / "unknown")), device="cpu")


def test_a_process_that_dies_leaves_no_draft(dying: Settings, cache: Path) -> None:
    """No other test has the preparing process die. A full-size draft has 300 MB."""
    assert prepared_codec(dying) is None
    assert list(cache.rglob("*.draft")) == []


def test_drafts_of_replicas_that_died_are_cleared_and_one_that_is_written_stays(dying: Settings, cache: Path) -> None:
    """No other test finds drafts at start: a replica that is killed cannot clear its own."""
    (cache / "codecs").mkdir(exist_ok=True)
    left, written = (cache / "codecs" / name for name in ("left.draft", "written.draft"))
    for draft in (left, written):
        draft.write_bytes(b"half of it")
    with written.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepared_codec(dying)
    assert (left.exists(), written.exists()) == (False, True)
