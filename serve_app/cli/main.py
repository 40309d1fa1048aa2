"""`csm-serve …`: one function a command.

Commands import what they run inside of their function: Ray and torch take seconds, which help and a wrong option need
not wait for. `tests/unit/cli/test_cli_imports.py` guards it.
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app import __version__
from serve_app.cli.check import check, deploy
from serve_app.cli.doctor import doctor
from serve_app.cli.jobs import jobs_app
from serve_app.cli.kernels import kernels_app
from serve_app.cli.listening import bare, require_free_port
from serve_app.cli.plan import plan
from serve_app.cli.replay import replay
from serve_app.cli.say import say, scene
from serve_app.cli.spot import watch_spot
from serve_app.cli.verify import verify
from serve_app.errors import CsmServeError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes as long to import as all the rest of a help text
    help="A server for CSM, on Ray Serve.",
)
_DELEGATES: dict[str, Any] = {
    "add_help_option": False,
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
}
"""Of a command that hands all of its arguments on."""
checkpoint_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make and convert checkpoints.")
app.add_typer(checkpoint_app, name="checkpoint")
app.add_typer(jobs_app, name="jobs")
app.add_typer(kernels_app, name="kernels")
app.command()(say)
app.command()(scene)
app.command()(doctor)
app.command()(verify)
app.command()(check)
app.command()(plan)
app.command()(deploy)
app.command()(replay)
app.command()(watch_spot)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    is_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


class PresetName(StrEnum):
    TINY = "tiny"
    SMALL = "small"
    CSM_1B = "csm-1b"


class StoredDtype(StrEnum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class ConvertedDtype(StrEnum):
    KEEP = "keep"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


@app.command()
def serve(
    model: Annotated[str | None, typer.Option(help="demo, a folder, or a Hub repository like sesame/csm-1b.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    max_batch_size: Annotated[int | None, typer.Option(help="Streams generated at once.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING, ERROR or CRITICAL.")] = None,
    is_open: Annotated[bool, typer.Option("--open", help="Without keys, also listen for other machines.")] = False,
) -> None:
    """Serve a model over HTTP on this machine. docs/configure.md lists the other settings, for the environment."""
    given = {"model": model, "device": device, "log_level": log_level}
    args: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if max_batch_size is not None:
        args |= {"engine": {"max_batch_size": max_batch_size}, "codec": {"max_streams": max_batch_size}}
    if is_open:
        args["keys"] = {"open": True}
    host = bare(host)
    # First: it takes no time, and what follows takes seconds to import.
    require_free_port(host, port)
    from serve_app.settings import load_settings

    settings = load_settings(args)
    from serve_app.cli.serving import serve_until_stopped

    serve_until_stopped(settings, host, port)


@checkpoint_app.command()
def create(
    path: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    preset: Annotated[PresetName, typer.Option(help="tiny for tests, small for measuring, csm-1b for the true size.")],
    seed: Annotated[int, typer.Option()] = 0,
    dtype: Annotated[StoredDtype, typer.Option(help="Type of the stored weights.")] = StoredDtype.FLOAT32,
) -> None:
    """Make a checkpoint of random weights in the Hub's layout. It makes noise, not speech."""
    from rich.console import Console
    from rich.progress import Progress

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


@checkpoint_app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A checkpoint or an adapter: a folder or a Hub repository.")],
    path: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    base: Annotated[str | None, typer.Option(help="Its base, instead of the one that it names.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a Hub repository.")] = None,
    dtype: Annotated[ConvertedDtype, typer.Option(help="Type of the stored weights.")] = ConvertedDtype.KEEP,
) -> None:
    """Write any checkpoint in the Hub's layout: an adapter merged into its base, Sesame's names translated."""
    from rich.console import Console
    from rich.progress import Progress

    from serve_app.model.checkpoint import open_checkpoint
    from serve_app.model.convert import convert_checkpoint

    checkpoint = open_checkpoint(source, revision, base)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("writing", total=None)
        convert_checkpoint(
            checkpoint, path, dtype.value, lambda done, total: progress.update(task, completed=done, total=total)
        )
    typer.echo(f"{path} holds {source} in the Hub's layout")


@app.command(**_DELEGATES)
def keys(context: typer.Context) -> None:
    """API keys: create, list, revoke, rotate."""
    from serve_app.cli.keys import keys_app

    _run_group(keys_app, "keys", context.args)


@app.command(**_DELEGATES)
def adapters(context: typer.Context) -> None:
    """Adapters of a running server: list, add, remove."""
    from serve_app.cli.adapters import adapters_app

    _run_group(adapters_app, "adapters", context.args)


@app.command(**_DELEGATES)
def webhooks(context: typer.Context) -> None:
    """Webhooks of ended jobs: list, retry."""
    from serve_app.cli.webhooks import webhooks_app

    _run_group(webhooks_app, "webhooks", context.args)


@app.command(**_DELEGATES)
def voices(context: typer.Context) -> None:
    """Kept voices of a server: add, list, show, audition, export, import, remove."""
    from serve_app.cli.voices import voices_app

    _run_group(voices_app, "voices", context.args)


@app.command(**_DELEGATES)
def bench(context: typer.Context) -> None:
    """Load-test a running server: first audio, continuity, throughput. `csm-serve bench --help` lists its options."""
    from serve_app.cli.bench import run_bench

    run_bench(context.args)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _run_group(group: typer.Typer, name: str, arguments: list[str]) -> None:
    """Run a group of commands that is imported only when it is called."""
    outer = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    outer.add_typer(group, name=name)
    outer([name, *arguments], prog_name="csm-serve")


def main() -> None:
    """Run a command. An error of ours ends it with one line on stderr and exit status 1."""
    try:
        app()
    except CsmServeError as error:
        sys.exit(f"csm-serve: {error}")
    except Exception as error:
        if not _is_clients(error):
            raise
        sys.exit(f"csm-serve: {error}")


def _is_clients(error: Exception) -> bool:
    """Whether the client raised it. It is imported only by the commands that ask a server."""
    client = sys.modules.get("serve_app.client.errors")
    return client is not None and isinstance(error, client.ClientError)
