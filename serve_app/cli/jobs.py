"""`csm-serve jobs …`: the jobs of a key on a running server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.cli.say import LOCALHOST, KeyOption, Url
from serve_app.cli.table import moment, show_table

if TYPE_CHECKING:
    from serve_app.client import Client, Job

jobs_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="List, show, cancel or retry jobs of a server."
)
JobId = Annotated[str, typer.Argument(metavar="ID")]

_COLUMNS = ("ID", "STATE", "AHEAD", "CREATED", "STARTED", "ENDED", "ATTEMPTS")


@jobs_app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Show at most so many.")] = 100,
    url: Url = LOCALHOST,
    key: KeyOption = None,
) -> None:
    """List the jobs of this key, newest first."""
    with _client(url, key) as client:
        show_table([_COLUMNS, *map(_row, client.jobs(limit))])


@jobs_app.command()
def show(
    job_id: JobId,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Save its audio in this file.")] = None,
    url: Url = LOCALHOST,
    key: KeyOption = None,
) -> None:
    """Show a job with its log, and save its audio."""
    with _client(url, key) as client:
        job = client.job(job_id)
        _show(job)
        if output is not None:
            output.write_bytes(client.audio(job))


@jobs_app.command()
def cancel(job_id: JobId, url: Url = LOCALHOST, key: KeyOption = None) -> None:
    """Take a job from the queue, or stop a running one."""
    with _client(url, key) as client:
        job = client.cancel(job_id)
    typer.echo(f"{job_id} is {job.state}" + ("" if job.has_ended else " and will be stopped"), err=True)


@jobs_app.command()
def retry(job_id: JobId, url: Url = LOCALHOST, key: KeyOption = None) -> None:
    """Queue a failed job again, and print the new job's id."""
    with _client(url, key) as client:
        typer.echo(client.retry(job_id).id)


@contextmanager
def _client(url: str, key: str | None) -> "Iterator[Client]":
    from serve_app.client import Client

    with Client(url, key) as client:
        yield client


def _show(job: "Job") -> None:
    facts = {
        "state": job.state,
        "ahead": job.position,
        "created": moment(job.created_at),
        "ended": moment(job.ended_at),
        "seconds": job.audio_seconds,
        "seed": job.seed,
        "audio": job.audio_url,
        "error": job.error,
    }
    for name, value in facts.items():
        if value is not None:
            typer.echo(f"{name:8} {value}")
    for line in job.logs:
        typer.echo(f"{moment(line.at)} {line.level:5} {line.message}")


def _row(job: "Job") -> tuple[str, ...]:
    ahead = "-" if job.position is None else str(job.position)
    times = (moment(at) for at in (job.created_at, job.started_at, job.ended_at))
    return (job.id, job.state, ahead, *times, str(job.attempt))
