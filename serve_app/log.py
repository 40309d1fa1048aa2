"""One logger set-up. Log lengths, ids and timings: never a user's text, audio or keys."""

import logging
from collections.abc import Sequence

ROOT = "serve_app"


def set_up(level: str, handlers: Sequence[logging.Handler] = ()) -> None:
    """Send this package's records to `handlers`, or stderr; calling it again only changes the level."""
    root = logging.getLogger(ROOT)
    root.setLevel(level)
    if not root.handlers:
        for handler in handlers or [_to_stderr()]:
            root.addHandler(handler)
        root.propagate = False


def _to_stderr() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler
