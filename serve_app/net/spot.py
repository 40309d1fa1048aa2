"""Notices that a cloud is about to take a spot node away, as its metadata service gives them on the node itself.

AWS: two minutes before, `spot/instance-action` of the metadata service, asked with a session token (IMDSv2).
GCP: thirty seconds before, `instance/preempted`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

import httpx

from serve_app.errors import StartupError

_log = logging.getLogger(__name__)
AWS_ADDRESS = "http://169.254.169.254"
GCP_ADDRESS = "http://metadata.google.internal"
_TOKEN_SECONDS = 300
_ANSWER_SECONDS = 2.0
_GCP_SECONDS = 30.0
"""GCP tells that an instance goes, and not when. This long is what it promises."""


class Notices(Protocol):
    """A cloud's metadata service."""

    async def seconds_left(self) -> float | None:
        """Seconds until this node is taken away. None if it stays. Raises httpx.HTTPError if nobody answers."""
        ...


class AwsNotices:
    def __init__(self, http: httpx.AsyncClient, address: str = AWS_ADDRESS) -> None:
        self._http = http
        self._address = address

    async def seconds_left(self) -> float | None:
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
        token = await self._http.put(f"{self._address}/latest/api/token", headers=lifetime)
        token.raise_for_status()
        asked = {"X-aws-ec2-metadata-token": token.text}
        notice = await self._http.get(f"{self._address}/latest/meta-data/spot/instance-action", headers=asked)
        if notice.status_code == httpx.codes.NOT_FOUND:
            return None
        notice.raise_for_status()
        at = datetime.fromisoformat(notice.json()["time"])
        return max(0.0, (at - datetime.now(UTC)).total_seconds())


class GcpNotices:
    def __init__(self, http: httpx.AsyncClient, address: str = GCP_ADDRESS) -> None:
        self._http = http
        self._address = address

    async def seconds_left(self) -> float | None:
        url = f"{self._address}/computeMetadata/v1/instance/preempted"
        answer = await self._http.get(url, headers={"Metadata-Flavor": "Google"})
        answer.raise_for_status()
        return _GCP_SECONDS if answer.text.strip() == "TRUE" else None


CLOUDS: dict[str, Callable[[httpx.AsyncClient], Notices]] = {"aws": AwsNotices, "gcp": GcpNotices}


def metadata_client() -> httpx.AsyncClient:
    """Metadata services are on the node: no proxy of the environment leads there."""
    return httpx.AsyncClient(timeout=_ANSWER_SECONDS, trust_env=False)


async def found_cloud(http: httpx.AsyncClient) -> Notices:
    """The cloud whose metadata service answers here. Raises StartupError if none does."""
    for name, kind in CLOUDS.items():
        notices = kind(http)
        try:
            await notices.seconds_left()
        except (httpx.HTTPError, ValueError, KeyError):
            continue
        _log.info("this node is in %s", name)
        return notices
    raise StartupError("no metadata service of AWS or GCP answers here: name the cloud by --cloud, or leave this out")


async def watch(notices: Notices, drain: Callable[[float], Awaitable[bool]], poll_seconds: float) -> None:
    """Ask until the cloud takes the node away, then `drain` it with the seconds that are left.

    A `drain` that returns False is tried again, and so is a metadata service that does not answer.
    """
    while True:
        try:
            seconds = await notices.seconds_left()
        except (httpx.HTTPError, ValueError, KeyError) as error:
            _log.warning("the metadata service does not answer: %s", type(error).__name__)
            seconds = None
        if seconds is not None:
            _log.warning("this node is taken away in %.0f s", seconds)
            if await drain(seconds):
                return
        await asyncio.sleep(poll_seconds)
