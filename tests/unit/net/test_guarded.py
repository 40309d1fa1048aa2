"""The guarded client against real sockets: honest servers, hostile ones, and name servers that lie."""

import asyncio
import datetime
import ipaddress
import pickle
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serve_app.errors import DeliveryFailed, DeliveryRefused, DownloadFailed, FileTooLarge, InvalidRequest
from serve_app.net.addresses import is_address
from serve_app.net.guarded import GuardedClient
from serve_app.net.pinned import SystemResolver
from serve_app.settings import NetSettings

FIELD = "context.0.audio_url"
HOST = "files.test"
UNREACHABLE = "cannot be reached from here"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Answers on 127.0.0.1, and remembers what it was asked."""

    answer: Handler
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    num_connections: int = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/a.wav"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            await self.answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has seen enough
        finally:
            writer.close()


@asynccontextmanager
async def serving(answer: Handler | bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(answer, bytes)
        writer.write(answer)
        await writer.drain()

    server = Server(say if isinstance(answer, bytes) else answer)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


class Names:
    """A name server under the test's control: each lookup of a name gives its next answer, the last one for good."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int, *, owner: str = "") -> list[str]:
        self.asked.append(host)
        if is_address(host):
            return [host]
        answers = self._answers.get(host)
        if not answers:
            raise OSError("no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]


def client(names: Names | None = None, tls: ssl.SSLContext | None = None, **settings: object) -> GuardedClient:
    """To it `files.test` is a public host that happens to be 127.0.0.1."""
    net = NetSettings.model_validate({"allowed_hosts": [HOST], "timeout_seconds": 30, **settings})
    return GuardedClient(net, names or Names(files_test=[["127.0.0.1"]]), tls)


def ok(body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 4\r\n\r\nGone".encode()


async def failure(guarded: GuardedClient, url: str, kind: type[InvalidRequest] = DownloadFailed) -> str:
    with pytest.raises(kind) as caught:
        await guarded.fetch(FIELD, url)
    assert caught.value.field == FIELD
    assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message
    return caught.value.message


async def test_what_a_url_names_is_fetched() -> None:
    async with serving(ok(b"sound")) as server:
        assert await client().fetch(FIELD, server.url + "?a=%20b#part") == b"sound"
    head = server.requests[0].decode().split("\r\n")
    assert head[0] == "GET /a.wav?a=%20b HTTP/1.1"
    assert f"Host: {HOST}:{server.port}" in head
    assert "Accept-Encoding: identity" in head
    assert not [line for line in head if line.lower().startswith(("cookie", "authorization", "referer"))]


async def test_a_body_in_chunks_and_one_without_a_length_are_fetched() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsou\r\n2\r\nnd\r\n0\r\n\r\n"
    for answer in (chunked, b"HTTP/1.1 200 OK\r\n\r\nsound", b"HTTP/1.0 200 OK\r\n\r\nsound"):
        async with serving(answer) as server:
            assert await client().fetch(FIELD, server.url) == b"sound"


async def test_proxies_and_passwords_of_this_machine_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text(f"machine {HOST} login me password hunter2")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    async with serving(ok(b"sound")) as server:
        assert await client().fetch(FIELD, server.url) == b"sound"
    assert b"uthorization" not in server.requests[0]


async def test_cookies_are_not_kept() -> None:
    async with serving(ok(b"sound", b"Set-Cookie: a=b")) as server:
        guarded = client()
        for _ in range(2):
            await guarded.fetch(FIELD, server.url)
    assert b"ookie" not in server.requests[1]
    assert server.num_connections == 2


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "::1", "::ffff:127.0.0.1", "fd00::1",
                "64:ff9b::7f00:1", "fe80::1%1", "0.0.0.0", "224.0.0.1"],
)  # fmt: skip
async def test_a_name_of_a_private_address_is_refused_like_a_closed_port(address: str) -> None:
    async with serving(ok(b"secret")) as server:
        names = Names(evil_test=[[address]], two_test=[["127.0.0.1", address]], closed_test=[["127.0.0.1"]])
        refused = await failure(client(names), f"http://evil.test:{server.port}/")
        closed = await failure(client(names, allowed_hosts=["closed.test"]), "http://closed.test:9/")
        unknown = await failure(client(names), "http://unknown.test/")
    assert refused == closed == unknown
    assert UNREACHABLE in refused
    assert server.num_connections == 0


async def test_one_private_address_among_public_ones_spoils_a_name() -> None:
    async with serving(ok(b"secret")) as server:
        names = Names(files_test=[["8.8.8.8", "127.0.0.1"]])
        assert UNREACHABLE in await failure(client(names, allowed_hosts=[]), server.url)
    assert server.num_connections == 0


async def test_what_was_checked_is_what_is_connected_to() -> None:
    """DNS rebinding: a name that is harmless when it is looked up, and another machine's a moment later."""
    async with serving(ok(b"sound")) as server:
        names = Names(files_test=[["127.0.0.1"], ["10.0.0.1"]])
        guarded = client(names, allowed_hosts=["127.0.0.1"])
        assert await guarded.fetch(FIELD, server.url) == b"sound"
        assert names.asked == [HOST]
        assert UNREACHABLE in await failure(guarded, server.url)  # nor is the first connection used again
    assert server.num_connections == 1


async def test_a_redirect_is_looked_up_and_checked_anew() -> None:
    async with serving(ok(b"secret")) as inner, serving(redirect(f"http://{HOST}:{inner.port}/")) as server:
        names = Names(files_test=[["127.0.0.1"], ["10.0.0.1"]])
        assert UNREACHABLE in await failure(client(names, allowed_hosts=["127.0.0.1"]), server.url)
    assert inner.num_connections == 0


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    async with serving(ok(b"sound")) as server:
        names = Names(files_test=[["127.0.0.2", "127.0.0.1"]])
        assert await client(names).fetch(FIELD, server.url) == b"sound"


async def test_a_host_is_allowed_by_its_network() -> None:
    async with serving(ok(b"sound")) as server:
        for hosts in (["127.0.0.0/8"], ["127.0.0.1"]):
            assert await client(allowed_hosts=hosts).fetch(FIELD, server.url) == b"sound"
            assert await client(allowed_hosts=hosts).fetch(FIELD, f"http://127.0.0.1:{server.port}/", 5) == b"sound"


async def test_the_systems_names_are_asked_by_default() -> None:
    async with serving(ok(b"sound")) as server:
        local = f"http://localhost:{server.port}/"
        assert UNREACHABLE in await failure(GuardedClient(NetSettings()), local)
        assert await GuardedClient(NetSettings(allowed_hosts=["localhost"])).fetch(FIELD, local) == b"sound"
        assert UNREACHABLE in await failure(GuardedClient(NetSettings()), "http://no-such-host.invalid/")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(status: int) -> None:
    async with serving(ok(b"sound")) as last:
        for location in (f"http://{HOST}:{last.port}/b.wav", f"//{HOST}:{last.port}/b.wav"):
            async with serving(redirect(location, status)) as first:
                assert await client().fetch(FIELD, first.url) == b"sound"
    assert last.requests[0].startswith(b"GET /b.wav ")


async def test_a_relative_redirect_stays_on_its_host() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(redirect("../b.wav?x=1") if server.num_connections == 1 else ok(b"sound"))

    async with serving(answer) as server:
        assert await client().fetch(FIELD, f"http://{HOST}:{server.port}/deep/a.wav") == b"sound"
    assert server.requests[1].startswith(b"GET /b.wav?x=1 ")


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://example.com/", "http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest/",
     "http://user:pw@example.com/", "http://2130706433/", "http://example.com:22/", "gopher://x/", "http://[broken",
     "//evil@example.com/", "http://" + "a" * 9000 + ".example/"],
)  # fmt: skip
async def test_a_redirect_to_what_is_not_called_is_refused(location: str) -> None:
    async with serving(redirect(location)) as server:
        assert "redirects to" in await failure(client(), server.url)


async def test_a_redirect_to_a_private_name_is_refused_like_one_to_a_closed_port() -> None:
    names = Names(files_test=[["127.0.0.1"]], inner_test=[["10.0.0.1"]])
    messages = set()
    for location in ("http://inner.test/", f"http://{HOST}:9000/", "http://unknown.test/"):
        async with serving(redirect(location)) as server:
            messages.add(await failure(client(names), server.url))
    assert len(messages) == 1


async def test_redirects_are_counted() -> None:
    async def again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(redirect("/again"))

    async with serving(again) as server:
        assert "redirects more than 3 times" in await failure(client(max_redirects=3), server.url)
        assert server.num_connections == 4
        assert "redirects more than 0 times" in await failure(client(max_redirects=0), server.url)


async def test_a_redirect_that_names_nothing_is_no_file() -> None:
    async with serving(b"HTTP/1.1 302 Found\r\nContent-Length: 5\r\n\r\nsound") as server:
        assert "answered with status 302" in await failure(client(), server.url)


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 500, 503])
async def test_other_answers_than_200_are_no_file(status: int) -> None:
    async with serving(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()) as server:
        assert f"answered with status {status}" in await failure(client(), server.url)


async def test_an_announced_length_over_the_limit_is_refused_unread() -> None:
    async with serving(ok(bytes(2000))) as server:
        assert "larger than 1024 bytes" in await failure(client(max_download_bytes=1024), server.url, FileTooLarge)
        with pytest.raises(FileTooLarge, match="larger than 10 bytes"):
            await client().fetch(FIELD, server.url, max_bytes=10)
        assert len(await client().fetch(FIELD, server.url, max_bytes=2000)) == 2000


@pytest.mark.parametrize("head", [b"Content-Length: 18446744073709551615", b"Content-Length: 999999999999999999999999"])
async def test_an_absurd_length_is_refused(head: bytes) -> None:
    async with serving(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\nx") as server:
        with pytest.raises(InvalidRequest):
            await client().fetch(FIELD, server.url)


@pytest.mark.parametrize("head", [b"Transfer-Encoding: chunked", b"X: no length"])
async def test_an_endless_body_ends_at_the_limit(head: bytes) -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        piece = bytes(64 * 1024)
        while True:
            writer.write(b"10000\r\n" + piece + b"\r\n" if b"chunked" in head else piece)
            await writer.drain()
            sent += len(piece)

    async with serving(endless) as server:
        assert "larger than" in await failure(client(max_download_bytes=1_000_000), server.url, FileTooLarge)
    assert sent < 20_000_000


async def test_a_body_that_drips_ends_with_the_time() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(drip) as server:
        assert "within 0.5 seconds" in await failure(client(timeout_seconds=0.5), server.url)


@pytest.mark.parametrize("drop", [b"X: y\r\n", b"H", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["header", "status", "1xx"])
async def test_headers_that_never_end_end_with_the_time_or_their_size(drop: bytes) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" if drop.startswith(b"X") else b"")
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.001)

    async with serving(drip) as server:
        message = await failure(client(timeout_seconds=0.5), server.url)
    assert "within 0.5 seconds" in message or "broke off" in message


async def test_huge_headers_are_refused() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\nsound") as server:
        assert "broke off or does not speak HTTP" in await failure(client(), server.url)
    many = b"".join(b"X%d: y\r\n" % n for n in range(100_000))
    async with serving(b"HTTP/1.1 200 OK\r\n" + many + b"\r\nsound") as server:
        assert "broke off or does not speak HTTP" in await failure(client(), server.url)


async def test_a_silent_server_ends_with_the_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as server:
        assert "within 0.3 seconds" in await failure(client(timeout_seconds=0.3), server.url)


async def test_a_silent_name_server_ends_with_the_time() -> None:
    class Silent(Names):
        async def __call__(self, host: str, port: int, *, owner: str = "") -> list[str]:
            await asyncio.Event().wait()
            raise AssertionError

    assert "within 0.3 seconds" in await failure(client(Silent(), timeout_seconds=0.3), f"http://{HOST}/")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"220 mail ESMTP\r\n",
        b"\x15\x03\x01\0\x02",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_not_http_is_refused(answer: bytes) -> None:
    async with serving(answer) as server:
        assert "broke off or does not speak HTTP" in await failure(client(), server.url)


@pytest.mark.parametrize("encoding", [b"gzip", b"GZIP", b"br", b"deflate", b"zstd", b"gzip, identity"])
async def test_a_compressed_answer_is_refused_and_not_unpacked(encoding: bytes) -> None:
    async with serving(ok(b"\x1f\x8b bomb", b"Content-Encoding: " + encoding)) as server:
        assert "is sent compressed" in await failure(client(), server.url)
    async with serving(ok(b"sound", b"Content-Encoding: identity")) as server:
        assert await client().fetch(FIELD, server.url) == b"sound"


async def test_a_url_of_the_wrong_form_is_refused_before_anybody_is_asked() -> None:
    names = Names()
    for url in ("ftp://files.test/", "http://127.0.0.1/", "nonsense", "http://[::1]/"):
        with pytest.raises(InvalidRequest, match=FIELD.replace(".", r"\.")):
            client(names).check_url(FIELD, url)
        assert await failure(client(names), url, InvalidRequest)
    client(names).check_url(FIELD, "https://example.com/a.wav")
    assert names.asked == []


async def test_a_download_that_is_cancelled_leaves_no_connection() -> None:
    gone = asyncio.Event()

    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        gone.set()

    async with serving(waits) as server:
        fetching = asyncio.create_task(client().fetch(FIELD, server.url))
        while not server.requests:
            await asyncio.sleep(0.01)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await asyncio.wait_for(gone.wait(), 30)


async def test_many_downloads_run_at_once() -> None:
    async with serving(ok(b"sound")) as server:
        guarded = client()
        assert await asyncio.gather(*(guarded.fetch(FIELD, server.url) for _ in range(150))) == [b"sound"] * 150


async def test_many_that_are_never_answered_leave_room_for_others() -> None:
    most_at_once, num_open = 0, 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most_at_once, num_open
        num_open += 1
        most_at_once = max(most_at_once, num_open)
        await reader.read()
        num_open -= 1

    guarded = client(timeout_seconds=1)
    async with serving(silent) as server, serving(ok(b"sound")) as honest:
        ends = await asyncio.gather(*(guarded.fetch(FIELD, server.url) for _ in range(200)), return_exceptions=True)
        assert {type(end) for end in ends} == {DownloadFailed}
        assert most_at_once <= 64
        assert await guarded.fetch(FIELD, honest.url) == b"sound"
        assert await guarded.post(honest.url, b"{}", {}, 30) == 200


async def test_a_webhook_is_posted_as_it_was_signed() -> None:
    body = asyncio.get_running_loop().create_future()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body.set_result(await reader.readexactly(7))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with serving(receive) as server:
        headers = {"X-Fal-Webhook-Signature": "ab12", "Content-Type": "application/json"}
        assert await client().post(server.url, b'{"a":1}', headers, 30) == 204
    assert await body == b'{"a":1}'
    head = server.requests[0].decode().split("\r\n")
    assert head[0] == "POST /a.wav HTTP/1.1"
    assert {"X-Fal-Webhook-Signature: ab12", "Content-Type: application/json", "Content-Length: 7"} <= set(head)


async def test_a_webhooks_redirect_is_its_answer() -> None:
    async with serving(ok(b"")) as other, serving(redirect(f"http://{HOST}:{other.port}/", 307)) as server:
        assert await client().post(server.url, b"{}", {}, 30) == 307
    assert other.num_connections == 0


async def test_an_answer_to_a_webhook_may_be_endless() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async with serving(endless) as server:
        assert await client().post(server.url, b"{}", {}, 30) == 200


async def test_a_webhook_that_is_not_received_says_why_and_nothing_of_the_network() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as server:
        with pytest.raises(DeliveryFailed, match=r"within 0\.3 seconds"):
            await client().post(server.url, b"{}", {}, 0.3)
    async with serving(b"") as server:
        with pytest.raises(DeliveryFailed, match="broke off"):
            await client().post(server.url, b"{}", {}, 30)
    names = Names(evil_test=[["10.0.0.1"]], files_test=[["127.0.0.1"]])
    messages = set()
    for url in ("http://evil.test/", "http://unknown.test/", f"http://{HOST}:9/"):
        with pytest.raises(DeliveryFailed) as caught:
            await client(names).post(url, b"{}", {}, 30)
        messages.add((type(caught.value), str(caught.value)))
    assert messages == {
        (DeliveryFailed, "the receiver's host cannot be reached from here, or its certificate is not trusted")
    }


@pytest.mark.parametrize("url", ["ftp://example.com/", "http://127.0.0.1/hook", "http://user:pw@example.com/", ""])
async def test_a_webhook_that_is_never_called_is_refused(url: str) -> None:
    with pytest.raises(DeliveryRefused, match="the URL: "):
        await client().post(url, b"{}", {}, 30)


def certificate(folder: Path, name: str, signed_by: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None = None):
    """A key and a certificate of `name` in PEM files, by itself or by a CA; with what signed it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, issuer_key = signed_by or (subject, key)
    now = datetime.datetime.now(datetime.UTC)
    address = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] if name == "127.0.0.1" else [x509.DNSName(name)]
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signed_by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(address), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path, (subject, key)


async def test_tls_is_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    authority, by_us = certificate(tmp_path, "authority")
    trust = ssl.create_default_context(cafile=str(authority))
    asked_for: list[str | None] = []
    for name, is_trusted in ((HOST, True), ("other.test", False), ("127.0.0.1", False)):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate(tmp_path, name, by_us)[0])
        tls.sni_callback = lambda connection, asked, context: asked_for.append(asked)
        async with serving(ok(b"sound"), tls) as server:
            url = server.url.replace("http:", "https:")
            if is_trusted:
                assert await client(tls=trust).fetch(FIELD, url) == b"sound"
                assert await client(tls=trust).post(url, b"", {}, 30) == 200
            else:
                assert "certificate is not trusted" in await failure(client(tls=trust), url)
            assert UNREACHABLE in await failure(client(), url)  # a CA that nobody else trusts
    assert set(asked_for) == {HOST}


async def test_what_breaks_tls_after_its_handshake_is_a_host_that_broke_off(tmp_path: Path) -> None:
    authority, by_us = certificate(tmp_path, "authority")
    trust = ssl.create_default_context(cafile=str(authority))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate(tmp_path, HOST, by_us)[0])
    listener = socket.create_server(("127.0.0.1", 0))

    def answer_out_of_tune() -> None:
        for _ in range(2):
            connection = tls.wrap_socket(listener.accept()[0], server_side=True)
            connection.recv(65536)
            with socket.socket(fileno=connection.detach()) as bare:
                bare.sendall(b"\x17\x03\x03\x00\x20" + b"z" * 32)  # a record that nobody's key fits

    answering = asyncio.create_task(asyncio.to_thread(answer_out_of_tune))
    url = f"https://{HOST}:{listener.getsockname()[1]}/"
    assert "broke off" in await failure(client(tls=trust), url)
    with pytest.raises(DeliveryFailed, match="broke off"):
        await client(tls=trust).post(url, b"{}", {}, 30)
    await answering
    listener.close()


async def test_a_key_whose_hosts_never_answer_leaves_connections_to_another_that_came_lately() -> None:
    num_open = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal num_open
        num_open += 1
        await reader.read()

    guarded = client()
    async with serving(silent) as slow, serving(ok(b"sound")) as honest:
        assert await guarded.fetch(FIELD, honest.url, owner="one") == b"sound"
        flood = [asyncio.create_task(guarded.fetch(FIELD, slow.url, owner="many")) for _ in range(100)]
        while num_open < 56:
            await asyncio.sleep(0.01)
        gathered = await asyncio.gather(*(guarded.fetch(FIELD, honest.url, owner="one") for _ in range(8)))
        assert gathered == [b"sound"] * 8
        assert num_open == 56
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


async def test_names_that_nobody_resolves_hold_up_the_names_of_their_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, asked = threading.Event(), []

    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        if host == "silent.test":
            answers.wait(30)
        return [(None, None, None, "", ("192.0.2.7", port))]

    monkeypatch.setattr("serve_app.net.pinned.socket.getaddrinfo", getaddrinfo)
    resolver = SystemResolver()
    assert await resolver("honest.test", 80, owner="one") == ["192.0.2.7"]
    flood = [asyncio.create_task(resolver("silent.test", 80, owner="many")) for _ in range(40)]
    while asked.count("silent.test") < 14:
        await asyncio.sleep(0.01)
    for task in flood[:10]:  # a thread that waits for the name server is not free because its caller left
        task.cancel()
    assert await resolver("honest.test", 80, owner="one") == ["192.0.2.7"]
    assert asked.count("silent.test") == 14
    answers.set()
    await asyncio.gather(*flood, return_exceptions=True)
