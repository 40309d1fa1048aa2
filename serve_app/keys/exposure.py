"""Refuses to serve other machines without keys, unless the settings say so."""

from ipaddress import ip_address

from serve_app.errors import StartupError
from serve_app.settings import KeySettings


def check_exposure(settings: KeySettings, host: str | None) -> None:
    """Raises StartupError if others could use the server without keys. `host`: the listening address, None for none."""
    if not (settings.required or settings.open or host is None or is_loopback(host)):
        raise StartupError(
            f"listening on {host} without keys would let in anyone who reaches it: set keys.required and make keys "
            "with csm-serve keys create, or listen on 127.0.0.1, or allow open access (keys.open, --open)"
        )


def unguarded_notice(host: str | None, callback: str | None, guard: str) -> str | None:
    """A warning where others can reach a proxy that bounds neither headers nor connections.

    callback, guard: the function that Serve calls in its proxies, and the one that it should call.
    """
    if host is None or is_loopback(host) or callback == guard:
        return None
    return (
        f"listening on {host} without limits on headers and on the time for them: one connection can stop the proxy. "
        f"Set RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH={guard} in the environment of every Ray process, before Ray "
        "starts, or put a proxy with such limits in front"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. Of names, only localhost counts."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
