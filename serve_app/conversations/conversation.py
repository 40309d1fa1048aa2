"""A conversation as its owner sees it, and what the model hears of it."""

from dataclasses import dataclass

from serve_app.conversations.turn import Turn
from serve_app.messages import ContextSegment


@dataclass(frozen=True, slots=True)
class Conversation:
    """Times are unix seconds."""

    id: str
    owner: str
    created_at: float
    expires_at: float
    voices: tuple[ContextSegment, ...]
    """Hold the speakers' voices, and always stay."""
    turns: tuple[Turn, ...]
    first_kept: int
    """The oldest turn that the model still hears."""
    num_codebooks: int

    @property
    def history(self) -> tuple[ContextSegment, ...]:
        """What the next turn is conditioned on, after the voices."""
        return tuple(segment for turn in self.turns[self.first_kept :] for segment in turn.segments())

    @property
    def context_frames(self) -> int:
        """Frames of voices and history."""
        return sum(segment.codes.num_frames for segment in (*self.voices, *self.history))
