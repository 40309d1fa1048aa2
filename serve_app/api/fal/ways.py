"""Addresses in answers go back the way the request came, since that way is known to work."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from starlette.requests import HTTPConnection
from starlette.types import Scope

_OWNER = "/fal-ai/"
APP = f"{_OWNER}csm-1b"
"""fal's id of this application's own model."""
PREFIX = "/fal"
"""Each surface is a folder below this path."""


class Surface(StrEnum):
    """fal's hosts. The same path has a different meaning on each."""

    RUN = "run"
    QUEUE = "queue"
    REST = "rest"
    CDN = "cdn"


FAL_HOSTS = {
    "fal.run": Surface.RUN,
    "queue.fal.run": Surface.QUEUE,
    "rest.fal.ai": Surface.REST,
    "rest.alpha.fal.ai": Surface.REST,  # of older clients
    "v3.fal.media": Surface.CDN,
}
_ITS_HOST = {surface: host for host, surface in reversed(FAL_HOSTS.items())}
_QUEUE_HOST = "queue."
_KEY = "csm.fal.way"


def app_of(application: str) -> str:
    """fal's id of the model of another application."""
    return f"{_OWNER}{application}"


@dataclass(frozen=True, slots=True)
class Way:
    """The base URL of each surface, as this caller reaches it."""

    bases: dict[Surface, str]

    @classmethod
    def by_prefix(cls, origin: str) -> Self:
        return cls({surface: f"{origin}{PREFIX}/{surface}" for surface in Surface})

    @classmethod
    def by_host(cls, host: str, origin: str) -> Self:
        """Paths without a prefix: on fal's own hosts, led here by DNS, or on `HOST` and `queue.HOST`."""
        if host in FAL_HOSTS:
            return cls({surface: f"https://{_ITS_HOST[surface]}" for surface in Surface})
        shared = origin.replace(f"://{_QUEUE_HOST}", "://", 1)
        return cls(dict.fromkeys(Surface, shared) | {Surface.QUEUE: origin})

    def url(self, surface: Surface, path: str) -> str:
        return self.bases[surface] + path

    def put_into(self, scope: Scope) -> None:
        scope[_KEY] = self


def way_of(request: HTTPConnection) -> Way:
    """The way by which this request came, as `FalSurfaces` found it."""
    return request.scope[_KEY]
