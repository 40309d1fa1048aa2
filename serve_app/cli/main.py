"""`csm-serve …`: one function a command."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from serve_app import __version__
from serve_app.app import load_settings
from serve_app.cli.bench import run_bench
from serve_app.cli.check import check, deploy
from serve_app.cli.keys import keys_app
from serve_app.cli.serving import serve_until_stopped
from serve_app.cli.verify import verify
from serve_app.cli.webhooks import webhooks_app
from serve_app.errors import CsmServeError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A server for CSM, on Ray Serve.",
)
checkpoint_app = typer.Typer(no_args_is_help=True, help="Make checkpoints.")
app.add_typer(checkpoint_app, name="checkpoint")
app.add_typer(keys_app, name="keys")
app.add_typer(webhooks_app, name="webhooks")
app.command()(verify)
app.command()(check)
app.command()(deploy)


class PresetName(StrEnum):
    TINY = "tiny"
    SMALL = "small"
    CSM_1B = "csm-1b"


class StoredDtype(StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@app.command()
def serve(
    model: Annotated[str | None, typer.Option(help="demo, a folder, or a Hub repository like sesame/csm-1b.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    max_batch_size: Annotated[int | None, typer.Option(help="Streams generated at once.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING, ERROR or CRITICAL.")] = None,
    is_open: Annotated[bool, typer.Option("--open", help="Serve others than this machine without keys.")] = False,
) -> None:
    """Serve a model over HTTP on this machine. Every other setting: environment variables, see docs/operations.md."""
    given = {"model": model, "device": device, "log_level": log_level}
    args: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if max_batch_size is not None:
        args |= {"engine": {"max_batch_size": max_batch_size}, "codec": {"max_streams": max_batch_size}}
    if is_open:
        args["keys"] = {"open": True}
    serve_until_stopped(load_settings(args), host, port)


@checkpoint_app.command()
def create(
    path: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    preset: Annotated[PresetName, typer.Option(help="tiny for tests, small for measuring, csm-1b in its true size.")],
    seed: Annotated[int, typer.Option()] = 0,
    dtype: Annotated[StoredDtype, typer.Option(help="How the weights are stored.")] = StoredDtype.FLOAT32,
) -> None:
    """Make a checkpoint of random weights in the Hub's layout. What it says is noise."""
    # Brings torch, which the other commands' help need not wait for.
    from serve_app.model.create import create_checkpoint

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"writing {preset}", total=None)
        create_checkpoint(
            path,
            preset.value,
            seed,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
            dtype=dtype.value,
        )
    typer.echo(f"{path} holds {preset} with random weights: it makes noise, not speech")


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(context: typer.Context) -> None:
    """Load-test a running server: first audio, continuity, throughput. `csm-serve bench --help` lists its options."""
    run_bench(context.args)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run a command; what stops it is one line on stderr and exit status 1."""
    try:
        app()
    except CsmServeError as error:
        sys.exit(f"csm-serve: {error}")
