"""The parts of a text that is still growing."""

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import replace

from serve_app.errors import InvalidRequest
from serve_app.messages import TrainedFor
from serve_app.speech.costly import PREPARING
from serve_app.speech.live.cutter import Cutter, Schedule, Stretch
from serve_app.speech.parts import Part
from serve_app.speech.text.normalize import normalize
from serve_app.speech.text.prepared import Notice, Prepared, merged
from serve_app.speech.text.readable import readable
from serve_app.speech.text.splitting import Piece, pieces

_MAX_INLINE_CHARS = 1000
"""Text that is prepared on the event loop, in a few milliseconds."""
_USUAL = Schedule()


class LiveText:
    """Takes text as it comes, and gives parts as soon as they can be spoken.

    The methods that take text are called from the same event loop that reads the parts. To stop at once, leave the
    block of the answer that speaks it.
    """

    def __init__(
        self,
        trained_for: TrainedFor,
        schedule: Schedule = _USUAL,
        speaker: int = 0,
        is_normalized: bool = True,
        max_waiting_chars: int = 20_000,
    ) -> None:
        """max_waiting_chars: typed characters that were fed and are not being spoken yet."""
        self.speaker = speaker
        self.notices: tuple[Notice, ...] = ()
        """Kinds of text that are not spoken, so far."""
        self.num_chars = 0
        """Typed characters that were fed."""
        self.is_forgotten = False
        self._trained_for = trained_for
        self._is_normalized = is_normalized
        self._max_waiting_chars = max_waiting_chars
        self._patience_seconds = schedule.patience_seconds
        self._cutter = Cutter(trained_for.longest_piece_words, schedule)
        self._stretches: deque[Stretch] = deque()
        self._parts: deque[Part] = deque()
        self._num_parts = 0
        self._num_read = 0
        self._typed = ""
        self._half = ""
        self._fed_at = 0.0
        self._is_closed = False
        self._news = asyncio.Event()

    def begin_at(self, place: int, number: int, part: Part | None) -> None:
        """Go on with a text of which `place` characters were read before. Its parts are numbered from `number` on.

        part: read before too, but not spoken whole. It comes first.
        """
        self.num_chars = self._num_read = place
        self._num_parts = number
        self._cutter.begin_at(place)
        if part is not None:
            self._parts.append(part)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def forget(self) -> None:
        """Nobody will go on with this text once its speech breaks off."""
        self.is_forgotten = True

    def typed_from(self, place: int) -> str:
        """The typed text behind `place`, which `typed_until` has not taken."""
        return self._typed[max(0, place - self.num_chars + len(self._typed)) :]

    def feed(self, text: str) -> None:
        """Add text. Raises InvalidRequest where too much waits to be spoken, or the text was closed."""
        if self._is_closed:
            raise InvalidRequest("text", "came after the end of its text: begin a new one")
        num_waiting = self.num_chars - self._num_read + len(text)
        if num_waiting > self._max_waiting_chars:
            raise InvalidRequest(
                "text",
                f"has {num_waiting} characters that wait to be spoken, at most {self._max_waiting_chars} are allowed: "
                "send the rest once speech has caught up",
            )
        whole = self._whole_characters(text)
        self.num_chars += len(whole)
        self._typed += whole
        self._fed_at = time.monotonic()
        self._add(self._cutter.feed(whole))

    def typed_until(self, end: int) -> str:
        """The typed text before the place `end`, from where the last call ended. It is forgotten here."""
        begun = self.num_chars - len(self._typed)
        text, self._typed = self._typed[: end - begun], self._typed[end - begun :]
        return text

    def flush(self) -> None:
        """Have all text spoken that has come so far. What comes later begins anew."""
        self._add(self._cutter.flush())

    def close(self) -> None:
        """As `flush`, and no more text comes."""
        self._is_closed = True
        self.flush()

    async def ready(self) -> bool:
        """Wait until a part can be spoken. False if the text was closed without one."""
        patience = self._patience_seconds
        waited_since = time.monotonic()
        while not self._parts:
            if self._stretches:
                await self._prepare(self._stretches[0])
            elif self._is_closed:
                return False
            elif not await self._news_within(patience if self._cutter.has_text else None):
                assert patience is not None, "without patience there is no end of waiting"
                waited_since = time.monotonic()
                self._add(self._cutter.settle(is_quiet=waited_since - self._fed_at >= patience))
            elif patience is not None and self._cutter.has_text and time.monotonic() - waited_since >= patience:
                waited_since = time.monotonic()
                self._add(self._cutter.settle(is_quiet=False))
        return True

    async def parts(self) -> AsyncGenerator[Part, None]:
        """The parts in order, each as soon as it can be spoken. For one reader."""
        while await self.ready():
            part = self._parts.popleft()
            self._num_read = part.piece.end
            is_last = self._is_closed and not self._parts and not self._stretches
            yield replace(part, is_last=is_last)

    async def _news_within(self, seconds: float | None) -> bool:
        self._news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    def _whole_characters(self, text: str) -> str:
        """JSON can carry half a surrogate pair, and the other half may come with the next text."""
        text = self._half + text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        text = text[: len(text) - len(self._half)]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _add(self, stretches: list[Stretch]) -> None:
        self._stretches.extend(stretches)
        self._news.set()

    async def _prepare(self, stretch: Stretch) -> None:
        if len(stretch.text) <= _MAX_INLINE_CHARS:
            found, notices = self._prepared(stretch)
        else:
            found, notices = await PREPARING.done(lambda: self._prepared(stretch))
        self._stretches.popleft()
        self.notices = merged(self.notices, notices)
        for piece in found:
            self._parts.append(Part(self._num_parts, 0, self.speaker, piece, 0, is_last=False))
            self._num_parts += 1

    def _prepared(self, stretch: Stretch) -> tuple[list[Piece], tuple[Notice, ...]]:
        """The stretch as the model will speak it, at its places in all text that was fed."""
        # A clause is read together with what follows it: at the end of a text, its comma would become a full stop.
        typed = stretch.text + stretch.following
        text = normalize(typed) if self._is_normalized else Prepared.typed(typed)
        tracked = text.tracked
        text = Prepared(tracked.slice(0, bisect_left(tracked.places, len(stretch.text))), text.notices)
        if self._trained_for.alphabet:
            text = readable(text, self._trained_for.alphabet)
        if not text.text.strip():
            return [], text.notices
        found = [_moved(piece, stretch.start) for piece in pieces(text, self._trained_for.longest_piece_words)]
        found[0] = replace(found[0], start=stretch.start)
        found[-1] = replace(found[-1], end=stretch.end, ends_with=stretch.ends_with)
        return found, text.notices


def _moved(piece: Piece, by: int) -> Piece:
    return replace(piece, start=piece.start + by, end=piece.end + by)
