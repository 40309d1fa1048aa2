"""Text that remembers where each of its characters came from."""

import re
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

Replace = Callable[[re.Match[str]], str]
"""What a rule makes of a match. The match's own text means: leave it."""

_WORD = re.compile("[a-z]+")


@dataclass(frozen=True)
class Tracked:
    """A text, and for each of its characters the place in the typed text that it came from. The places never decrease.

    Every rule rewrites through `sub`, so a piece of the spoken text can be traced back to the typed characters.
    """

    text: str
    places: array
    end: int
    """Place just behind the last character."""

    @classmethod
    def typed(cls, text: str) -> "Tracked":
        """A text as it was typed: each character at its own place."""
        return cls(text, array("I", range(len(text))), len(text))

    @cached_property
    def characters(self) -> str:
        """Each character that occurs, once. It is short, so looking here is quicker than in the text."""
        return "".join(set(self.text))

    @cached_property
    def words(self) -> frozenset[str]:
        """Each run of ASCII letters that occurs, in lower case."""
        return frozenset(_WORD.findall(self.text.casefold()))

    @cached_property
    def has_digits(self) -> bool:
        return any(map(str.isdigit, self.characters))

    def place(self, index: int) -> int:
        """Place in the typed text of the character at `index`, or of the end."""
        return self.places[index] if index < len(self.places) else self.end

    def slice(self, start: int, stop: int) -> "Tracked":
        """The characters from `start` to before `stop`."""
        return Tracked(self.text[start:stop], self.places[start:stop], self.place(stop))

    def stripped(self, left: str | None = None, right: str | None = None) -> "Tracked":
        """The text without these characters at its ends. None: without whitespace there."""
        stop = len(self.text.rstrip(right))
        start = min(stop, len(self.text) - len(self.text.lstrip(left)))
        if stop - start == len(self.text):
            return self
        return Tracked(self.text[start:stop], self.places[start:stop], self.end)

    def sub(self, pattern: re.Pattern[str], replace: Replace | str) -> "Tracked":
        """The text with each match replaced. A replacement stands where its match began. Linear in the text."""
        parts: list[str] = []
        places = array("I")
        done = 0
        for match in pattern.finditer(self.text):
            new = replace if isinstance(replace, str) else replace(match)
            start, stop = match.span()
            if new == self.text[start:stop]:
                continue
            parts += [self.text[done:start], new]
            places.extend(self.places[done:start])
            places.extend(array("I", [self.place(start)]) * len(new))
            done = stop
        if not parts:
            return self
        parts.append(self.text[done:])
        places.extend(self.places[done:])
        return Tracked("".join(parts), places, self.end)

    def unwrapped(self, pattern: re.Pattern[str], group: int = 1, before: str = "", after: str = "") -> "Tracked":
        """The text with each match replaced by one of its groups, whose characters keep their own places."""
        parts: list[Tracked] = []
        done = 0
        for match in pattern.finditer(self.text):
            start, stop = match.span(group)
            parts += [self.slice(done, match.start()), self._made(before, match.start()), self.slice(start, stop)]
            parts.append(self._made(after, match.end() - 1))
            done = match.end()
        return joined([*parts, self.slice(done, len(self.text))]) if parts else self

    def _made(self, text: str, index: int) -> "Tracked":
        return Tracked(text, array("I", [self.place(index)]) * len(text), self.place(index))


def joined(parts: Iterable[Tracked]) -> Tracked:
    """The parts one after the other, as one text."""
    kept = list(parts)
    if len(kept) == 1:
        return kept[0]
    places = array("I")
    for part in kept:
        places.extend(part.places)
    return Tracked("".join(part.text for part in kept), places, kept[-1].end if kept else 0)
