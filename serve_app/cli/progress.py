"""Progress of a command on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True, highlight=False)


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """Shows a spinner on a terminal, or prints one line into a log file."""
    if console.is_terminal:
        with console.status(doing):
            yield
    else:
        console.print(f"{doing} …")
        yield
