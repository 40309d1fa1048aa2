"""`csm-serve keys …`: against the database that `database.url` or `data_dir` name, while servers run or not."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from serve_app.cli.table import moment, show_table
from serve_app.keys.key import USUAL_SCOPES, Scope
from serve_app.keys.keys import KeyRecord, Keys
from serve_app.settings import load_settings
from serve_app.store.database import Database

keys_app = typer.Typer(
    no_args_is_help=True,
    help="Who may call, where keys are required. CSM_DATABASE__URL or CSM_DATA_DIR say where keys are kept.",
)

_COLUMNS = ("ID", "NAME", "SCOPES", "AUDIO/MIN", "AT ONCE", "CREATED", "LAST USED", "STATE")


@keys_app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is: for you to read.")],
    scope: Annotated[list[Scope] | None, typer.Option(help="What it is for; by default speech and files.")] = None,
    audio_seconds_per_minute: Annotated[
        float | None, typer.Option(help="How much audio; 0 is no limit. By default as keys.* say.")
    ] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests at once; 0 is no limit. As above.")] = None,
) -> None:
    """Make a key and print it. It cannot be shown again: only its hash is kept."""
    with _keys() as keys:
        _, plaintext = keys.create(name, scope or USUAL_SCOPES, audio_seconds_per_minute, concurrency)
    _show(plaintext)


@keys_app.command("list")
def list_keys() -> None:
    """Every key that there ever was, without its secret."""
    with _keys() as keys:
        rows = [_COLUMNS, *(_row(record) for record in keys.records())]
    show_table(rows)


@keys_app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """End a key for good; servers notice within keys.cached_seconds."""
    with _keys() as keys:
        keys.revoke(key_id)
    typer.echo(f"{key_id} is revoked", err=True)


@keys_app.command()
def rotate(
    key_id: Annotated[str, typer.Argument(metavar="ID")],
    grace_seconds: Annotated[float, typer.Option(min=0, help="How long the old secret counts yet.")] = 86_400,
) -> None:
    """Give a key a new secret and print it; the old one counts for a while yet, so that nobody is cut off."""
    with _keys() as keys:
        plaintext = keys.rotate(key_id, grace_seconds)
    _show(plaintext)


@contextmanager
def _keys() -> Iterator[Keys]:
    settings = load_settings({})
    database = Database.open(settings.database_url)
    try:
        yield Keys(database, settings.keys)
    finally:
        database.close()


def _show(plaintext: str) -> None:
    """The key alone on stdout, for scripts."""
    typer.echo("keep it now, it is not shown again:", err=True)
    typer.echo(plaintext)


def _row(record: KeyRecord) -> tuple[str, ...]:
    key = record.key
    return (
        key.id,
        key.name,
        " ".join(sorted(key.scopes)),
        f"{key.limits.audio_seconds_per_minute:g} s" if key.limits.audio_seconds_per_minute else "-",
        str(key.limits.concurrency or "-"),
        moment(record.created_at),
        moment(record.last_used_at),
        _state(record),
    )


def _state(record: KeyRecord) -> str:
    if record.revoked_at is not None:
        return f"revoked {moment(record.revoked_at)}"
    if record.previous_until is not None and record.previous_until > time.time():
        return f"old secret until {moment(record.previous_until)}"
    return "good"
