"""The order in which the rules for English apply."""

from collections import Counter

from serve_app.speech.text.english.addresses import spoken_addresses
from serve_app.speech.text.english.amounts import spoken_amounts
from serve_app.speech.text.english.clock import spoken_times
from serve_app.speech.text.english.dates import spoken_dates
from serve_app.speech.text.english.identifiers import spelled_identifiers
from serve_app.speech.text.english.names import spoken_acronyms, spoken_names
from serve_app.speech.text.english.notations import usual_notation
from serve_app.speech.text.english.numerals import spoken_numbers
from serve_app.speech.text.english.signs import signs_beside_numbers, spoken_signs
from serve_app.speech.text.tracked import Tracked

_STEPS = (
    spelled_identifiers,
    usual_notation,
    spoken_addresses,
    spoken_dates,
    spoken_times,
    spoken_amounts,
    signs_beside_numbers,
    spoken_names,
    spoken_numbers,
    spoken_acronyms,
)


def as_english(tracked: Tracked, dropped: Counter[str]) -> Tracked:
    """The text in words and plain punctuation. `dropped` counts what could not be said."""
    for step in _STEPS:
        tracked = step(tracked)
    return spoken_signs(tracked, dropped)
