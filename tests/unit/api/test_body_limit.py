"""A body over the limit is refused before it is read whole."""

from collections.abc import AsyncGenerator

import pytest

from tests.support.api_harness import api, client, generate
from tests.support.fakes import FakeDecoder

MIB = 2**20
LIMIT = 2 * MIB
KINDS = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]


class Upload:
    """100 MB that count how much of them was taken."""

    def __init__(self, start: bytes = b"") -> None:
        self.taken_bytes = 0
        self._start = start

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        yield self._start
        for _ in range(100):
            self.taken_bytes += MIB
            yield b"x" * MIB


def start_of(kind: str) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\n' if kind.startswith("multipart") else b""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_declared_length_over_the_limit_is_refused_unread(kind: str) -> None:
    upload = Upload(start_of(kind))
    headers = {"content-type": kind, "content-length": str(100 * MIB)}
    answer = await generate(api(max_body_bytes=LIMIT), content=upload, headers=headers)
    assert answer.status_code == 413
    assert upload.taken_bytes == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_an_undeclared_length_is_refused_where_it_passes_the_limit(kind: str) -> None:
    upload = Upload(start_of(kind))
    answer = await generate(api(max_body_bytes=LIMIT), content=upload, headers={"content-type": kind})
    assert answer.status_code == 413
    assert upload.taken_bytes <= LIMIT + MIB
    detail = "body: is larger than 2 MiB: send shorter or compressed (FLAC, MP3) audio"
    assert answer.json() == {"detail": detail, "field": "body"}


async def test_a_file_that_nobody_reads_counts_too() -> None:
    upload = Upload(b'--x\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n')
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = await generate(api(max_body_bytes=LIMIT), content=upload, headers=headers)
    assert answer.status_code == 413
    assert upload.taken_bytes <= LIMIT + MIB


@pytest.mark.parametrize("length", ["-1", "abc", "9" * 5000])
async def test_a_length_that_makes_no_sense_does_no_harm(length: str) -> None:
    answer = await generate(api(max_body_bytes=LIMIT), content=b'{"text": "Hi."}', headers={"content-length": length})
    assert answer.status_code in (200, 413)


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    body = b'{"text": "Hi."}'.ljust(LIMIT)
    answer = await generate(api(decoder := FakeDecoder(), max_body_bytes=LIMIT), content=body)
    assert (answer.status_code, len(decoder.requests)) == (200, 1)
    assert (await generate(api(max_body_bytes=LIMIT), content=body + b" ")).status_code == 413


async def test_pages_of_other_origins_can_read_the_refusal() -> None:
    async with client(api(max_body_bytes=LIMIT)) as http:
        answer = await http.post("/generate", content=b" " * (LIMIT + 1), headers={"Origin": "http://page"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (413, "*")
