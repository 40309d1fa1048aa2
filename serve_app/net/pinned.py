"""Connections to checked addresses only: a name is resolved once, and the checked address is the one connected to."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Protocol, cast

import httpcore

from serve_app.net.addresses import Address, AllowedHosts
from serve_app.turns import TurnLimits, Turns

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""Maps host and port to addresses. Raises OSError."""

_CONNECT_SECONDS = 5.0
_MAX_ADDRESSES = 4
_MAX_LOOKUPS = 16
_LOOKUPS = TurnLimits("names wait to be looked up", _MAX_LOOKUPS, waiting=512, waiting_of_owner=128, wait_seconds=60.0)


class Resolver(Protocol):
    async def __call__(self, host: str, port: int, *, owner: str) -> list[str]:
        """The addresses of `host`. `owner` is the key that names it. Raises OSError, and Overloaded."""
        ...


class SystemResolver:
    """The system's resolver in its own threads, so that a slow name server blocks no thread that decodes audio.

    Keys take turns, since a lookup that nobody answers keeps its thread after its request has left.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_MAX_LOOKUPS, "resolver")
        self._turns = Turns(_LOOKUPS)

    async def __call__(self, host: str, port: int, *, owner: str) -> list[str]:
        ticket = await self._turns.taken(owner)
        looking_up = self._threads.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        looking_up.add_done_callback(lambda _: self._turns.leave(ticket))
        return [str(address[0]) for *_, address in await asyncio.wrap_future(looking_up)]


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """httpcore's connections, to allowed addresses only. TLS and the Host header keep the name.

    A refused address gives the same error as a closed port, so that a URL reveals nothing about the network here.
    """

    def __init__(self, allowed: AllowedHosts, lookup: Lookup) -> None:
        self._allowed = allowed
        self._lookup = lookup
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
            found = [ip_address(text) for text in await self._lookup(host, port)]
        except (OSError, UnicodeError):
            raise httpcore.ConnectError() from None
        if not all(self._allowed.address(host, address) for address in found):
            raise httpcore.ConnectError()
        return found[:_MAX_ADDRESSES]
