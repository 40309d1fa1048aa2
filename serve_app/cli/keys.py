"""`csm-serve keys …`: manages the keys in the configured database. A server may run meanwhile."""

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
    rich_markup_mode=None,
    help="Create, list, rotate and revoke API keys. CSM_DATABASE__URL or CSM_DATA_DIR name the database.",
)

_COLUMNS = ("ID", "NAME", "SCOPES", "AUDIO/MIN", "AT ONCE", "CREATED", "LAST USED", "STATE")


@keys_app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for your own records.")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help="Permission to grant. Repeatable. Default: speech and files.")
    ] = None,
    audio_seconds_per_minute: Annotated[
        float | None, typer.Option(help="Audio limit; 0 means no limit. Default: keys.audio_seconds_per_minute.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Limit of requests at once; 0 means no limit. Default: keys.concurrency.")
    ] = None,
) -> None:
    """Create a key and print it. It cannot be shown again, because only its hash is stored."""
    with _keys() as keys:
        _, plaintext = keys.create(name, scope or USUAL_SCOPES, audio_seconds_per_minute, concurrency)
    _show(plaintext)


@keys_app.command("list")
def list_keys() -> None:
    """List all keys without their secrets, revoked ones included."""
    with _keys() as keys:
        rows = [_COLUMNS, *(_row(record) for record in keys.records())]
    show_table(rows)


@keys_app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Revoke a key for good. Servers notice within keys.cached_seconds."""
    with _keys() as keys:
        keys.revoke(key_id)
    typer.echo(f"{key_id} is revoked", err=True)


@keys_app.command()
def rotate(
    key_id: Annotated[str, typer.Argument(metavar="ID")],
    grace_seconds: Annotated[float, typer.Option(min=0, help="How long the old secret stays valid.")] = 86_400,
) -> None:
    """Give a key a new secret and print it. The old secret stays valid for the grace time."""
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
    """Print the key alone on stdout, for scripts."""
    typer.echo("store it now, it is not shown again:", err=True)
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
