"""compose.yaml and deploy/Dockerfile.cpu, read: nothing is built or pulled here."""

import json
import re
from typing import Any

import pytest
import yaml

from deploy.cpu_lock import cpu_lock
from serve_app import __version__
from serve_app.settings import load_settings
from tests.support.deploy_files import ROOT
from tests.unit.deploy.test_dockerfile import all_of

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
DOCKERFILE = ROOT / "deploy" / "Dockerfile.cpu"
GIVEN = {"POSTGRES_PASSWORD": "p", "S3_SECRET": "s", "REDIS_PASSWORD": "r"}


def filled(value: str) -> str:
    """As Compose fills in variables: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`."""

    def of(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        return GIVEN.get(name, default or "")

    return re.sub(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*)|:\?[^}]*)?\}", of, value)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    values = {name: filled(value) for name, value in COMPOSE["services"]["csm"]["environment"].items()}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


def test_the_server_reads_its_settings(environment: dict[str, str]) -> None:
    settings = load_settings({})
    assert settings.keys.required
    assert settings.database_url == "postgresql://csm:p@postgres:5432/csm"
    assert settings.files.url == "s3://csm/files"
    assert settings.files.options["secret_access_key"].get_secret_value() == "s"


def test_every_host_that_is_named_is_a_service_and_every_volume_is_declared(environment: dict[str, str]) -> None:
    endpoint = json.loads(environment["CSM_FILES__OPTIONS"])["endpoint"]
    named = [
        environment["CSM_DATABASE__URL"].partition("@")[2],
        endpoint.partition("//")[2],
        environment["RAY_REDIS_ADDRESS"],
    ]
    assert {host.partition(":")[0] for host in named} <= set(COMPOSE["services"])
    for service in COMPOSE["services"].values():
        assert {volume.partition(":")[0] for volume in service.get("volumes", ())} <= set(COMPOSE["volumes"])
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])


def test_only_the_server_is_published_and_only_on_this_machine() -> None:
    assert {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service} == {
        "csm": ["127.0.0.1:8000:8000"]
    }


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+):\?", text)) == set(GIVEN)
    assert not set(re.findall(r"\$\{(\w+):-", text)) & set(GIVEN)


def test_the_bucket_is_the_one_that_files_go_to() -> None:
    (made,) = [word for word in COMPOSE["services"]["bucket"]["command"] if word.startswith("/store/")]
    assert COMPOSE["services"]["csm"]["environment"]["CSM_FILES__URL"].startswith(
        f"s3://{made.removeprefix('/store/')}/"
    )


def test_the_image_is_this_version_slim_and_not_roots() -> None:
    text = DOCKERFILE.read_text()
    assert COMPOSE["services"]["csm"]["image"] == f"csm-serve:{__version__}-cpu"
    assert all_of(text, "FROM") == ["python:3.11-slim-bookworm"]
    assert all_of(text, "USER")[-1] == "1000"
    kept = (ROOT / "deploy" / "Dockerfile.cpu.dockerignore").read_text().splitlines()
    for line in all_of(text, "COPY"):
        for source in [word for word in line.split()[:-1] if not word.startswith("--")]:
            assert (ROOT / source).exists() and f"!{source}" in kept, source


def test_the_lock_for_cpus_differs_in_torch_and_cuda_only() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    of = {name: text.splitlines() for name, text in (("all", lock), ("cpu", cpu_lock(lock)))}
    names: dict[str, Any] = {
        which: {line.split()[0] for line in lines if re.match(r"[a-z].*==", line)} for which, lines in of.items()
    }
    gone = names["all"] - names["cpu"]
    assert gone and all(re.match("nvidia-|cuda-", name) for name in gone)
    assert not names["cpu"] - names["all"]
    torch = next(number for number, line in enumerate(of["cpu"]) if line.startswith("torch=="))
    assert of["cpu"][torch].split() == [of["cpu"][torch]] and "--hash" not in of["cpu"][torch + 1]
