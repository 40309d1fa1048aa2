"""A prepared text: the words to speak, and notices about parts that are left out."""

from collections import Counter
from dataclasses import dataclass

from serve_app.speech.text.tracked import Tracked


@dataclass(frozen=True, slots=True)
class Notice:
    """A kind of text that is not spoken, and how often it occurs. It never quotes the text."""

    kind: str
    """As in "emoji" or "letters that the model does not know". ASCII, since it travels in a header."""
    count: int

    def __str__(self) -> str:
        return f"{self.kind}: {self.count} not spoken"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A text ready to be split and spoken. Paragraphs are separated by a line break."""

    tracked: Tracked
    notices: tuple[Notice, ...] = ()

    @property
    def text(self) -> str:
        return self.tracked.text

    @classmethod
    def typed(cls, text: str) -> "Prepared":
        """The text as it was typed, for a request that wants no normalisation."""
        return cls(Tracked.typed(text))

    @classmethod
    def of(cls, text: "str | Prepared") -> "Prepared":
        return text if isinstance(text, Prepared) else cls.typed(text)


def notices_of(dropped: Counter[str]) -> tuple[Notice, ...]:
    """One notice for each kind of what was dropped, in the order in which the kinds came up."""
    return tuple(Notice(kind, count) for kind, count in dropped.items() if count)


def merged(*groups: tuple[Notice, ...]) -> tuple[Notice, ...]:
    """The notices of several steps; counts of one kind are added."""
    total: Counter[str] = Counter()
    for group in groups:
        for notice in group:
            total[notice.kind] += notice.count
    return notices_of(total)
