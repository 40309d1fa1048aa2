"""Turns out-of-memory errors at a replica's start into one clear line instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from serve_app.errors import StartupError


@contextmanager
def memory_for_start(part: str, remedies: str) -> Iterator[None]:
    """Raise StartupError with the settings that help, where the block runs out of memory."""
    try:
        yield
    except Exception as error:
        if (said := _out_of_memory(error)) is None:
            raise
        raise StartupError(f"{part} does not fit into memory ({said}): lower {remedies}") from error


def _out_of_memory(error: BaseException | None) -> str | None:
    """The message of an out-of-memory error among `error` and its causes.

    It looks at class names, because a replica with a stand-in does not import torch.
    """
    while error is not None:
        said = str(error).partition("\n")[0]
        # The CPU allocator raises a plain RuntimeError.
        is_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in said
        if is_cpu or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return said or type(error).__name__
        error = error.__cause__
    return None
