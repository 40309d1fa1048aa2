"""The parts of an answer: each piece of each turn, in order."""

from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.messages import Codes
from serve_app.speech.scene import Turn
from serve_app.speech.text.splitting import Break, Piece

_PAUSE_SECONDS = {Break.WORD: 0.0, Break.CLAUSE: 0.16, Break.SENTENCE: 0.4, Break.PARAGRAPH: 0.72}
"""Between two pieces of one turn, by what ends the first. A reader's usual pauses."""


@dataclass(frozen=True, slots=True)
class Part:
    """One utterance of the engine."""

    number: int
    """Within the answer, from 0."""
    turn: int
    speaker: int
    piece: Piece
    chars_before: int
    """Typed characters of the turns before this one."""
    is_last: bool
    """Known to be the answer's last. While text is still coming, no part is."""
    resume: Codes | None = None
    """What was spoken of it before the answer broke off."""

    @property
    def is_only(self) -> bool:
        return self.number == 0 and self.is_last

    @property
    def pause_seconds(self) -> float:
        """Silence that belongs between this part and the next of the same turn."""
        return _PAUSE_SECONDS[self.piece.ends_with]


def parts_of(turns: Sequence[Turn]) -> list[Part]:
    parts: list[Part] = []
    chars_before = 0
    for turn_number, turn in enumerate(turns):
        pieces = turn.pieces
        for number, piece in enumerate(pieces):
            is_last = number == len(pieces) - 1 and turn_number == len(turns) - 1
            parts.append(Part(len(parts), turn_number, turn.speaker, piece, chars_before, is_last))
        chars_before += len(turn.text)
    return parts
