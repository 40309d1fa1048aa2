"""`csm-serve verify`: one page about a checkpoint."""

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_app.errors import StartupError

if TYPE_CHECKING:
    from serve_app.settings import Settings
    from serve_app.verify.check import Report

_MAX_FRAMES = 64
_MAX_UTTERANCES = 16
_FILE_WIDTH = 120
_MARKS = {"passed": "[green]ok[/]", "failed": "[red]FAILED[/]", "measured": "[cyan]-[/]", "not run": "[dim]not run[/]"}


def verify(  # noqa: PLR0913 - each is an option of the command line
    model: Annotated[str | None, typer.Option(help="demo, a folder, or a Hub repository like sesame/csm-1b.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda: where the served model runs.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    quantization: Annotated[str | None, typer.Option(help="none, auto, int8, int4 or fp8.")] = None,
    step: Annotated[str | None, typer.Option(help="auto, plain, native, graphs or fused.")] = None,
    frames: Annotated[int, typer.Option(help="Frames to compare.")] = 3,
    text: Annotated[str, typer.Option(help="Text of the sample.")] = "Hello, this is what the model sounds like.",
    sample: Annotated[Path, typer.Option(help="File for the sample.")] = Path("csm-verify.wav"),
    speed: Annotated[
        bool,
        typer.Option("--speed", help="Instead: whether this processor can speak CSM-1B in real time."),
    ] = False,
    utterances: Annotated[int, typer.Option(help="Utterances of each speaker whose ends are watched.")] = 16,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Instead: two checkpoints side by side, each MODEL or MODEL@QUANTIZATION."),
    ] = None,
    page: Annotated[Path, typer.Option(help="File for the page of --compare.")] = Path("csm-compare.html"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write all results to this file.")] = None,
    skip: Annotated[
        list[str] | None, typer.Option(help="Leave out parity, served, sample, words, ends or speed. Repeatable.")
    ] = None,
) -> None:
    """Check a checkpoint: files, codes beside transformers', a spoken sample, speed. Exit status 1 if a check fails."""
    from serve_app import log
    from serve_app.cli.progress import progress
    from serve_app.settings import load_settings

    given = {"model": model, "device": device, "dtype": dtype, "quantization": quantization}
    args: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if step is not None:
        args["engine"] = {"step": step}
    if speed:
        _show_speed()
        return
    settings = load_settings(args)
    _require_sensible(frames, utterances, skip or ())
    if compare is not None:
        if model is not None:
            raise StartupError("--compare: names both models, so leave --model out")
        _compare(compare, settings, utterances, page)
        return
    _require_folder("--sample", sample)
    if json_file is not None:
        _require_folder("--json", json_file)
    log.set_up("WARNING")
    # Brings torch, which wrong options need not wait for.
    with progress("starting"):
        from serve_app.verify.run import Plan
        from serve_app.verify.run import verify as run_checks
    report = run_checks(Plan(settings, frames, text, sample, frozenset(skip or ()), utterances), progress)
    _show(report)
    if json_file is not None:
        _write_json(json_file, report)
    if report.failure:
        typer.echo(f"csm-serve verify: {report.failure}", err=True)
        raise typer.Exit(1)


def _require_sensible(frames: int, utterances: int, skip: Collection[str]) -> None:
    from serve_app.verify.check import SKIPPABLE

    if not 1 <= utterances <= _MAX_UTTERANCES:
        raise StartupError(f"--utterances: must be from 1 to {_MAX_UTTERANCES}")
    if not 1 <= frames <= _MAX_FRAMES:
        raise StartupError(f"--frames: must be from 1 to {_MAX_FRAMES}")
    if unknown := set(skip) - set(SKIPPABLE):
        raise StartupError(f"--skip: {min(unknown)} is not a check; choose from {', '.join(SKIPPABLE)}")


def _compare(names: tuple[str, str], settings: "Settings", utterances: int, page: Path) -> None:
    from serve_app import log
    from serve_app.cli.progress import progress

    _require_folder("--page", page)
    log.set_up("WARNING")
    with progress("starting"):
        from serve_app.verify.compare import compare
        from serve_app.verify.ends import ends_by_speaker
        from serve_app.verify.listening import TEXTS
        from serve_app.verify.page import page_of
    sides = compare(names, settings, TEXTS[:utterances], progress)
    try:
        page.write_text(page_of(sides), encoding="utf-8")
    except OSError as error:
        raise StartupError(f"--page: cannot write {page} ({error.strerror}): name another file") from error
    for side in sides:
        for one in ends_by_speaker(side.heard):
            typer.echo(f"{side.name}: speaker {one.speaker}: {one}")
    typer.echo(f"{page} has figures, plots and the sound of both", err=True)


def _require_folder(option: str, path: Path) -> None:
    """Raises StartupError if the file cannot be written. Called before minutes of work, not after."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise StartupError(f"{option}: {path} cannot be written: name a file in an existing folder")


def _show_speed() -> None:
    from rich.console import Console
    from rich.table import Table

    from serve_app.cli.progress import progress

    with progress("reading memory"):
        from serve_app.verify.cpu_speed import FRAME_MS, cpu_speed, verdict

        speed = cpu_speed()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)
    rates = f"{speed.bytes_per_second / 1e9:.1f} GB/s with {speed.threads} threads"
    if speed.all_threads != speed.threads:
        rates += f", {speed.all_bytes_per_second / 1e9:.1f} with {speed.all_threads}"
    console.print(f"{speed.instruction_set}; memory is read at {rates}")
    table = Table("settings", "GB a frame", "step at least, ms", "frame expected, ms", "real time from, GB/s", box=None)
    rate = max(speed.bytes_per_second, speed.all_bytes_per_second)
    for one in speed.expectations:
        times = f"{one.floor_ms(rate):.0f}", f"{one.frame_ms(rate):.0f}"
        table.add_row(one.options, f"{one.num_bytes / 1e9:.2f}", *times, f"{one.real_time_bytes_per_second / 1e9:.0f}")
    console.print(table)
    console.print(f"A frame lasts {FRAME_MS:.0f} ms. {verdict(speed)}", soft_wrap=True)


def _show(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table

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


def _write_json(path: Path, report: "Report") -> None:
    try:
        path.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StartupError(f"--json: cannot write {path} ({error.strerror}): name another file") from error
