"""Progress of a command on stderr, or in its log where that is JSON."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from serve_app.log import writes_json

console = Console(stderr=True, highlight=False)
_log = logging.getLogger(__name__)


def say(line: str, style: str = "") -> None:
    """Prints a line as it is. Where the log is JSON, so is this."""
    if writes_json():
        _log.info("%s", line.strip())
    else:
        console.print(line, style=style or None, soft_wrap=True)


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """Shows a spinner on a terminal, or prints one line into a log file."""
    if console.is_terminal and not writes_json():
        with console.status(doing):
            yield
    else:
        say(f"{doing} …")
        yield
