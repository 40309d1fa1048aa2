"""Seeds of the pieces of an answer."""

import hashlib

from serve_app.messages import MAX_SEED


def sub_seed(seed: int, *path: int) -> int:
    """A seed for one part of an answer: turn, piece, attempt. The first part of each keeps the seed of the whole."""
    while path and path[-1] == 0:
        path = path[:-1]
    if not path:
        return seed
    name = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") & MAX_SEED
