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


def check_ray_authentication(settings: KeySettings, host: str | None, has_token: bool) -> None:
    """Raises StartupError if others could reach a Ray that asks nobody for its token: they could run any code there."""
    if not (has_token or settings.open_ray or host is None or is_loopback(host)):
        raise StartupError(
            f"listening on {host} while Ray's own ports ask for no token: whoever reaches them runs code here. Set "
            "RAY_AUTH_MODE=token in the environment of every Ray process before Ray starts, or listen on 127.0.0.1, or "
            "say that a firewall keeps Ray's ports (keys.open_ray)"
        )


def unguarded_notice(host: str | None, variable: str, value: str | None, guard: str) -> str | None:
    """A warning where others can reach a proxy that does not bound the time for headers.

    variable, value: what the environment of Ray's processes names as the proxy's guard. guard: what it should name.
    """
    if host is None or is_loopback(host) or value == guard:
        return None
    return (
        f"listening on {host} without limits on headers and on the time for them: one client can stop the proxy. "
        f"Set {variable}={guard} in the environment of every Ray process, before Ray starts, or put a proxy with such "
        "limits in front"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. Of names, only localhost counts."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
