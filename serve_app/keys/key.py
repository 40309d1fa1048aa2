"""A key as the rest of the server sees it. Its secret is nowhere in here."""

from dataclasses import dataclass
from enum import StrEnum

from serve_app.errors import Forbidden


class Scope(StrEnum):
    """What a key may be used for."""

    SPEECH = "speech"
    FILES = "files"
    METRICS = "metrics"


USUAL_SCOPES = (Scope.SPEECH, Scope.FILES)


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """0 is no limit. Of audio, a whole minute's worth may be taken at once."""

    audio_seconds_per_minute: float = 0.0
    concurrency: int = 0


NO_LIMITS = KeyLimits()


@dataclass(frozen=True, slots=True)
class Key:
    """Who calls. `id` owns what the caller leaves behind: files, jobs, outcomes of requests."""

    id: str
    name: str
    scopes: frozenset[Scope]
    limits: KeyLimits = NO_LIMITS

    def require(self, *scopes: Scope) -> None:
        """Raises Forbidden where one of them is missing."""
        for scope in scopes:
            if scope not in self.scopes:
                raise Forbidden(f"this key lacks the scope {scope}: use one that was created with --scope {scope}")


ANONYMOUS = Key("anonymous", "anonymous", frozenset(Scope))
"""Everybody, where keys are not required."""
