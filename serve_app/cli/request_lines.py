"""Shows the ingress's line for each request on stdout, for journald, `docker logs` and whoever watches.

The lines are read from the replicas' log files. Ray could forward its processes' output instead, but only all of it.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from serve_app.log import ACCESS_MARK, ROOT

_POLL_SECONDS = 0.25
_FILES = "replica_*_Ingress_*.log"


@contextmanager
def shown_requests(folder: Path | None) -> Iterator[None]:
    """Until the block ends, each new line about a request in the log files of `folder` is printed. None: nothing is."""
    ended = threading.Event()
    follower = threading.Thread(target=_follow, args=(folder, ended), daemon=True)
    if folder is not None:
        follower.start()
    try:
        yield
    finally:
        ended.set()
        if folder is not None:
            follower.join()


def _follow(folder: Path, ended: threading.Event) -> None:
    read_up_to: dict[Path, int] = {}
    while True:
        is_last = ended.wait(_POLL_SECONDS)
        for path in sorted(folder.glob(_FILES)):
            read_up_to[path] = _show_new(path, read_up_to.get(path, 0))
        if is_last:
            return


def _show_new(path: Path, start: int) -> int:
    """Prints the requests in whole lines after `start`. Returns where the next ones begin."""
    if path.stat().st_size < start:
        start = 0  # the file was rotated
    with path.open("rb") as file:
        file.seek(start)
        new = file.read()
    whole = new[: new.rfind(b"\n") + 1]
    for line in whole.decode(errors="replace").splitlines():
        if (shown := request_line(line)) is not None:
            typer.echo(shown)
    return start + len(whole)


def request_line(line: str) -> str | None:
    """What a log line says of a request, or None if it is about something else. JSON stays as it is."""
    if line.startswith("{"):
        try:
            logger = json.loads(line).get("logger")
        except ValueError:
            return None
        return line if logger == f"{ROOT}.access" else None
    head, mark, said = line.partition(f" -- {ACCESS_MARK}")
    if not mark:
        return None
    clock = head.split(" ")[2].partition(",")[0]
    return f"{clock} {said}"
