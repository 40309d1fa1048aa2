"""Step 2: sentences as codes, and what is said in each frame. `python -m training.corpus --folder build/demo-voice`"""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.codec import trained_codec
from training.command import folder_argument
from training.espeak import Espeak
from training.robot_speech import Frame, say
from training.texts import Sentences

SHARDS, _TEXTS_A_SHARD = 24, 500
_FIRST_SEED = 100
LABEL = np.dtype(
    [
        ("phoneme", "U6"),
        ("part", "i4"),
        ("place", "f4"),
        ("word_start", "i4"),
        ("word_length", "i4"),
        ("is_pause", "?"),
    ]
)
"""Of a frame; see robot_speech.Frame and espeak.Phoneme."""

log = logging.getLogger("training")


@dataclass(frozen=True, slots=True)
class Utterance:
    text: str
    voice: int
    codes: NDArray[np.uint8]
    """`[frames, codebooks]`"""
    labels: NDArray[np.void]
    """`[frames]` of LABEL"""


def read_corpus(folder: Path) -> Iterator[Utterance]:
    for shard in range(SHARDS):
        with np.load(_path(folder, shard)) as file:
            texts, voices, ends, codes, labels = (file[name] for name in ("texts", "voices", "ends", "codes", "labels"))
        starts = np.concatenate([[0], ends[:-1]])
        for text, voice, start, end in zip(texts, voices, starts, ends, strict=True):
            yield Utterance(str(text), int(voice), codes[start:end], labels[start:end])


def make(folder: Path) -> None:
    missing = [shard for shard in range(SHARDS) if not _path(folder, shard).exists()]
    _path(folder, 0).parent.mkdir(exist_ok=True)
    # Not forked: espeak-ng and torch have threads and globals of their own.
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as workers:
        for done, _ in enumerate(workers.map(partial(_make_shard, folder), missing), start=1):
            log.info("corpus %d/%d", SHARDS - len(missing) + done, SHARDS)


def _path(folder: Path, shard: int) -> Path:
    return folder / "corpus" / f"{shard:03}.npz"


@torch.inference_mode()
def _make_shard(folder: Path, shard: int) -> None:
    torch.set_num_threads(1)
    espeak, codec = Espeak(), trained_codec(folder)
    utterances = []
    for text in islice(Sentences(_FIRST_SEED + shard), _TEXTS_A_SHARD):
        for voice in (0, 1):
            speech = say(espeak, text, voice)
            codes = codec.encode(torch.from_numpy(speech.wave)[None, None])[0].T.to(torch.uint8).numpy()
            labels = np.array([_label(frame) for frame in speech.frames], LABEL)
            utterances.append(Utterance(text, voice, codes, labels))
    _save(_path(folder, shard), utterances)


def _label(frame: Frame) -> tuple[str, int, float, int, int, bool]:
    phoneme = frame.phoneme
    return phoneme.name, frame.part, frame.place, phoneme.word_start, phoneme.word_length, phoneme.is_pause


def _save(path: Path, utterances: list[Utterance]) -> None:
    scratch = path.with_suffix(".part.npz")
    np.savez(
        scratch,
        texts=np.array([utterance.text for utterance in utterances]),
        voices=np.array([utterance.voice for utterance in utterances]),
        ends=np.cumsum([len(utterance.codes) for utterance in utterances]),
        codes=np.concatenate([utterance.codes for utterance in utterances]),
        labels=np.concatenate([utterance.labels for utterance in utterances]),
    )
    scratch.rename(path)


if __name__ == "__main__":
    make(folder_argument(__doc__))
