"""A node learns from its cloud's metadata service that it goes, and is drained in time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from serve_app.errors import StartupError
from serve_app.net import spot
from serve_app.net.spot import AwsNotices, GcpNotices, Notices, found_cloud, watch


class Metadata:
    """AWS' and GCP's metadata services, as an HTTP transport."""

    def __init__(self, cloud: str) -> None:
        self.cloud = cloud
        self.goes_at: datetime | None = None
        self.is_away = False
        self.transport = httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        if (
            self.is_away
            or request.url.host != {"aws": "169.254.169.254", "gcp": "metadata.google.internal"}[self.cloud]
        ):
            raise httpx.ConnectError("no route to host")
        return self._aws(request) if self.cloud == "aws" else self._gcp(request)

    def _aws(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PUT" and request.url.path == "/latest/api/token":
            return httpx.Response(200, text="a token")
        if request.headers.get("X-aws-ec2-metadata-token") != "a token":
            return httpx.Response(401)
        if self.goes_at is None:
            return httpx.Response(404)
        return httpx.Response(200, json={"action": "terminate", "time": f"{self.goes_at:%Y-%m-%dT%H:%M:%SZ}"})

    def _gcp(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("Metadata-Flavor") != "Google":
            return httpx.Response(403)
        return httpx.Response(200, text="TRUE" if self.goes_at else "FALSE")


@pytest.fixture(params=["aws", "gcp"])
def metadata(request: pytest.FixtureRequest) -> Metadata:
    return Metadata(request.param)


@pytest.fixture
async def notices(metadata: Metadata) -> AsyncIterator[Notices]:
    async with httpx.AsyncClient(transport=metadata.transport) as http:
        yield await found_cloud(http)


async def test_the_cloud_is_found_by_whose_service_answers(metadata: Metadata, notices: Notices) -> None:
    assert isinstance(notices, AwsNotices if metadata.cloud == "aws" else GcpNotices)


async def test_a_machine_of_no_cloud_says_so() -> None:
    nowhere = Metadata("aws")
    nowhere.is_away = True
    async with httpx.AsyncClient(transport=nowhere.transport) as http:
        with pytest.raises(StartupError, match="--cloud"):
            await found_cloud(http)


async def test_the_time_left_is_what_the_cloud_says(metadata: Metadata, notices: Notices) -> None:
    assert await notices.seconds_left() is None
    metadata.goes_at = datetime.now(UTC) + timedelta(seconds=120)
    seconds = await notices.seconds_left()
    assert seconds is not None and (abs(seconds - 120) < 2 if metadata.cloud == "aws" else seconds == 30)


async def test_the_node_is_drained_once_and_again_only_if_ray_refused(metadata: Metadata, notices: Notices) -> None:
    drained: list[float] = []

    async def drain(seconds: float) -> bool:
        drained.append(seconds)
        return len(drained) == 2

    watching = asyncio.create_task(watch(notices, drain, poll_seconds=0.01))
    await asyncio.sleep(0.1)
    metadata.is_away = True  # it does not answer for a while
    await asyncio.sleep(0.1)
    assert not drained and not watching.done()
    metadata.is_away, metadata.goes_at = False, datetime.now(UTC) + timedelta(seconds=60)
    await asyncio.wait_for(watching, 10)
    assert len(drained) == 2


async def test_no_proxy_of_the_environment_leads_to_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with spot.metadata_client() as http:
        assert http.trust_env is False
