"""Headers of bounded length that tell the caller about weights, ignored fields and unspoken text."""

from collections.abc import Iterable

from serve_app.messages import ModelInfo

_MAX_CHARS = 1000
NOTICE = "X-CSM-Notice"
TEXT_NOTICE = "X-CSM-Text-Notice"


def weights_headers(info: ModelInfo, notices: Iterable[str] = ()) -> dict[str, str]:
    """The headers that every answer with speech carries. `notices` follow that of the weights."""
    return {"X-CSM-Weights": info.weights} | _header(NOTICE, (info.notice or "", *notices))


def text_headers(notices: Iterable[str]) -> dict[str, str]:
    """The header that names parts of the texts that are not spoken."""
    return _header(TEXT_NOTICE, notices)


def _header(name: str, notices: Iterable[str]) -> dict[str, str]:
    text = "; ".join(notice for notice in notices if notice)
    # Proxies and clients disagree on everything but printable ASCII.
    safe = "".join(char if " " <= char <= "~" else "?" for char in text)
    return {name: safe if len(safe) <= _MAX_CHARS else f"{safe[: _MAX_CHARS - 3]}..."} if safe else {}
