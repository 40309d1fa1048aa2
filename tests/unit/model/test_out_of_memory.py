"""Memory that runs out at the start is one line that names the settings."""

import pytest

from serve_app.errors import GenerationFailed, StartupError
from serve_app.model.out_of_memory import memory_for_start


class OutOfMemoryError(RuntimeError):
    """As torch's, by name."""


CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to a")


@pytest.mark.parametrize(
    "error", [OutOfMemoryError("tried 2 GiB\nmore"), MemoryError(), CPU], ids=["cuda", "host", "cpu"]
)
def test_it_names_part_and_remedies(error: Exception) -> None:
    said = r"the decoder does not fit .*: lower codec\.max_streams$"
    with pytest.raises(StartupError, match=said) as caught, memory_for_start("the decoder", "codec.max_streams"):
        raise error
    assert "\n" not in str(caught.value)


def test_what_caused_an_error_counts_too() -> None:
    with pytest.raises(StartupError, match="does not fit"), memory_for_start("x", "y"):
        raise GenerationFailed("a step failed") from OutOfMemoryError("tried 2 GiB")


def test_anything_else_is_left_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="device lost"), memory_for_start("x", "y"):
        raise RuntimeError("device lost")
