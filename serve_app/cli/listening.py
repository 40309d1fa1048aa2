"""The address to listen on, checked before anything heavy is imported."""

import socket

from serve_app.errors import StartupError


def bare(host: str) -> str:
    """Without the brackets in which an IPv6 address stands in URLs."""
    return host.removeprefix("[").removesuffix("]")


def address_of(host: str, port: int) -> str:
    """As it stands in URLs: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def require_free_port(host: str, port: int) -> None:
    """Raises StartupError if the port is taken. Serve would share it silently, and each server would get half of the
    requests."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a server that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartupError(
                f"cannot listen on {address_of(host, port)} ({error.strerror}): choose another --port"
            ) from None
