"""A key without its secret, as the rest of the server sees it."""

from dataclasses import dataclass, field
from enum import StrEnum

from serve_app.errors import Forbidden


class Scope(StrEnum):
    """What a key may be used for."""

    SPEECH = "speech"
    FILES = "files"
    METRICS = "metrics"
    ADMIN = "admin"


USUAL_SCOPES = (Scope.SPEECH, Scope.FILES)


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """0 means no limit. A whole minute's audio may be used at once."""

    audio_seconds_per_minute: float = 0.0
    concurrency: int = 0


NO_LIMITS = KeyLimits()


@dataclass(frozen=True, slots=True)
class Key:
    """The caller. `id` owns the caller's files, jobs and request outcomes."""

    id: str
    name: str
    scopes: frozenset[Scope]
    limits: KeyLimits = NO_LIMITS
    generation: str = field(default="", compare=False)
    """Names the secret that the caller showed, without revealing it. Tokens carry it, so that they die with it."""

    def require(self, *scopes: Scope) -> None:
        """Raises Forbidden if a scope is missing."""
        for scope in scopes:
            if scope not in self.scopes:
                raise Forbidden(f"this key lacks the scope {scope}: use one that was created with --scope {scope}")


ANONYMOUS = Key("anonymous", "anonymous", frozenset(Scope))
"""Every caller of a server that requires no keys."""
