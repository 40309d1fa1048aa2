"""Real databases and a real S3 server, each started once for all tests here."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from serve_app.settings import FileSettings
from serve_app.store.database import Database
from serve_app.store.object_store import Objects

S3_OPTIONS = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1"}


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database, once on each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database.open(database_url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_settings(s3_endpoint: str) -> Callable[..., FileSettings]:
    """Settings for a bucket of its own, any of them replaced."""

    def settings(**changes: object) -> FileSettings:
        bucket = f"test-{uuid.uuid4().hex}"
        client = boto3.client(
            "s3",
            endpoint_url=s3_endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket=bucket)
        return FileSettings.model_validate(
            {"url": f"s3://{bucket}/kept/here", "options": {"endpoint": s3_endpoint, **S3_OPTIONS}, **changes}
        )

    return settings


@pytest.fixture
def objects(database: Database, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Objects]:
    """As people run it: SQLite beside a folder, PostgreSQL beside S3."""
    settings = FileSettings() if database.is_sqlite else request.getfixturevalue("s3_settings")()
    objects = Objects.open(settings, tmp_path)
    yield objects
    objects.close()
