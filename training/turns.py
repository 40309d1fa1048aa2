"""Utterances as the language model learns them: turns of a conversation, with hints that only training has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.corpus import Utterance
from training.shape import NUM_CODEBOOKS
from training.tokens import SPEAKER_OFFSET, TEXT_OFFSET, new_tokenizer, turn_ids

PARTS = 3
"""Frames of a phoneme at most; a comma's pause is the longest."""
MAX_PHONEMES = 12
"""Of a word, that are asked for at its end."""


@dataclass(frozen=True, slots=True)
class Casting:
    """Who has which voice in a conversation."""

    own_voice_share: float
    """Of conversations in which speaker 0 has voice 0 and 1 voice 1; in the others the context alone tells."""
    others: range
    """The speakers of those others."""
    alone_share: float = 0.0
    """Of the others, those in which one voice speaks all the time."""


@dataclass(frozen=True, slots=True)
class Turn:
    """`ids` without a speaker of its own yet; positions in `hints` and `word_ends` count from the turn's first id."""

    utterance: Utterance
    classes: NDArray[np.int64]
    """`[frames]`: phoneme and part in one number."""
    hints: NDArray[np.int64]
    """`[frames, 2, 2]`: first and last position to look at, for the letter of the sound and for its word's end."""
    word_ends: list[tuple[int, list[int]]]
    """Where each word is over, and its phonemes."""

    @property
    def num_positions(self) -> int:
        return len(self.utterance.text) + TEXT_OFFSET + 1 + len(self.utterance.codes) + 1


@dataclass(frozen=True, slots=True)
class Batch:
    """`[rows, positions]` each; a position whose `predicts` is set foretells the frame at the next one."""

    text: Tensor
    codes: Tensor
    """`[rows, positions, codebooks]`; zeros where there is no frame, and in the frame that ends a turn."""
    is_text: Tensor
    is_audio: Tensor
    predicts: Tensor
    classes: Tensor
    """Of the frame that is foretold; -1 elsewhere."""
    voices: Tensor
    """At a turn's text, the voice that will speak it; -1 elsewhere."""
    turns: Tensor
    """The number of the turn within its row; -1 where there is none."""
    speakers: Tensor
    names_speaker: Tensor
    """Where the speaker's number stands."""
    hints: Tensor
    """`[rows, positions, 2, 2]`, see Turn."""
    word_ends: Tensor
    """`[words, 2]`: row and position."""
    word_phonemes: Tensor
    """`[words, MAX_PHONEMES]`"""


class Phonemes:
    """Numbers for the names; one more for what follows a word's last."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(set(names))
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def number(self, name: str) -> int:
        return self._numbers[name]

    def padded(self, numbers: Sequence[int]) -> list[int]:
        return [*numbers, *[len(self.names)] * MAX_PHONEMES][:MAX_PHONEMES]


def make_turn(utterance: Utterance, phonemes: Phonemes) -> Turn:
    labels = utterance.labels
    numbers = np.array([phonemes.number(str(name)) for name in labels["phoneme"]])
    start = TEXT_OFFSET + labels["word_start"]
    last = start + labels["word_length"] - 1
    letter = start + labels["place"] * labels["word_length"]
    pause = labels["is_pause"]
    end = TEXT_OFFSET + len(utterance.text)
    first_letter = np.where(pause, last + 1, np.maximum(start, letter - 1.6)).astype(np.int64)
    last_letter = np.where(pause, np.minimum(last + 2, end), np.minimum(last, letter + 0.8)).astype(np.int64)
    hints = np.stack([np.stack([first_letter, last_letter], -1), np.stack([last, last + 1], -1)], 1)
    words: dict[int, list[int]] = {}
    for number, position, part in zip(numbers[~pause], last[~pause] + 1, labels["part"][~pause], strict=True):
        words.setdefault(int(position), [])
        if part == 0:
            words[int(position)].append(int(number))
    return Turn(utterance, numbers * PARTS + labels["part"], hints, list(words.items()))


class Conversations:
    """Draws rows of turns."""

    def __init__(self, turns: Sequence[Turn], phonemes: Phonemes, casting: Casting) -> None:
        self._turns = sorted(turns, key=lambda turn: turn.num_positions)
        self._lengths = np.array([turn.num_positions for turn in self._turns])
        self._phonemes = phonemes
        self._casting = casting
        self._tokenizer = new_tokenizer()

    def batch(self, draw: np.random.Generator, rows: int, positions: int, longest: int) -> Batch:
        """Rows of up to `positions`, of turns of up to `longest`."""
        allowed = int(np.searchsorted(self._lengths, longest, side="right"))
        return self._laid_out([self._row(draw, positions, allowed) for _ in range(rows)], positions)

    def _row(self, draw: np.random.Generator, positions: int, allowed: int) -> list[tuple[Turn, int]]:
        row: list[tuple[Turn, int]] = []
        speakers, voices = self._cast(draw)
        while True:
            turn = self._turns[draw.integers(allowed)]
            if turn.utterance.voice not in voices:
                continue
            if turn.num_positions > positions:
                return row
            positions -= turn.num_positions
            row.append((turn, speakers[turn.utterance.voice]))

    def _cast(self, draw: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The speaker of each voice, and the voices that speak."""
        casting = self._casting
        if draw.random() <= casting.own_voice_share:
            return (0, 1), (0, 1)
        speakers = tuple(map(int, draw.choice(casting.others, 2, replace=False)))
        if casting.alone_share and draw.random() < casting.alone_share:
            return speakers, (int(draw.integers(2)),)
        return speakers, (0, 1)

    def _laid_out(self, rows: Sequence[Sequence[tuple[Turn, int]]], positions: int) -> Batch:
        shape = (len(rows), positions)
        text = np.zeros(shape, np.int64)
        classes, voices, turns, speakers = (np.full(shape, -1) for _ in range(4))
        codes = np.zeros((*shape, NUM_CODEBOOKS), np.int64)
        is_text, is_audio, predicts, names_speaker = (np.zeros(shape, bool) for _ in range(4))
        hints = np.zeros((*shape, 2, 2), np.int64)
        word_ends, word_phonemes = [], []
        for number, row in enumerate(rows):
            at = 0
            for place, (turn, speaker) in enumerate(row):
                ids = turn_ids(self._tokenizer, turn.utterance.text, speaker)
                audio, end = at + len(ids), at + turn.num_positions
                text[number, at:audio] = ids
                is_text[number, at:audio] = True
                turns[number, at:end], speakers[number, at:end] = place, speaker
                names_speaker[number, at + SPEAKER_OFFSET] = True
                voices[number, at + TEXT_OFFSET : audio] = turn.utterance.voice
                is_audio[number, audio:end] = True
                codes[number, audio : end - 1] = turn.utterance.codes
                predicts[number, audio - 1 : end - 1] = True
                classes[number, audio - 1 : end - 2] = turn.classes
                hints[number, audio - 1 : end - 2] = at + turn.hints
                for position, numbers in turn.word_ends:
                    word_ends.append((number, at + position))
                    word_phonemes.append(self._phonemes.padded(numbers))
                at = end
        return Batch(
            torch.from_numpy(text),
            torch.from_numpy(codes),
            torch.from_numpy(is_text),
            torch.from_numpy(is_audio),
            torch.from_numpy(predicts),
            torch.from_numpy(classes),
            torch.from_numpy(voices),
            torch.from_numpy(turns),
            torch.from_numpy(speakers),
            torch.from_numpy(names_speaker),
            torch.from_numpy(hints),
            torch.tensor(word_ends),
            torch.tensor(word_phonemes),
        )


class WordLists:
    """Draws rows of words without sense or sound, and what each sounds like."""

    def __init__(self, words: Mapping[str, Sequence[int]], phonemes: Phonemes) -> None:
        self._words = sorted(words)
        self._short = [word for word in self._words if len(word) <= 4]
        self._sounds = {word: phonemes.padded(words[word]) for word in self._words}
        self._tokenizer = new_tokenizer()

    def batch(self, draw: np.random.Generator, rows: int, positions: int) -> tuple[Tensor, Tensor, Tensor]:
        """Text `[rows, positions]`, where words end `[words, 2]`, their phonemes `[words, MAX_PHONEMES]`."""
        text = np.zeros((rows, positions), np.int64)
        ends, sounds = [], []
        for row in range(rows):
            said = ""
            while True:
                pool = self._words if draw.random() < 0.8 else self._short
                word = pool[draw.integers(len(pool))]
                end = TEXT_OFFSET + len(said) + len(word)
                if end >= positions:
                    break
                said += word + (" " if draw.random() < 0.85 else draw.choice(list(".,?")))
                ends.append((row, end))
                sounds.append(self._sounds[word])
            ids = turn_ids(self._tokenizer, said, int(draw.integers(2)))[:positions]
            text[row, : len(ids)] = ids
        return torch.from_numpy(text), torch.tensor(ends), torch.tensor(sounds)
