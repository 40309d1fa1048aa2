"""`csm-serve verify`: one page on a checkpoint, for whoever has the weights."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from serve_app import log
from serve_app.app import load_settings
from serve_app.errors import StartupError
from serve_app.verify.check import SKIPPABLE, Report

_MAX_FRAMES = 64
_FILE_WIDTH = 120
_MARKS = {"passed": "[green]ok[/]", "failed": "[red]FAILED[/]", "measured": "[cyan]-[/]", "not run": "[dim]not run[/]"}


def verify(  # noqa: PLR0913 - each is an option of the command line
    model: Annotated[str | None, typer.Option(help="demo, a folder, or a Hub repository like sesame/csm-1b.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda: where the served model runs.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    quantization: Annotated[str | None, typer.Option(help="none, auto, int8, int4 or fp8.")] = None,
    step: Annotated[str | None, typer.Option(help="auto, plain, native, graphs or fused.")] = None,
    frames: Annotated[int, typer.Option(help="How many frames are compared.")] = 3,
    text: Annotated[str, typer.Option(help="What the sample says.")] = "Hello, this is what the model sounds like.",
    sample: Annotated[Path, typer.Option(help="Where the sample is written.")] = Path("csm-verify.wav"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything there too.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="parity, served, sample, speed or words; repeatable.")] = None,
) -> None:
    """Check a checkpoint: its files, its codes beside transformers', a spoken sample, its speed. 1 where one fails."""
    given = {"model": model, "device": device, "dtype": dtype, "quantization": quantization}
    args: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if step is not None:
        args["engine"] = {"step": step}
    settings = load_settings(args)
    if not 1 <= frames <= _MAX_FRAMES:
        raise StartupError(f"--frames: must be from 1 to {_MAX_FRAMES}")
    if unknown := set(skip or ()) - set(SKIPPABLE):
        raise StartupError(f"--skip: {min(unknown)} is no check; choose of {', '.join(SKIPPABLE)}")
    _require_folder("--sample", sample)
    if json_file is not None:
        _require_folder("--json", json_file)
    log.set_up("WARNING")
    console = Console(stderr=True, highlight=False)
    progress = _progress(console)
    # Brings torch, which bad options need not wait for.
    with progress("starting"):
        from serve_app.verify.run import Plan
        from serve_app.verify.run import verify as run_checks
    report = run_checks(Plan(settings, frames, text, sample, frozenset(skip or ())), progress)
    _show(report)
    if json_file is not None:
        _write_json(json_file, report)
    if report.failure:
        typer.echo(f"csm-serve verify: {report.failure}", err=True)
        raise typer.Exit(1)


def _require_folder(option: str, path: Path) -> None:
    """Before minutes of work, not after."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise StartupError(f"{option}: {path} cannot be written: name a file in a folder that is there")


def _progress(console: Console) -> Callable[[str], AbstractContextManager[None]]:
    """A spinner on a terminal, one line in a log file."""

    @contextmanager
    def progress(doing: str) -> Iterator[None]:
        if console.is_terminal:
            with console.status(doing):
                yield
        else:
            console.print(f"{doing} …")
            yield

    return progress


def _show(report: Report) -> None:
    about = report.about
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)
    noise = " (random weights: it sounds like noise)" if about["weights"] == "random" else ""
    console.print(f"[bold]{about['model']}[/]{noise}, {about['folder']}")
    console.print(", ".join(f"{name} {value}" for name, value in about["settings"].items()), style="dim")
    console.print(", ".join(f"{name} {value}" for name, value in about["versions"].items()), style="dim")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for check in report.checks:
        rows = [*([("", check.reason)] if check.reason else []), *check.rows]
        for number, (label, value) in enumerate(rows):
            table.add_row(_MARKS[check.status] if number == 0 else "", check.name if number == 0 else "", label, value)
    console.print(table)


def _write_json(path: Path, report: Report) -> None:
    try:
        path.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StartupError(f"--json: cannot write {path} ({error.strerror}): name another file") from error
