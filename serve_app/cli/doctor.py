"""`csm-serve doctor`: what this machine lacks to serve, and what to do about it."""

from typing import Annotated

import typer

_MARKS = {True: "ok", None: "note", False: "PROBLEM"}
_WIDTH = 16


def doctor(
    model: Annotated[str, typer.Option(help="demo, a folder, or a Hub repository like sesame/csm-1b.")] = "demo",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port that the server will listen on.")] = 8000,
) -> None:
    """Check what this machine lacks to serve, from Python to disk space. Exit status 1 if it cannot."""
    from serve_app.cli.machine import findings

    is_fit = True
    for finding in findings(model, port):
        typer.echo(f"{_MARKS[finding.is_good]:8} {finding.about:{_WIDTH}} {finding.found}")
        if finding.remedy:
            typer.echo(f"{'':8} {'':{_WIDTH}} {finding.remedy}")
        is_fit &= finding.is_good is not False
    if not is_fit:
        raise typer.Exit(1)
