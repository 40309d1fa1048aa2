"""One logger set-up. Log lengths, ids and timings: never a user's text, audio or keys."""

import logging

ROOT = "serve_app"


def set_up(level: str) -> None:
    """Send this package's records to stderr; calling it again only changes the level."""
    root = logging.getLogger(ROOT)
    root.setLevel(level)
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
        root.propagate = False
