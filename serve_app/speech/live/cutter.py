"""Cuts text that is still growing into stretches, each of which can be prepared and spoken by itself.

The cuts follow from the text alone, so it does not matter in what portions the text came.
"""

from dataclasses import dataclass

from serve_app.speech.live.boundaries import Boundary, boundary_after, break_at_end, has_open_markup, looks_ended
from serve_app.speech.text.splitting import FEWEST_WORDS, Break

_MAX_WORD_CHARS = 1000
"""A longer run without a boundary is cut there, so that what is kept stays bounded."""
_FAR = 3
"""Lengths of a piece after which a text is cut even where that may change how it is read."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When growing text is long enough to be spoken. Texts count anew after each flush."""

    num_clauses: int = 1
    """How many of the first stretches may end at a clause. Later ones end at a sentence, if it fits into a piece."""
    least_chars: tuple[int, ...] = ()
    """Typed characters that the first, second, ... stretch has at least. The last number holds for all that follow."""
    patience_seconds: float | None = 0.5
    """How long speech may wait for more text before a clause is spoken after all, and a sentence without its
    successor. None waits until more text comes or it is flushed."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Typed text from one cut to the next."""

    text: str
    start: int
    """Place of its first character in all text that was fed."""
    ends_with: Break
    following: str = ""
    """The first character behind it, if it was cut within a sentence."""

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class Cutter:
    def __init__(self, longest_words: int, schedule: Schedule) -> None:
        """`longest_words`: of a piece."""
        self._longest_words = longest_words
        self._schedule = schedule
        self._text = ""
        self._start = 0
        self._num_cut = 0
        self._rescan()

    @property
    def has_text(self) -> bool:
        return bool(self._text.strip())

    def begin_at(self, place: int) -> None:
        """What is fed stands behind `place` characters that others have read."""
        self._start = place

    def feed(self, text: str) -> list[Stretch]:
        """The stretches that are complete with this text."""
        self._text += text
        found: list[Stretch] = []
        while (cut := self._next_cut()) is not None:
            found.append(self._taken(*cut))
        return found

    def settle(self, is_quiet: bool) -> list[Stretch]:
        """What can be spoken if the listener has to wait. `is_quiet`: nothing came for a while."""
        if self._clause is not None:
            return [self._taken(*_at(self._clause))]
        return self.flush() if is_quiet and looks_ended(self._text) else []

    def flush(self) -> list[Stretch]:
        """All that is left: the text ends here, and what is fed from now on begins anew."""
        rest = [self._taken(len(self._text), break_at_end(self._text))] if self.has_text else []
        self._num_cut = 0
        return rest

    def _next_cut(self) -> tuple[int, Break] | None:
        while (boundary := boundary_after(self._text, self._scanned)) is not None:
            self._scanned = boundary.next
            self._weight += boundary.weight
            if self._weight > self._longest_words:
                best = self._clause or self._word
                if best is None and (boundary.strength is not None or self._weight > _FAR * self._longest_words):
                    best = boundary
                if best is not None:
                    return _at(best)
            elif self._may_end(boundary):
                return _at(boundary)
            self._remember(boundary)
        if len(self._text) - self._scanned > _MAX_WORD_CHARS:
            return self._scanned + _MAX_WORD_CHARS, Break.WORD
        return None

    def _may_end(self, boundary: Boundary) -> bool:
        if boundary.strength is None or self._weight < FEWEST_WORDS or boundary.next < self._least_chars:
            return False
        at_clause = self._num_cut < self._schedule.num_clauses
        is_strong = boundary.strength >= (Break.CLAUSE if at_clause else Break.SENTENCE)
        return is_strong and not has_open_markup(self._text[: boundary.next])

    @property
    def _least_chars(self) -> int:
        numbers = self._schedule.least_chars
        return numbers[min(self._num_cut, len(numbers) - 1)] if numbers else 0

    def _remember(self, boundary: Boundary) -> None:
        if boundary.strength is None or self._weight < FEWEST_WORDS:
            return
        if boundary.strength >= Break.CLAUSE:
            self._clause = boundary
        else:
            self._word = boundary

    def _taken(self, end: int, ends_with: Break) -> Stretch:
        following = self._text[end : end + 1] if ends_with <= Break.CLAUSE else ""
        stretch = Stretch(self._text[:end], self._start, ends_with, following)
        self._text, self._start = self._text[end:], self._start + end
        self._num_cut += 1
        self._rescan()
        return stretch

    def _rescan(self) -> None:
        self._scanned = 0
        self._weight = 0.0
        self._clause: Boundary | None = None
        self._word: Boundary | None = None


def _at(boundary: Boundary) -> tuple[int, Break]:
    return boundary.next, boundary.strength or Break.WORD
