"""Web and e-mail addresses, handles and hashtags."""

import re

from serve_app.speech.text.rule import applied, rule
from serve_app.speech.text.tables import listed
from serve_app.speech.text.tracked import Tracked

_TOP_LEVEL = (
    "com|org|net|edu|gov|mil|int|io|ai|co|dev|app|info|biz|tv|me|us|uk|de|dk|fr|eu|ca|au|jp|cn|in|se|no|nl|ch|xyz|html"
)
_MAIL = re.compile(
    r"(?:mailto:)?(?<![\w.+-])([\w][\w.+-]{0,63})@((?:[\w-]{1,63}\.){1,5}[a-zA-Z]{2,24})(?![\w@])",
    re.IGNORECASE | re.ASCII,
)
_URL = re.compile(
    r"(?:https?|ftp)://(?:www\.)?([^\s<>\"'()\[\]{}|]{1,2000})|(?<![\w.@])www\.([^\s<>\"'()\[\]{}|]{1,2000})",
    re.IGNORECASE,
)
_BARE_HOST = re.compile(
    rf"(?<![\w.@/-])((?:[a-zA-Z][a-zA-Z0-9-]{{0,62}}\.){{1,4}}(?:{_TOP_LEVEL})(?:/[\w/.~%#?=&+-]{{0,300}})?)(?![\w@-])",
    re.ASCII,
)
_FILE = re.compile(
    r"(?<![\w.-])([A-Za-z_][\w-]{0,60}(?:\.[A-Za-z]{1,4}){0,2})\.([a-z][a-z0-9]{1,4})(?![\w/-]|\.\w)", re.ASCII
)
_FILE_ENDINGS = frozenset(
    listed(
        """
        py js ts txt pdf doc docx xls xlsx csv json xml html css md exe zip gz tar jpg jpeg png gif svg mp3 mp4 wav sh
        yaml yml toml cpp rs go java
        """
    )
)
_HANDLE = re.compile(r"(?<![\w@])@(\w{1,50})", re.ASCII)
_HASHTAG = re.compile(r"(?<![\w#&])#([A-Za-z]\w{0,80})", re.ASCII)
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_")
_TRAILING = re.compile(r"[.,;:!?]+$")
_SIGNS = {".": "dot", "/": "slash", "-": "dash", "_": "underscore", "+": "plus", "@": "at", "~": "tilde", ":": "colon"}
_SIGN = re.compile("[" + re.escape("".join(_SIGNS)) + "]")
_MAX_PATH_CHARS = 40


def spoken_addresses(tracked: Tracked) -> Tracked:
    """Addresses as a reader dictates them: "example dot com slash shop". Queries and long paths are left out."""
    return applied(tracked, _RULES)


def _url(address: str) -> str:
    end = _TRAILING.search(address)
    kept = _TRAILING.sub("", address)
    host, slash, path = re.split(r"[?#]", kept)[0].rstrip("/").partition("/")
    said = _dictated(host)
    if slash and path and len(path) <= _MAX_PATH_CHARS:
        said += f" slash {_dictated(path)}"
    return said + (end[0] if end else "")


def _dictated(address: str) -> str:
    return " ".join(_SIGN.sub(lambda match: f" {_SIGNS[match[0]]} ", address).split())


def _file(match: re.Match[str]) -> str:
    return f"{_dictated(match[1])} dot {match[2]}" if match[2] in _FILE_ENDINGS else match[0]


def _words(name: str) -> str:
    return " ".join(_HUMPS.sub(" ", name).split())


_RULES = (
    rule(_MAIL, lambda match: f"{_dictated(match[1])} at {_dictated(match[2])}", "@"),
    rule(_URL, lambda match: _url(match[1] or match[2]), "[.:]", "://|[wW]{3}\\."),
    rule(_BARE_HOST, lambda match: _url(match[1]), hint="\\.[a-zA-Z]"),
    rule(_FILE, _file, hint="\\.[a-z]"),
    rule(_HANDLE, lambda match: f"at {_words(match[1])}", "@"),
    rule(_HASHTAG, lambda match: f"hashtag {_words(match[1])}", "#"),
)
