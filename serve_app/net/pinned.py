"""Connections to checked addresses only: a name is resolved once, and the checked address is the one connected to."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import cast

import httpcore

from serve_app.net.addresses import Address, AllowedHosts

Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Maps host and port to addresses. Raises OSError."""

_CONNECT_SECONDS = 5.0
_MAX_ADDRESSES = 4
_MAX_LOOKUPS = 8


class SystemResolver:
    """The system's resolver in its own threads, so that a slow name server blocks no thread that decodes audio."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_MAX_LOOKUPS, "resolver")

    async def __call__(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for *_, address in found]


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """httpcore's connections, to allowed addresses only. TLS and the Host header keep the name.

    A refused address gives the same error as a closed port, so that a URL reveals nothing about the network here.
    """

    def __init__(self, allowed: AllowedHosts, resolver: Resolver) -> None:
        self._allowed = allowed
        self._resolver = resolver
        self._sockets = cast(httpcore.AsyncNetworkBackend, httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises httpcore.ConnectError or ConnectTimeout."""
        failure: httpcore.ConnectError | httpcore.ConnectTimeout = httpcore.ConnectError()
        for address in await self._addresses(host, port):
            try:
                return await self._sockets.connect_tcp(
                    str(address), port, _CONNECT_SECONDS, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """The addresses of `host`. One forbidden address refuses them all, since an honest name has none."""
        try:
            found = [ip_address(text) for text in await self._resolver(host, port)]
        except (OSError, UnicodeError):
            raise httpcore.ConnectError() from None
        if not all(self._allowed.address(host, address) for address in found):
            raise httpcore.ConnectError()
        return found[:_MAX_ADDRESSES]
