"""A server that others can reach is not open to them by oversight."""

from ipaddress import ip_address

from serve_app.errors import StartupError
from serve_app.settings import KeySettings


def check_exposure(settings: KeySettings, host: str | None) -> None:
    """`host`: what the server listens on; None is nothing. Raises StartupError where others could use it unasked."""
    if not (settings.required or settings.open or host is None or is_loopback(host)):
        raise StartupError(
            f"listening on {host} without keys would let everybody in who reaches it: set keys.required and make keys "
            "with csm-serve keys create, or listen on 127.0.0.1, or say that it is meant to be open (keys.open, --open)"
        )


def is_loopback(host: str) -> bool:
    """Only this machine reaches it. A name that is not known to be so is not."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
