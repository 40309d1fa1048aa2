"""`csm-serve keys`, on the database that the environment names."""

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serve_app.cli.main import app, main
from serve_app.errors import Unauthorized, UnknownKey
from serve_app.keys.keys import Keys
from serve_app.settings import Settings
from serve_app.store.database import Database

FORM = re.compile(r"(csm_[0-9a-f]{16}):[\w-]{43}\n")


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CSM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("CSM_DATABASE__URL", raising=False)
    return tmp_path / "data"


def run(*argv: str) -> Result:
    return CliRunner().invoke(app, ["keys", *argv])


def created(*argv: str) -> str:
    """The new key's `id:secret`."""
    result = run("create", *argv)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def id_of(plaintext: str) -> str:
    return plaintext.partition(":")[0]


async def is_good(plaintext: str) -> bool:
    """To a server with the same settings."""
    settings = Settings()
    database = Database.open(settings.database_url)
    try:
        await Keys(database, settings.keys).check(plaintext)
    except Unauthorized:
        return False
    finally:
        database.close()
    return True


async def test_a_created_key_is_good_and_stands_alone_on_stdout() -> None:
    result = run("create", "Ann")
    assert FORM.fullmatch(result.stdout)
    assert "not shown again" in result.stderr
    assert await is_good(result.stdout.strip())


def test_the_list_shows_all_but_secrets() -> None:
    ann = created("Ann", "--audio-seconds-per-minute", "90", "--concurrency", "2")
    ben = created("Ben Bär", "--scope", "files", "--scope", "metrics")
    run("revoke", id_of(ben))
    heading, *lines = run("list").stdout.splitlines()
    assert heading.split("  ")[0] == "ID"
    assert re.fullmatch(rf"{id_of(ann)}  Ann +files speech +90 s +2 +\d{{4}}-\S+ \S+ +- +good", lines[0])
    assert re.fullmatch(rf"{id_of(ben)}  Ben Bär +files metrics +- +- +\S+ \S+ +- +revoked \S+ \S+", lines[1])
    for plaintext in (ann, ben):
        assert plaintext.partition(":")[2] not in run("list").output


def test_the_list_of_none_is_its_heading() -> None:
    assert len(run("list").stdout.splitlines()) == 1


async def test_a_revoked_key_is_not_good_any_more() -> None:
    plaintext = created("Ann")
    assert run("revoke", id_of(plaintext)).exit_code == 0
    assert not await is_good(plaintext)


async def test_a_rotated_key_has_both_secrets_for_a_day_or_as_long_as_said() -> None:
    first = created("Ann")
    second = run("rotate", id_of(first)).stdout
    assert FORM.fullmatch(second)
    assert await is_good(first) and await is_good(second.strip())
    assert "old secret until" in run("list").stdout
    third = run("rotate", id_of(first), "--grace-seconds", "0").stdout.strip()
    assert [await is_good(each) for each in (first, second.strip(), third)] == [False, False, True]
    assert run("list").stdout.strip().endswith("good")


@pytest.mark.parametrize("argv", [("revoke", "csm_0"), ("rotate", "csm_0")], ids=str)
def test_an_id_that_is_not_known_is_a_failure_in_one_line(
    argv: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(run(*argv).exception, UnknownKey)
    monkeypatch.setattr(sys, "argv", ["csm-serve", "keys", *argv])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == ("csm-serve: key csm_0 is unknown or was revoked: csm-serve keys list shows all keys")


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["create", "Ann", "--scope", "root"], 2), (["create", "Ann", "--concurrency", "-1"], 1),
        (["create", ""], 1), (["create"], 2), (["rotate", "csm_0", "--grace-seconds", "-1"], 2),
    ],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_refused(argv: list[str], status: int) -> None:
    assert run(*argv).exit_code == status
    assert len(run("list").stdout.splitlines()) == 1


def test_a_database_that_cannot_be_opened_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSM_DATABASE__URL", "postgresql+psycopg://u:hush@127.0.0.1:1/csm")
    monkeypatch.setattr(sys, "argv", ["csm-serve", "keys", "list"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert str(stopped.value.code).startswith("csm-serve: database.url: cannot open the database")
    assert "hush" not in str(stopped.value.code)
