"""Checks a user's URL before its host is resolved."""

import re
from ipaddress import ip_address

import httpx

from serve_app.errors import InvalidRequest
from serve_app.net.addresses import AllowedHosts, is_address

MAX_URL_CHARS = 8192

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes many resolvers read the name as an address: 127.1, 2130706433, 0x7f.1, 0177.0.0.1."""
_WEB_PORTS = (80, 443)
_FIRST_UNPRIVILEGED_PORT = 1024


def checked_url(field: str, text: str, allowed: AllowedHosts) -> httpx.URL:
    """The parsed URL. Raises InvalidRequest unless it is an http(s) URL whose host may be public."""
    url = _parsed(field, text)
    if url.scheme not in ("http", "https"):
        raise InvalidRequest(field, "must begin with http:// or https://")
    if url.userinfo or b"@" in url.netloc:
        raise InvalidRequest(field, "must not hold a user name or a password: leave out the part before the @")
    host = url.raw_host.decode("ascii")
    if is_address(host) and "%" not in host:
        if not allowed.address(host, ip_address(host)):
            raise InvalidRequest(field, "names an address that is not public: name a host that everybody can reach")
    elif not _NAME.fullmatch(host) or _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise InvalidRequest(field, "must name its host as example.com, 93.184.215.14 or [2606:2800::1], in plain form")
    if not _is_allowed_port(url.port) and not allowed.name(host):
        raise InvalidRequest(field, f"must use port 80, 443, or one from {_FIRST_UNPRIVILEGED_PORT} up")
    return url


def _parsed(field: str, text: str) -> httpx.URL:
    if len(text) > MAX_URL_CHARS:
        raise InvalidRequest(field, f"is a URL of more than {MAX_URL_CHARS} characters: send a shorter one")
    if any(letter.isspace() for letter in text) or "\\" in text:
        raise InvalidRequest(field, "must be a URL without spaces and backslashes: write them as %20 and %5C")
    try:
        return httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError):  # UnicodeError: IDNA
        raise InvalidRequest(field, "is not a URL; send one as https://example.com/speech.wav") from None


def _is_allowed_port(port: int | None) -> bool:
    return port is None or port in _WEB_PORTS or _FIRST_UNPRIVILEGED_PORT <= port <= 65535
