"""Where a server may listen without keys."""

from pathlib import Path

import pytest
import yaml

import serve_app
from serve_app.errors import StartupError
from serve_app.keys.exposure import check_exposure, check_ray_authentication, unguarded_notice
from serve_app.settings import KeySettings

CONFIGS = sorted((Path(serve_app.__file__).parent / "configs").glob("*.yaml"))

PUBLIC = ["0.0.0.0", "::", "", "192.168.1.7", "203.0.113.9", "example.com", "localhost.example.com", "::ffff:10.0.0.1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", None])
def test_this_machine_needs_no_keys(host: str | None) -> None:
    check_exposure(KeySettings(), host)


@pytest.mark.parametrize("host", PUBLIC)
def test_others_do(host: str) -> None:
    with pytest.raises(StartupError, match=r"keys.required .* 127\.0\.0\.1, .*--open"):
        check_exposure(KeySettings(), host)


@pytest.mark.parametrize("host", PUBLIC)
def test_they_may_come_where_keys_are_required_or_it_was_said(host: str) -> None:
    check_exposure(KeySettings(required=True), host)
    check_exposure(KeySettings(open=True), host)


@pytest.mark.parametrize("host", PUBLIC)
def test_others_are_not_let_to_a_ray_without_a_token_by_oversight(host: str) -> None:
    with pytest.raises(StartupError, match=r"RAY_AUTH_MODE=token .*127\.0\.0\.1.*keys\.open_ray"):
        check_ray_authentication(KeySettings(required=True), host, has_token=False)
    check_ray_authentication(KeySettings(required=True), host, has_token=True)
    check_ray_authentication(KeySettings(required=True, open_ray=True), host, has_token=False)


@pytest.mark.parametrize("host", ["127.0.0.1", None])
def test_this_machine_may_have_a_ray_without_a_token(host: str | None) -> None:
    check_ray_authentication(KeySettings(), host, has_token=False)


@pytest.mark.parametrize("host", PUBLIC)
def test_a_proxy_without_its_guard_is_named_with_the_remedy(host: str) -> None:
    assert "VARIABLE=our-guard" in (unguarded_notice(host, "VARIABLE", None, "our-guard") or "")
    assert unguarded_notice(host, "VARIABLE", "our-guard", "our-guard") is None
    assert unguarded_notice("127.0.0.1", "VARIABLE", None, "our-guard") is None


def test_open_and_required_contradict_each_other() -> None:
    with pytest.raises(StartupError, match="contradict each other"):
        KeySettings(open=True, required=True)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_shipped_configs_let_nobody_in_by_oversight(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    keys = KeySettings(**config["applications"][0]["args"].get("keys", {}))
    assert not keys.open
    check_exposure(keys, config["http_options"]["host"])
