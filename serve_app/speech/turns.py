"""What one turn of an answer gets: its seed, its cap on frames."""

import hashlib
import math

from serve_app.messages import FRAME_RATE_HZ, MAX_SEED

_SLOWEST_BYTES_PER_SECOND = 6.0
"""English is spoken at 12 to 15 letters a second; half of that leaves room for slow voices and pauses."""
_EXTRA_SECONDS = 2.0


def frame_cap(text: str) -> int:
    """Frames after which a text must have been spoken. UTF-8 bytes, since a Chinese character takes three times
    as long to say as a letter, and takes three bytes."""
    seconds = _EXTRA_SECONDS + len(text.encode()) / _SLOWEST_BYTES_PER_SECOND
    return math.ceil(seconds * FRAME_RATE_HZ)


def turn_seed(seed: int, turn: int) -> int:
    """The first turn has the answer's own seed; each later one another, as far from it as chance would have it."""
    if turn == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{turn}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & MAX_SEED
