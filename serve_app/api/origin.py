"""The server's own address, as its caller sees it."""

from starlette.datastructures import Headers
from starlette.types import Scope


def origin_of(scope: Scope, public_url: str | None) -> str:
    """Scheme, host and root path, without a slash at the end. `public_url` comes first, then what a proxy forwards."""
    if public_url is not None:
        return public_url.rstrip("/")
    headers = Headers(scope=scope)
    scheme = headers.get("x-forwarded-proto", scope["scheme"]).partition(",")[0].strip()
    scheme = {"ws": "http", "wss": "https"}.get(scheme, scheme)
    host = headers.get("x-forwarded-host", host_of(scope)).partition(",")[0].strip()
    return f"{scheme}://{host}{scope.get('root_path', '')}"


def host_of(scope: Scope) -> str:
    """The request's Host header, or the address of the socket."""
    address, port = scope.get("server") or ("localhost", 80)
    return Headers(scope=scope).get("host", f"{address}:{port}")
