"""`csm-serve plan`: how many cards, replicas and cores a load needs."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.errors import StartupError

if TYPE_CHECKING:
    from serve_app.capacity.costs import Card

_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)")
_MOST_STREAMS = 1_000_000


def plan(  # noqa: PLR0913 - each is an option of the command line
    streams: Annotated[int, typer.Option(help="Listeners at once.")],
    ttfa_p99: Annotated[str, typer.Option(help="First audio that 99 of 100 requests have: 300ms, 0.5s.")] = "500ms",
    gpu: Annotated[str, typer.Option(help="h200, h100 or a100.")] = "h200",
    step_ms: Annotated[
        str, typer.Option(help="Your own card's steps, as verify shows them: 1=5.4,32=6.4,64=8.4.")
    ] = "",
    profile: Annotated[str, typer.Option(help="default or haproxy: Serve's proxy.")] = "default",
    answer_seconds: Annotated[float, typer.Option(help="Mean length of an answer.")] = 10.0,
    burstiness: Annotated[float, typer.Option(help="Of arrivals: 1 is Poisson, less comes in bursts.")] = 1.0,
    burst: Annotated[float, typer.Option(help="The load that comes at once, times the usual.")] = 1.5,
    start_seconds: Annotated[float, typer.Option(help="From asking for a card to its first step.")] = 180.0,
    card_price: Annotated[float | None, typer.Option(help="Of an hour of a card, in any currency.")] = None,
) -> None:
    """Print the Serve config for a load, what it costs, and what that assumes. Nothing is started."""
    from serve_app.capacity import report
    from serve_app.capacity.costs import PATHS
    from serve_app.capacity.plan import Wish, plan_of
    from serve_app.cli.progress import progress
    from serve_app.cli.table import show_table

    if not 1 <= streams <= _MOST_STREAMS:
        raise StartupError(f"--streams: must be from 1 to {_MOST_STREAMS}")
    for option, value, least, most in (
        ("--answer-seconds", answer_seconds, 0.5, 1800.0),
        ("--burstiness", burstiness, 0.05, 100.0),
        ("--burst", burst, 1.0, 20.0),
        ("--start-seconds", start_seconds, 1.0, 3600.0),
    ):
        if not least <= value <= most:
            raise StartupError(f"{option}: must be from {least:g} to {most:g}")
    if profile not in PATHS:
        raise StartupError(f"--profile: {profile} is none of {', '.join(PATHS)}")
    wish = Wish(
        streams=streams,
        first_audio_p99_seconds=_seconds(ttfa_p99),
        card=_card(gpu, step_ms),
        path=PATHS[profile],
        answer_seconds=answer_seconds,
        burstiness=burstiness,
        burst=burst,
        start_seconds=start_seconds,
    )
    with progress("simulating"):
        found = plan_of(wish)
    show_table(list(report.rows(found, card_price)))
    typer.echo(f"\n{report.config(found)}")
    typer.echo("Assumed:")
    for line in report.assumptions(found):
        typer.echo(f"- {line}")


def _seconds(text: str) -> float:
    match = _TIME.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise StartupError(f"--ttfa-p99: {text!r} is no time: write 300ms or 0.3s")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def _card(name: str, steps: str) -> "Card":
    from serve_app.capacity.costs import CARDS, with_steps

    if name not in CARDS:
        raise StartupError(f"--gpu: {name} is none of {', '.join(CARDS)}: take the nearest, and give its --step-ms")
    return with_steps(CARDS[name], _table(steps)) if steps else CARDS[name]


def _table(steps: str) -> dict[int, float]:
    try:
        table = {int(rows): float(ms) for rows, ms in (entry.split("=") for entry in steps.split(","))}
    except ValueError:
        table = {}
    if not table or min(table) < 1 or min(table.values()) <= 0:
        raise StartupError(f"--step-ms: {steps!r} is no table: write ROWS=MS,ROWS=MS such as 1=5.4,32=6.4")
    return table
