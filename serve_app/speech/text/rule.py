"""A rule of reading, and the cheap signs by which most rules are passed over for most texts.

There are a hundred rules, and an ordinary text needs a few of them. The listener waits while a page is searched with
each. A look at the page's distinct characters takes a microsecond.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from serve_app.speech.text.tracked import Replace, Tracked


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of each match of a pattern. The signs may be found in other texts too, never the other way round."""

    pattern: re.Pattern[str]
    new: Replace | str
    needs: re.Pattern[str] | None = None
    """A class of characters. Each text that the pattern matches holds one of them."""
    words: frozenset[str] | None = None
    """Words in lower case. Each text that the pattern matches holds one of them."""
    hint: re.Pattern[str] | None = None
    """Found in each text that the pattern matches, and quicker to look for."""

    def may_match(self, tracked: Tracked) -> bool:
        if self.needs is not None and not self.needs.search(tracked.characters):
            return False
        if self.words is not None and self.words.isdisjoint(tracked.words):
            return False
        return self.hint is None or self.hint.search(tracked.text) is not None


def rule(
    pattern: str | re.Pattern[str],
    new: Replace | str,
    needs: str = "",
    hint: str = "",
    words: Iterable[str] | None = None,
) -> Rule:
    """A rule with its signs written as patterns and words."""
    return Rule(
        re.compile(pattern),
        new,
        re.compile(needs) if needs else None,
        frozenset(word.lower() for word in words) if words is not None else None,
        re.compile(hint) if hint else None,
    )


def applied(tracked: Tracked, rules: Iterable[Rule]) -> Tracked:
    """The text after all the rules, in order."""
    for one in rules:
        if one.may_match(tracked):
            tracked = tracked.sub(one.pattern, one.new)
    return tracked
