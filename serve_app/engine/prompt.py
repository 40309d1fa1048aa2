"""Builds the prompt of a request: the positions that the backbone reads before it generates."""

import hashlib
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serve_app.errors import ContextTooLong, InvalidRequest
from serve_app.messages import Codes, ContextSegment, GenerationRequest


class Tokenizer(Protocol):
    def encode(self, speaker: int, text: str) -> list[int]:
        """Token ids of one passage, between BOS and EOS."""
        ...


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """Limits of a prompt. `max_positions` counts prompt and generated frames together."""

    num_codebooks: int
    codebook_size: int
    max_positions: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Positions start..end-1: a segment's text and frames. `key` is a hash of them and of everything before.

    The frame of zeros that ends a segment belongs to the next piece. So a generated turn, which has no such frame yet,
    is the same piece as that turn given as context.
    """

    key: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """P positions. Each is a text token, or a frame of codes where `text_ids` is -1.

    The last `num_resumed` positions are frames of this utterance that were generated before.
    """

    text_ids: NDArray[np.int64]
    """[P]"""
    frames: NDArray[np.int64]
    """[P, num_codebooks]"""
    num_resumed: int
    max_frames: int
    """The request's limit, or less where too few positions are left. Includes the resumed frames."""
    dropped_segments: int
    pieces: tuple[Piece, ...] = ()
    """The context's segments, in order."""
    spoken: Piece | None = None
    """The text and the resumed frames, if this replica generated them itself."""
    tail: bytes = b""
    """What the key of the spoken piece follows."""

    @property
    def num_positions(self) -> int:
        return len(self.text_ids)

    @property
    def chain(self) -> tuple[Piece, ...]:
        """All pieces that the prefix cache may hold."""
        return self.pieces if self.spoken is None else (*self.pieces, self.spoken)

    def after(self, codes: Codes) -> "Prompt":
        """The prompt that continues after `codes`, which include the resumed frames."""
        new = codes.to_array()[self.num_resumed :].astype(np.int64)
        return replace(
            self,
            text_ids=np.concatenate([self.text_ids, np.full(len(new), -1, dtype=np.int64)]),
            frames=np.concatenate([self.frames, new]),
            num_resumed=codes.num_frames,
            spoken=self.spoken_piece(codes),
        )

    def spoken_piece(self, codes: Codes) -> Piece:
        """The piece that this prompt's own text and its `codes` are to a prompt that has them as context."""
        start = self.pieces[-1].end if self.pieces else 0
        end = self.num_positions - self.num_resumed + codes.num_frames
        text_start = start + 1 if self.pieces else 0
        target = self.text_ids[text_start : self.num_positions - self.num_resumed]
        return Piece(_chained(self.tail, target, codes), start, end)


@dataclass(frozen=True, slots=True)
class _Segment:
    text_ids: list[int]
    codes: Codes
    anchor: bool
    public: bool

    @property
    def num_positions(self) -> int:
        return len(self.text_ids) + self.codes.num_frames + 1


def build_prompt(request: GenerationRequest, tokenizer: Tokenizer, limits: ModelLimits) -> Prompt:
    """Text and audio of the context, then the text to speak (format: Sesame's csm/generator.py).

    Drops the oldest segments that are not anchors, whole, until the longest answer fits. If that is not enough it
    shortens the answer. Raises ContextTooLong where fewer than `min_frames` frames (or one) would fit.
    """
    target = tokenizer.encode(request.speaker, request.text)
    segments = [
        _Segment(tokenizer.encode(s.speaker, s.text), _checked(s, limits), s.anchor, s.public) for s in request.context
    ]
    wanted = len(target) + request.sampling.max_frames
    kept = _drop_oldest(segments, limits.max_positions - wanted)
    room = limits.max_positions - len(target) - sum(segment.num_positions for segment in kept)
    if room < max(1, request.sampling.min_frames):
        raise _too_long(len(target), kept, request, limits)
    resumed = request.resume or Codes.empty(limits.num_codebooks)
    text_ids, frames = _lay_out(kept, target, resumed, limits.num_codebooks)
    max_frames = min(request.sampling.max_frames, room)
    pieces, tail = _pieces(kept, request)
    return Prompt(text_ids, frames, resumed.num_frames, max_frames, len(segments) - len(kept), pieces, tail=tail)


def _checked(segment: ContextSegment, limits: ModelLimits) -> Codes:
    codes = segment.codes
    if codes.num_codebooks != limits.num_codebooks or (codes.data and codes.to_array().max() >= limits.codebook_size):
        raise InvalidRequest(
            "context", f"codes must have {limits.num_codebooks} codebooks with values below {limits.codebook_size}"
        )
    return codes


def _drop_oldest(segments: list[_Segment], room: int) -> list[_Segment]:
    kept = list(segments)
    taken = sum(segment.num_positions for segment in kept)
    for segment in segments:
        if taken <= room:
            break
        if not segment.anchor:
            kept.remove(segment)
            taken -= segment.num_positions
    return kept


def _too_long(num_target: int, kept: list[_Segment], request: GenerationRequest, limits: ModelLimits) -> ContextTooLong:
    needed = max(1, request.sampling.min_frames)
    num_anchor = sum(segment.num_positions for segment in kept)
    field, remedy = ("context", "shorten the voice's clip or the text") if kept else ("text", "shorten the text")
    return ContextTooLong(
        field,
        f"the text takes {num_target} positions and the context that must be kept {num_anchor}; with {needed} for "
        f"speech that is more than the model's {limits.max_positions}: {remedy}",
    )


def _lay_out(
    segments: list[_Segment], target: list[int], resumed: Codes, num_codebooks: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    text_ids: list[NDArray[np.int64]] = []
    frames: list[NDArray[np.int64]] = []

    def add_text(ids: list[int]) -> None:
        text_ids.append(np.array(ids, dtype=np.int64))
        frames.append(np.zeros((len(ids), num_codebooks), dtype=np.int64))

    def add_frames(codes: NDArray[np.int64]) -> None:
        text_ids.append(np.full(len(codes), -1, dtype=np.int64))
        frames.append(codes)

    for segment in segments:
        add_text(segment.text_ids)
        add_frames(segment.codes.to_array().astype(np.int64))
        add_frames(np.zeros((1, num_codebooks), dtype=np.int64))  # As in training, a frame of zeros ends context audio.
    add_text(target)
    add_frames(resumed.to_array().astype(np.int64))
    return np.concatenate(text_ids), np.concatenate(frames)


def _pieces(segments: list[_Segment], request: GenerationRequest) -> tuple[tuple[Piece, ...], bytes]:
    """The pieces of the context, and what the key of a piece behind them follows.

    Keys begin with the adapter's, since it changes keys and values. From the first segment on that is not public they
    are the owner's own: otherwise the time of a request would tell it what other keys have sent.
    """
    pieces: list[Piece] = []
    key = request.adapter.key if request.adapter else b""
    start, position, is_own = 0, 0, not request.owner
    for segment in segments:
        if not (is_own or segment.public):
            key, is_own = _owned(key, request.owner), True
        key = _chained(key, np.array(segment.text_ids, dtype=np.int64), segment.codes)
        end = position + segment.num_positions - 1
        pieces.append(Piece(key, start, end))
        start, position = end, end + 1
    return tuple(pieces), key if is_own else _owned(key, request.owner)


def _owned(parent: bytes, owner: str) -> bytes:
    return hashlib.sha256(parent + owner.encode()).digest()


def _chained(parent: bytes, text_ids: NDArray[np.int64], codes: Codes) -> bytes:
    # The length comes first, so that a text can never hash like audio.
    parts = (parent, len(text_ids).to_bytes(8, "little"), text_ids.tobytes(), codes.data)
    return hashlib.sha256(b"".join(parts)).digest()
