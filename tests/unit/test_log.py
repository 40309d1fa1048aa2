"""Log lines for people and for machines."""

import io
import json
import logging
from collections.abc import Iterator
from contextvars import copy_context
from logging.handlers import MemoryHandler

import pytest

from serve_app import log


@pytest.fixture(autouse=True)
def fresh_logger() -> Iterator[None]:
    """As in a process that has not set it up yet."""
    root = logging.getLogger(log.ROOT)
    handlers, level, propagate = root.handlers[:], root.level, root.propagate
    root.handlers.clear()
    root.propagate = True
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    root.propagate = propagate


def stream_handler() -> tuple[logging.StreamHandler[io.StringIO], io.StringIO]:
    stream = io.StringIO()
    return logging.StreamHandler(stream), stream


def lines(stream: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_says_when_where_who_and_what() -> None:
    handler, stream = stream_handler()
    log.set_up("INFO", [handler], "json", {"deployment": "AudioDecoder", "replica": "abc"})

    def in_a_request() -> None:
        log.current_request_id.set("r-1")
        logging.getLogger("serve_app.codec").warning("%d streams,\ntwo lines", 3)

    copy_context().run(in_a_request)
    (line,) = lines(stream)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "WARNING",
        "logger": "serve_app.codec",
        "message": "3 streams,\ntwo lines",
        "request_id": "r-1",
        "deployment": "AudioDecoder",
        "replica": "abc",
    }


def test_a_thread_that_serves_many_says_the_request_itself() -> None:
    handler, stream = stream_handler()
    log.set_up("INFO", [handler], "json")
    logging.getLogger("serve_app.engine").info("done", extra={"request_id": "r-2"})
    assert lines(stream)[0]["request_id"] == "r-2"


def test_an_error_brings_its_traceback_in_the_same_line() -> None:
    handler, stream = stream_handler()
    log.set_up("INFO", [handler], "json")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("serve_app.x").exception("it failed")
    (line,) = lines(stream)
    assert line["error"].startswith("Traceback") and line["error"].endswith("ValueError: broken")


def test_a_record_that_is_written_later_keeps_its_own_request() -> None:
    """Serve's handlers hold records back, and write them while another request is served."""
    final, stream = stream_handler()
    log.set_up("INFO", [MemoryHandler(100, logging.CRITICAL, final)], "json")

    def in_request(request_id: str) -> None:
        log.current_request_id.set(request_id)
        logging.getLogger("serve_app.x").info("hello")

    for request_id in ("a", "b"):
        copy_context().run(in_request, request_id)
    assert stream.getvalue() == ""
    logging.getLogger("serve_app").handlers[0].flush()
    assert [line["request_id"] for line in lines(stream)] == ["a", "b"]


def test_text_is_the_default_and_a_second_set_up_changes_the_level_only() -> None:
    handler, stream = stream_handler()
    log.set_up("WARNING", [handler])
    log.set_up("INFO", [logging.NullHandler()], "json")
    logging.getLogger("serve_app.x").info("hello")
    assert stream.getvalue() == "hello\n"
