"""Logger set-up. Log lengths, ids and timings, never a user's text, audio or keys."""

import json
import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import MemoryHandler

ROOT = "serve_app"
ACCESS_MARK = "HTTP "
"""How the line about a request begins (`api.access_log`), so that a reader of the log finds it."""

current_request_id: ContextVar[str] = ContextVar("csm_request_id", default="")
"""Set where a request enters a process, for its task. A thread that serves many requests passes it in `extra`."""

_NOWHERE: Mapping[str, str] = {}


def set_up(
    level: str, handlers: Sequence[logging.Handler] = (), log_format: str = "text", origin: Mapping[str, str] = _NOWHERE
) -> None:
    """Send this package's records to `handlers`, or to stderr. Calling it again only changes the level.

    With the format `json`, these handlers write every line as JSON, with the fields of `origin`.
    """
    root = logging.getLogger(ROOT)
    root.setLevel(level)
    if not root.handlers:
        for handler in handlers or [_to_stderr()]:
            handler.addFilter(_add_request_id)
            if log_format == "json":
                _final(handler).setFormatter(JsonLines(origin))
            root.addHandler(handler)
        root.propagate = False


def writes_json() -> bool:
    """Whether this process writes its log as JSON."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger(ROOT).handlers)


class JsonLines(logging.Formatter):
    """One JSON object a record, with keys in a fixed order and without empty values."""

    def __init__(self, origin: Mapping[str, str] = _NOWHERE) -> None:
        super().__init__()
        self._origin = origin

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": record.__dict__.get("request_id", ""),
            **self._origin,
            "error": self.formatException(record.exc_info) if record.exc_info else "",
        }
        return json.dumps({key: value for key, value in line.items() if value}, ensure_ascii=False)


def _add_request_id(record: logging.LogRecord) -> bool:
    # Not in the formatter, because a handler may format a record later, in another request's context.
    if request_id := current_request_id.get():
        record.request_id = request_id
    return True


def _final(handler: logging.Handler) -> logging.Handler:
    """The handler that formats. Serve buffers records in memory before it writes them."""
    return handler.target if isinstance(handler, MemoryHandler) and handler.target else handler


def _to_stderr() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler
