"""Encodes context audio to codes, in one pass over whole clips, with a cache by content."""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256

import numpy as np
import torch
from moshi.models.compression import MimiModel
from torch import Tensor

from serve_app.messages import FRAME_SAMPLES, SAMPLE_RATE_HZ, Codes

_FULL_SCALE = 32768.0
_FRAME_BYTES = 2 * FRAME_SAMPLES
_PASS_BYTES = 90 * 2 * SAMPLE_RATE_HZ
"""The most padded audio of one pass. A second takes about 30 MB at full size (measured), so this limits a pass to the
memory that the longest single clip of the default limits needs."""


class ClipEncoder:
    """Owns a Mimi that never streams. Not thread-safe."""

    def __init__(self, mimi: MimiModel, cache_entries: int) -> None:
        assert not mimi.is_streaming, "a streaming Mimi would mix the clips' states: load a second one"
        self._mimi = mimi
        self._device = next(mimi.parameters()).device
        self._cache_entries = cache_entries
        self.num_hits = 0
        """Clips since the start whose codes were in the cache."""
        self._cache: OrderedDict[bytes, Codes] = OrderedDict()

    def encode(self, pcm: bytes) -> Codes:
        """Encode signed 16 bit little-endian mono PCM at 24 kHz, padded with silence to a whole frame."""
        return self.encode_batch([pcm])[0]

    def encode_batch(self, clips: Sequence[bytes], owners: Sequence[str] = ()) -> list[Codes]:
        """Encode clips together. Equal clips are encoded once, cached ones not at all.

        owners: whose each clip is, if not all belong to one. An owner finds its own clips in the cache: otherwise the
        time would tell it what others have sent.

        Mimi is causal, so the padding of a shorter clip cannot change its own frames. Batch size changes rounding,
        though: where two codebook entries are about equally near, a code may differ from that of a single clip.
        """
        assert all(clips), "an empty clip has no codes"
        keys = [_key(clip, owner) for clip, owner in zip(clips, owners or [""] * len(clips), strict=True)]
        codes = {key: self._cache[key] for key in keys if key in self._cache}
        self.num_hits += sum(key in codes for key in keys)
        fresh = {key: clip for key, clip in zip(keys, clips, strict=True) if key not in codes}
        for group in _passes(fresh):
            codes |= zip(group, self._encode_pass(group.values()), strict=True)
        self._remember(keys, codes)
        return [codes[key] for key in keys]

    @torch.inference_mode()
    def _encode_pass(self, clips: Collection[bytes]) -> Iterator[Codes]:
        codes = self._mimi.encode(_padded(clips).to(self._device))
        frames = codes.transpose(1, 2).cpu().numpy()
        return (Codes.from_array(row[: _num_frames(clip)]) for row, clip in zip(frames, clips, strict=True))

    def _remember(self, keys: Iterable[bytes], codes: Mapping[bytes, Codes]) -> None:
        for key in keys:
            self._cache[key] = codes[key]
            self._cache.move_to_end(key)
        while len(self._cache) > self._cache_entries:
            self._cache.popitem(last=False)


def _key(clip: bytes, owner: str) -> bytes:
    return sha256(clip).digest() + owner.encode()


def _num_frames(clip: bytes) -> int:
    return -(-len(clip) // _FRAME_BYTES)


def _padded(clips: Collection[bytes]) -> Tensor:
    """[clips, 1, samples], float32 in -1..1, zeros after each clip's end."""
    samples = np.zeros((len(clips), 1, max(map(_num_frames, clips)) * FRAME_SAMPLES), dtype=np.float32)
    for row, clip in zip(samples, clips, strict=True):
        row[0, : len(clip) // 2] = np.frombuffer(clip, dtype="<i2") / _FULL_SCALE
    return torch.from_numpy(samples)


def _passes(clips: Mapping[bytes, bytes]) -> Iterator[dict[bytes, bytes]]:
    """Groups clips of similar length, as many as the padded audio of one pass allows."""
    group: dict[bytes, bytes] = {}
    for key, clip in sorted(clips.items(), key=lambda item: len(item[1])):
        if group and (len(group) + 1) * len(clip) > _PASS_BYTES:
            yield group
            group = {}
        group[key] = clip
    if group:
        yield group
