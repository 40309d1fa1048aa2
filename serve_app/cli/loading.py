"""Shows which deployments a starting graph still waits for."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ray import serve

from serve_app.cli.progress import say

_POLL_SECONDS = 0.5
_LOADS = {
    "TokenGenerator": "the speech model",
    "AudioDecoder": "the decoder of sound",
    "ContextEncoder": "the encoder of recordings",
    "JobRunner": "the job runner",
    "Ingress": "the HTTP API",
}
"""In the order of the names shown; other deployments go by their own."""


@contextmanager
def showing_progress(doing: str, application: str) -> Iterator[None]:
    """Prints `doing`, then a line for each deployment as it comes up, until the block ends."""
    say(f"{doing} …")
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(application, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(application: str, ended: threading.Event) -> None:
    start = time.monotonic()
    shown: set[str] = set()
    while not ended.is_set():
        _show_healthy(application, shown, start)
        ended.wait(_POLL_SECONDS)
    _show_healthy(application, shown, start)


def _show_healthy(application: str, shown: set[str], start: float) -> None:
    for name in _healthy(application):
        if name not in shown:
            shown.add(name)
            say(f"  {_LOADS.get(name, name)} is ready after {time.monotonic() - start:.0f} s", style="dim")


def _healthy(application: str) -> list[str]:
    found = serve.status().applications.get(application)
    if found is None:
        return []
    return [name for name, deployment in found.deployments.items() if deployment.status == "HEALTHY"]
