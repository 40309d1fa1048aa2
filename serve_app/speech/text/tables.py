"""Tables of words, written as text: "Mr: Mister | Mrs: Missus"."""

import re

_BETWEEN = re.compile(r" \| |\n")


def table(text: str) -> dict[str, str]:
    """The entries of a text, which `|` or line breaks separate."""
    entries = (entry.strip().partition(": ") for entry in _BETWEEN.split(text) if entry.strip())
    return {key: value for key, _, value in entries}


def pairs(text: str) -> dict[str, tuple[str, str]]:
    """As `table`, for entries with two values: "ft: foot, feet". The second may be missing."""
    return {key: _pair(value) for key, value in table(text).items()}


def listed(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


def _pair(value: str) -> tuple[str, str]:
    first, _, second = value.partition(",")
    return first, second.strip()
