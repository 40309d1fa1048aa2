"""What a load test writes down: one record a request as JSON lines, one summary a run as JSON."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio that reached the client in one read. The WAV header is no audio."""

    at: float
    """Seconds after the request was sent."""
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class Record:
    """One request as its client saw it. Times are seconds; `sent_at` counts from the start of the run."""

    request_id: str
    scenario: str
    """"sentence", "scene" or "conversation"."""
    level: float
    """The load it belongs to: streams at once (closed loop) or requests a second (open loop)."""
    warm_up: bool
    due_at: float
    """When the load wanted it to be sent."""
    sent_at: float
    status: int | None
    """None where no answer came at all."""
    error: str | None
    """None for an answer that came whole; else its kind: "refused" (429), "http_500", "connect", "cut_off", ..."""
    text_chars: int
    chunks: tuple[Chunk, ...]
    ended_after: float
    """Seconds from sending to the end of the answer, or to the error."""
    turn: int = 0
    """Which request of its conversation it is."""
    context_seconds: float = 0.0
    """Audio sent along with it."""
    detail: str = ""
    """What was said of the error."""


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured: enough to repeat it, and to know whether to believe it."""

    name: str
    target: str
    """The dialect: "ours", "vox", "openai"."""
    url: str
    command: str
    loop: str
    """"closed" or "open"."""
    started_at: str
    environment: dict[str, Any]
    client: dict[str, Any]
    """The client's own cost: CPU share, lateness of sending, event loop lag."""
    invalid_because: tuple[str, ...] = ()
    memory_mb: tuple[tuple[float, float], ...] = ()
    """Seconds into the run, and the server's resident memory, where its process could be seen."""
    levels: tuple[dict[str, Any], ...] = field(default_factory=tuple)
    """One summary a level, as `timeline.summarize` makes it."""


def write_records(path: Path, records: Iterable[Record]) -> None:
    with path.open("w") as file:
        for record in records:
            file.write(json.dumps(asdict(record)) + "\n")


def read_records(path: Path) -> Iterator[Record]:
    with path.open() as file:
        for line in file:
            values = json.loads(line)
            yield Record(**values | {"chunks": tuple(Chunk(**chunk) for chunk in values["chunks"])})


def write_run(path: Path, run: Run) -> None:
    path.write_text(json.dumps(asdict(run), indent=1) + "\n")


def read_run(path: Path) -> Run:
    values = json.loads(path.read_text())
    return Run(**values | {name: tuple(values[name]) for name in ("invalid_because", "memory_mb", "levels")})
