"""How long the words of a text may take."""

import math

from serve_app.messages import FRAME_RATE_HZ

SLOWEST_WORDS_PER_SECOND = 1.0
"""English is read at 2 to 3 words a second; a third of that leaves room for slow voices and pauses."""
_EXTRA_SECONDS = 2.0
_USUAL_WORDS_PER_SECOND = 2.5
_BEFORE_AND_AFTER_SECONDS = 0.3


def frame_cap(num_words: int, rate: float = SLOWEST_WORDS_PER_SECOND) -> int:
    """Most frames that a text may take before it counts as runaway.

    num_words: spoken words, after normalisation.
    rate: words a second of the slowest plausible reader.
    """
    return math.ceil((_EXTRA_SECONDS + num_words / rate) * FRAME_RATE_HZ)


def usual_seconds(num_words: int) -> float:
    """How long a usual reader speaks so many words."""
    return _BEFORE_AND_AFTER_SECONDS + num_words / _USUAL_WORDS_PER_SECOND
