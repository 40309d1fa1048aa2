"""Opens checkpoints in a process of their own, so that this one needs no torch, which takes 400 MB and seconds."""

import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from serve_app.messages import DEMO_VOICE
from serve_app.model.layout import DEMO


def weights_of(model: str, revision: str | None, base: str | None) -> str:
    """The kind of a checkpoint's weights, as `ModelInfo` has it. Downloads it if need be. Raises CheckpointError."""
    return DEMO_VOICE if model == DEMO else _in_a_process(_opened, model, revision, base)


def check_reachable(model: str, revision: str | None, base: str | None) -> None:
    """Raises CheckpointError where files are missing or unreadable. Downloads no weights."""
    if model != DEMO:
        _in_a_process(_required, model, revision, base)


def _in_a_process(
    work: Callable[[str, str | None, str | None], str], model: str, revision: str | None, base: str | None
) -> str:
    # Ctrl-C goes to all processes of a terminal. This one answers it.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=signal.signal, initargs=ignore) as pool:
        return pool.submit(work, model, revision, base).result()


def _opened(model: str, revision: str | None, base: str | None) -> str:
    from serve_app.model.checkpoint import open_checkpoint

    return open_checkpoint(model, revision, base).weights


def _required(model: str, revision: str | None, base: str | None) -> str:
    from serve_app.model.checkpoint import require_checkpoint

    require_checkpoint(model, revision, base)
    return model
