"""The lines about requests that a launcher shows."""

from pathlib import Path

import pytest

from serve_app.cli.request_lines import request_line, shown_requests
from tests.support.waiting import until

LINE = "INFO 2026-01-02 03:04:05,678 csm_Ingress abc 1-2-3 -- HTTP POST /generate 200, first audio 93 ms\n"
OTHER = "INFO 2026-01-02 03:04:05,678 csm_Ingress abc -- Finished initializing replica.\n"
JSON = '{"level": "INFO", "logger": "serve_app.access", "message": "HTTP GET /info 200, 2 ms"}'


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (LINE.strip(), "03:04:05 POST /generate 200, first audio 93 ms"),
        (OTHER.strip(), None),
        (JSON, JSON),
        (JSON.replace("access", "jobs"), None),
        ("{broken", None),
        ("", None),
    ],
    ids=["request", "other", "json", "other json", "broken", "empty"],
)
def test_only_lines_about_requests_are_shown(line: str, shown: str | None) -> None:
    assert request_line(line) == shown


def test_new_lines_are_shown_as_they_are_written_also_of_new_replicas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = ""

    def lines() -> int:
        nonlocal heard
        heard += capsys.readouterr().out
        return heard.count("POST /generate")

    first, second = (tmp_path / f"replica_csm_Ingress_{name}.log" for name in "ab")
    first.write_text(OTHER + LINE)
    with shown_requests(tmp_path):
        until(lambda: lines() == 1, "the first replica's line is shown")
        second.write_text(LINE[:40])
        with first.open("a") as file:
            file.write(LINE)
        until(lambda: lines() == 2, "a line that was added")
        with second.open("a") as file:
            file.write(LINE[40:])
    assert lines() == 3, "a line of another replica, once it is whole"
