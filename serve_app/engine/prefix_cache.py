"""The prefix cache: keys and values of earlier contexts, so that a voice or a turn is prefilled once.

A prompt's context is a chain of pieces (`prompt.Piece`). The keys and values of a position depend on all positions
before it, so each piece is named by a hash of everything up to its end. A piece is stored once, for its own positions.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from serve_app.engine.prompt import Piece
from serve_app.engine.tier_copies import TierCopies, tier_copies


@dataclass(frozen=True, slots=True)
class CachedPiece:
    """`kv` [layers, 2, G, end - start, D] of positions start..end-1. The piece may end one position after `end`."""

    start: int
    end: int
    kv: Tensor

    @property
    def num_bytes(self) -> int:
        return self.kv.nbytes


class Tier:
    """Pieces in one kind of memory, in order of use, and the bytes that they take."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._pieces: OrderedDict[bytes, CachedPiece] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        return key in self._pieces

    def get(self, key: bytes) -> CachedPiece | None:
        return self._pieces.get(key)

    def put(self, key: bytes, piece: CachedPiece) -> None:
        """Store a piece as the most recently used one, instead of an older one of that key."""
        self.discard(key)
        self._pieces[key] = piece
        self.num_bytes += piece.num_bytes

    def discard(self, key: bytes) -> None:
        if (piece := self._pieces.pop(key, None)) is not None:
            self.num_bytes -= piece.num_bytes

    def evict(self) -> list[tuple[bytes, CachedPiece]]:
        """Take out the least recently used pieces until the others fit into `max_bytes`. Returns those taken out."""
        evicted: list[tuple[bytes, CachedPiece]] = []
        while self.num_bytes > self.max_bytes:
            key, piece = self._pieces.popitem(last=False)
            self.num_bytes -= piece.num_bytes
            evicted.append((key, piece))
        return evicted


class PrefixCache:
    """Evicts the least recently used pieces, from the device's memory to the host's and from there for good.

    On a CPU there is only one memory, and `max_host_bytes` has no effect.
    """

    def __init__(
        self, device: torch.device, max_device_bytes: int, max_host_bytes: int, copies: TierCopies | None = None
    ) -> None:
        self._copies = copies or tier_copies(device)
        self.on_device = Tier(max_device_bytes)
        self.on_host = Tier(max_host_bytes if device.type != "cpu" else 0)

    def longest_prefix(self, pieces: tuple[Piece, ...]) -> list[CachedPiece]:
        """The cached beginning of a chain, in order and without a gap, on the device."""
        found: list[tuple[bytes, CachedPiece]] = []
        for piece in pieces:
            cached = self._find(piece.key)
            if cached is None:
                break
            found.append((piece.key, cached))
            if cached.end < piece.end:
                break
        # The chain's end is used first, so that it is evicted first: without its beginning it is out of reach.
        for key, cached in reversed(found):
            self.put(key, cached)
        return [cached for _, cached in found]

    def put(self, key: bytes, piece: CachedPiece) -> None:
        """Store a piece as the most recently used one. Its memory belongs to the cache from here on."""
        if piece.num_bytes > self.on_device.max_bytes:
            return
        self.on_host.discard(key)
        self.on_device.put(key, piece)
        for evicted_key, evicted in self.on_device.evict():
            if evicted.num_bytes <= self.on_host.max_bytes:
                self.on_host.put(evicted_key, replace(evicted, kv=self._copies.to_host(evicted.kv)))
        self.on_host.evict()

    def _find(self, key: bytes) -> CachedPiece | None:
        if (piece := self.on_device.get(key)) is not None:
            return piece
        piece = self.on_host.get(key)
        return None if piece is None else replace(piece, kv=self._copies.to_device(piece.kv))
