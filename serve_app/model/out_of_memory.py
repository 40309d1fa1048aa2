"""Memory that runs out while a replica starts: one clear line instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from serve_app.errors import StartupError


@contextmanager
def memory_for_start(part: str, remedies: str) -> Iterator[None]:
    """Raise StartupError, naming the settings that help, where loading or warming up runs out of memory."""
    try:
        yield
    except Exception as error:
        if (said := _out_of_memory(error)) is None:
            raise
        raise StartupError(f"{part} does not fit into memory ({said}): lower {remedies}") from error


def _out_of_memory(error: BaseException | None) -> str | None:
    """What was said of it, by the error or one that caused it. By name: replicas with a stand-in do without torch."""
    while error is not None:
        said = str(error).partition("\n")[0]
        # A CPU's allocator has no class of its own for it.
        is_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in said
        if is_cpu or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return said or type(error).__name__
        error = error.__cause__
    return None
