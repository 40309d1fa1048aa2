"""Who asks for a scene, how its answer is delivered, and what was said before it."""

import dataclasses
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.keys.key import Key
from serve_app.messages import ContextSegment
from serve_app.records.record import Record


@dataclass(frozen=True, slots=True)
class Call:
    """The caller of a scene, and how to deliver the answer."""

    request_id: str
    key: Key
    is_streamed: bool = False
    """Somebody listens while it is made."""
    is_lossy: bool = False
    """The format of the answer loses sound, so the way to it may too."""
    speed: float = 1.0
    """How fast a listener hears it. 2 is twice as fast as it is spoken."""
    priority: int = 0
    """Above 0: background work, which may run again with the same id after a crash."""
    start_timeout_seconds: float | None = None
    record_seconds: float | None = None
    """How long the answer's record is kept. None: `records.kept_seconds`."""
    on_record: Callable[[Record], Awaitable[None]] | None = None
    """Called with the answer's record when it ends, before its caller learns of the end."""
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """For the answer's record."""
    trace: str = ""
    arrived_at: float = dataclasses.field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True, slots=True)
class Before:
    """What was said before a request, in codes. The voices in `given` stay, the oldest of `history` give way."""

    given: tuple[ContextSegment, ...] = ()
    history: tuple[ContextSegment, ...] = ()
    broken_off: Record | None = None
    """The same answer, which broke off and is gone on with."""


NOTHING_BEFORE = Before()
