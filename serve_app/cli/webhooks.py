"""`csm-serve webhooks …`: lists and retries webhooks in the configured database. A server may run meanwhile."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from serve_app.cli.table import moment, show_table
from serve_app.jobs.webhooks import Outbox, Webhook, WebhookState
from serve_app.settings import load_settings
from serve_app.store.database import Database

webhooks_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List and retry webhooks of ended jobs. CSM_DATABASE__URL or CSM_DATA_DIR name the database.",
)

_COLUMNS = ("ID", "STATE", "FAILED", "CREATED", "NEXT", "URL", "REASON")


@webhooks_app.command("list")
def list_webhooks(
    dead: Annotated[bool, typer.Option("--dead", help="Only dead letters, which were given up.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 100,
) -> None:
    """List the stored webhooks, newest first."""
    with _outbox() as outbox:
        webhooks = asyncio.run(outbox.list(WebhookState.DEAD if dead else None, limit))
    show_table([_COLUMNS, *map(_row, webhooks)])


@webhooks_app.command()
def retry(webhook_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Deliver a dead letter again, with all its retries. A running server sends it within a second."""
    with _outbox() as outbox:
        if not asyncio.run(outbox.revive(webhook_id)):
            raise typer.BadParameter(f"no dead letter has the id {webhook_id}: csm-serve webhooks list --dead")
    typer.echo(f"{webhook_id} will be delivered again", err=True)


@contextmanager
def _outbox() -> Iterator[Outbox]:
    settings = load_settings({})
    database = Database.open(settings.database_url)
    try:
        yield Outbox(database, settings.webhooks)
    finally:
        database.close()


def _row(webhook: Webhook) -> tuple[str, ...]:
    is_waiting = webhook.state is WebhookState.PENDING
    return (
        webhook.id,
        webhook.state,
        str(webhook.failures),
        moment(webhook.created_at),
        moment(webhook.next_at if is_waiting else None),
        webhook.url,
        webhook.reason or "-",
    )
