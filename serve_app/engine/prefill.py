"""Decides which prompts one prefill pass reads, and how much of each. It restores and computes nothing."""

from typing import NamedTuple

from serve_app.engine.sequence import Sequence


class PrefillChunk(NamedTuple):
    """Positions start..end-1 of a prompt. It is empty where the prefix cache held the whole prompt."""

    row: int
    sequence: Sequence
    start: int
    end: int

    @property
    def num_tokens(self) -> int:
        return self.end - self.start

    @property
    def is_last(self) -> bool:
        """Whether the prompt is ready to decode after this chunk."""
        return self.end == self.sequence.num_to_prefill


class PrefillPass:
    """The chunks that the model reads together, in at most `max_tokens` positions."""

    def __init__(self, max_tokens: int) -> None:
        self.chunks: list[PrefillChunk] = []
        self.tokens_left = max_tokens
        self._pieces: set[bytes] = set()

    @property
    def is_full(self) -> bool:
        return self.tokens_left <= 0

    def add(self, row: int, sequence: Sequence) -> bool:
        """Take as many of a prompt's next positions as there is room for.

        False, with nothing taken, where the pass reads context that this prompt needs too. The prompt waits for the
        next pass and restores that context from the prefix cache.
        """
        pieces = sequence.unread_pieces
        if not self._pieces.isdisjoint(pieces):
            return False
        start = sequence.num_prefilled
        chunk = PrefillChunk(row, sequence, start, min(start + self.tokens_left, sequence.num_to_prefill))
        self.chunks.append(chunk)
        self._pieces.update(pieces)
        # An empty chunk counts as one position, so that a pass ends however many prompts were restored.
        self.tokens_left -= max(1, chunk.num_tokens)
        return True
