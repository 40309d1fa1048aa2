"""The only HTTP client for users' URLs, which name context audio and webhooks.

It trusts neither the URL, nor the name servers, nor the host that answers.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import httpcore
import httpx

from serve_app import __version__
from serve_app.errors import DeliveryFailed, DeliveryRefused, DownloadFailed, FileTooLarge, InvalidRequest, Overloaded
from serve_app.net.addresses import AllowedHosts
from serve_app.net.pinned import PinnedBackend, Resolver, SystemResolver
from serve_app.net.urls import checked_url
from serve_app.settings import NetSettings
from serve_app.turns import TurnLimits, Turns

_CONNECTIONS = TurnLimits("downloads wait", at_once=64, waiting=512, waiting_of_owner=128, wait_seconds=60.0)
_REDIRECTS = (301, 302, 303, 307, 308)
_BROKEN_OFF = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError)
"""OSError stands for ssl.SSLError: httpcore does not wrap TLS errors after the handshake."""

Headers = list[tuple[bytes, bytes]]


class GuardedClient:
    """Calls public hosts and those in `net.allowed_hosts`. Every redirect is checked like the first URL.

    Each call has its own connection. The client uses no cookies, proxies or passwords of this machine, and decompresses
    nothing.
    """

    def __init__(
        self, settings: NetSettings, resolver: Resolver | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._settings = settings
        self._allowed = AllowedHosts(settings.allowed_hosts)
        self._tls = tls or httpx.create_ssl_context()
        self._resolver = resolver or SystemResolver()
        self._places = Turns(_CONNECTIONS)

    def check_url(self, field: str, url: str) -> None:
        """Check a URL without using the network. Raises InvalidRequest."""
        checked_url(field, url, self._allowed)

    async def fetch(self, field: str, url: str, max_bytes: int | None = None, owner: str = "") -> bytes:
        """The content of `url`, up to `max_bytes` and `net.max_download_bytes`, within `net.timeout_seconds`.

        `field` names the URL in errors. `owner` is the key that names it: its slow hosts hold up its own downloads.
        Raises InvalidRequest for a URL that is not allowed, Overloaded where too many downloads wait, FileTooLarge, and
        DownloadFailed for every other failure.
        """
        first = checked_url(field, url, self._allowed)
        limit = min(max_bytes or self._settings.max_download_bytes, self._settings.max_download_bytes)
        try:
            async with asyncio.timeout(self._settings.timeout_seconds), self._places.awaited(owner):
                return await self._follow(field, first, limit, owner)
        except TimeoutError:
            raise DownloadFailed(
                field, f"was not downloaded within {self._settings.timeout_seconds:g} seconds: name a faster host"
            ) from None
        except (httpcore.ConnectError, httpcore.ConnectTimeout):
            raise DownloadFailed(
                field,
                "names a host that cannot be reached from here, or whose certificate is not trusted: name a public "
                "host, or upload the file",
            ) from None
        except _BROKEN_OFF:
            raise DownloadFailed(field, "names a host that broke off or does not speak HTTP: try another one") from None

    async def post(
        self, url: str, content: bytes, headers: Mapping[str, str], timeout_seconds: float, owner: str = ""
    ) -> int:
        """The status of the answer. The body is not read, and redirects are not followed. `owner` as for `fetch`.

        Raises DeliveryRefused for a URL that is not allowed, DeliveryFailed if no answer came.
        """
        try:
            target = checked_url("the URL", url, self._allowed)
        except InvalidRequest as error:
            raise DeliveryRefused(str(error)) from None
        own = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        try:
            async with (
                asyncio.timeout(timeout_seconds),
                self._places.awaited(owner),
                self._request("POST", target, own, owner, content) as response,
            ):
                return response.status
        except Overloaded:
            raise DeliveryFailed("too many webhooks of this key are being sent") from None
        except TimeoutError:
            raise DeliveryFailed(f"the receiver did not answer within {timeout_seconds:g} seconds") from None
        except (httpcore.ConnectError, httpcore.ConnectTimeout):
            raise DeliveryFailed(
                "the receiver's host cannot be reached from here, or its certificate is not trusted"
            ) from None
        except _BROKEN_OFF:
            raise DeliveryFailed("the receiver broke off or does not speak HTTP") from None

    async def _follow(self, field: str, url: httpx.URL, limit: int, owner: str) -> bytes:
        for _ in range(self._settings.max_redirects + 1):
            wanted = [(b"Accept", b"*/*"), (b"Accept-Encoding", b"identity")]
            async with self._request("GET", url, wanted, owner) as response:
                location = _header(response, b"location") if response.status in _REDIRECTS else ""
                if not location:
                    return await _body(field, response, limit)
            url = self._redirected(field, url, location)
        raise DownloadFailed(
            field, f"redirects more than {self._settings.max_redirects} times: send the URL that it ends at"
        )

    def _redirected(self, field: str, url: httpx.URL, location: str) -> httpx.URL:
        try:
            return checked_url(field, str(url.join(location)), self._allowed)
        except (httpx.InvalidURL, UnicodeError):
            raise DownloadFailed(field, "redirects to what is not a URL: send the URL of the file itself") from None
        except InvalidRequest as error:
            raise DownloadFailed(field, f"redirects to a URL that {error.message}") from None

    @asynccontextmanager
    async def _request(
        self, method: str, url: httpx.URL, headers: Headers, owner: str, content: bytes | None = None
    ) -> AsyncGenerator[httpcore.Response, None]:
        every = [(b"Host", url.netloc), (b"User-Agent", f"csm-serve/{__version__}".encode()), (b"Connection", b"close")]
        if content is not None:
            every.append((b"Content-Length", str(len(content)).encode()))
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        # Not httpcore's pool: it can keep the connection of a cancelled request for ever (1.0.9).
        backend = PinnedBackend(self._allowed, partial(self._resolver, owner=owner))
        connection = httpcore.AsyncHTTPConnection(target.origin, self._tls, network_backend=backend)
        try:
            async with connection.stream(method, target, headers=every + headers, content=content) as response:
                yield response
        finally:
            await connection.aclose()


async def _body(field: str, response: httpcore.Response, limit: int) -> bytes:
    if response.status != 200:
        raise DownloadFailed(
            field, f"was answered with status {response.status}: send a URL that answers 200 to everybody"
        )
    if _header(response, b"content-encoding").lower() not in ("", "identity"):
        raise DownloadFailed(field, "is sent compressed though that was not asked for: serve the file as it is")
    too_large = FileTooLarge(field, f"is larger than {limit} bytes: send a smaller file")
    announced = _header(response, b"content-length")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


def _header(response: httpcore.Response, name: bytes) -> str:
    """The first header with that name, or an empty string."""
    return next((value.decode("latin-1").strip() for key, value in response.headers if key.lower() == name), "")
