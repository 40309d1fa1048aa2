"""Keys and values of contexts that were read before, so that a voice or an earlier turn is not read again.

A prompt's context is a chain of pieces (`prompt.Piece`), each named by a hash of everything up to its end: what a
position holds depends on all positions before it. A piece is kept once, for its own positions only.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from serve_app.engine.prompt import Piece


@dataclass(frozen=True, slots=True)
class CachedPiece:
    """`kv` [layers, 2, G, end - start, D] of positions start..end-1; the piece may go on a little beyond `end`."""

    start: int
    end: int
    kv: Tensor

    @property
    def num_bytes(self) -> int:
        return self.kv.nbytes

    def on(self, device: torch.device) -> "CachedPiece":
        return replace(self, kv=self.kv.to(device))


class PrefixCache:
    """Least recently used pieces go first: from the device's memory to the host's, and from there for good.

    On a CPU there is one memory, and `max_host_bytes` is not used.
    """

    def __init__(self, device: torch.device, max_device_bytes: int, max_host_bytes: int) -> None:
        self._device = device
        self._max_device_bytes = max_device_bytes
        self._max_host_bytes = max_host_bytes if device.type != "cpu" else 0
        self._on_device: OrderedDict[bytes, CachedPiece] = OrderedDict()
        self._on_host: OrderedDict[bytes, CachedPiece] = OrderedDict()

    @property
    def num_bytes(self) -> int:
        return _num_bytes(self._on_device) + _num_bytes(self._on_host)

    def longest_prefix(self, pieces: tuple[Piece, ...]) -> list[CachedPiece]:
        """The cached beginning of a chain, in order and without a gap, on the device."""
        found: list[Piece] = []
        for piece in pieces:
            cached = self._on_device.get(piece.key) or self._on_host.get(piece.key)
            if cached is None:
                break
            found.append(piece)
            if cached.end < piece.end:
                break
        return list(reversed([self._touched(piece.key) for piece in reversed(found)]))

    def put(self, key: bytes, piece: CachedPiece) -> None:
        """Keep a piece, whose memory now belongs to the cache."""
        if piece.num_bytes <= self._max_device_bytes:
            self._on_host.pop(key, None)
            self._on_device[key] = piece
            self._on_device.move_to_end(key)
            self._make_room()

    def holds(self, key: bytes) -> bool:
        return key in self._on_device or key in self._on_host

    def _touched(self, key: bytes) -> CachedPiece:
        """Called from a chain's end to its beginning: it must lose its end first, which is out of reach without."""
        piece = self._on_device.get(key)
        if piece is None:
            piece = self._on_host[key].on(self._device)
        self.put(key, piece)
        return piece

    def _make_room(self) -> None:
        device_bytes, host_bytes = _num_bytes(self._on_device), _num_bytes(self._on_host)
        while device_bytes > self._max_device_bytes:
            key, piece = self._on_device.popitem(last=False)
            device_bytes -= piece.num_bytes
            if piece.num_bytes <= self._max_host_bytes:
                self._on_host[key] = piece.on(torch.device("cpu"))
                host_bytes += piece.num_bytes
        while host_bytes > self._max_host_bytes:
            _, piece = self._on_host.popitem(last=False)
            host_bytes -= piece.num_bytes


def _num_bytes(pieces: OrderedDict[bytes, CachedPiece]) -> int:
    return sum(piece.num_bytes for piece in pieces.values())
