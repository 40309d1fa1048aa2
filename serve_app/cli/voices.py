"""`csm-serve voices …`: the voices that a key keeps on a running server."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_app.cli.table import moment, show_table
from serve_app.errors import CsmServeError

if TYPE_CHECKING:
    import httpx

voices_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Add, list, show, audition, export, import and remove voices.",
)

Url = Annotated[str, typer.Option(envvar="CSM_URL", help="The running server.")]
KeyOption = Annotated[str | None, typer.Option("--key", envvar="CSM_KEY", help="ID:SECRET, where it requires keys.")]
VoiceName = Annotated[str, typer.Argument(metavar="VOICE", help="Its id or name.")]
_LOCALHOST = "http://127.0.0.1:8000"
_TIMEOUT_SECONDS = 600.0
"""An audition on a slow CPU takes minutes."""
_COLUMNS = ("ID", "NAME", "SECONDS", "AUDITION", "CREATED")
_PASSED = {True: "passed", False: "failed", None: "-"}


@voices_app.command()
def add(  # noqa: PLR0913 - each is an option of the command line
    name: Annotated[str, typer.Argument(help="What it is called.")],
    clip: Annotated[list[Path], typer.Option(help="A recording. Repeatable.", exists=True, dir_okay=False)],
    text: Annotated[list[str], typer.Option(help="Its transcript: one for each --clip, in the same order.")],
    consent: Annotated[str, typer.Option(help="How the person who is heard agreed.")],
    consent_by: Annotated[str, typer.Option(help="Who makes this statement.")],
    adapter: Annotated[str, typer.Option(help="Name of the adapter that speaks it.")] = "",
    has_audition: Annotated[bool, typer.Option("--audition/--no-audition", help="Speak three sentences.")] = True,
    url: Url = _LOCALHOST,
    key: KeyOption = None,
) -> None:
    """Keep a voice, and show what was found in its recordings."""
    form = {
        "name": name,
        "text": text,
        "consent": consent,
        "consent_by": consent_by,
        "adapter": adapter,
        "audition": str(has_audition).lower(),
    }
    files = [("audio", (path.name, path.read_bytes(), "application/octet-stream")) for path in clip]
    with _server(url, key) as server:
        _show(_checked(server.post("/voices", data=form, files=files)).json())


@voices_app.command("list")
def list_voices(url: Url = _LOCALHOST, key: KeyOption = None) -> None:
    """List the voices of this key."""
    with _server(url, key) as server:
        show_table([_COLUMNS, *map(_row, _checked(server.get("/voices")).json()["voices"])])


@voices_app.command()
def show(voice: VoiceName, url: Url = _LOCALHOST, key: KeyOption = None) -> None:
    """Show a voice: transcripts, consent, measurements and scores."""
    with _server(url, key) as server:
        _show(_checked(server.get(_path(voice))).json())


@voices_app.command()
def audition(voice: VoiceName, url: Url = _LOCALHOST, key: KeyOption = None) -> None:
    """Speak three sentences with a voice, and score them."""
    with _server(url, key) as server:
        _show(_checked(server.post(f"{_path(voice)}/audition")).json())


@voices_app.command()
def export(
    voice: VoiceName,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    url: Url = _LOCALHOST,
    key: KeyOption = None,
) -> None:
    """Save a voice as one signed file."""
    with _server(url, key) as server:
        output.write_bytes(_checked(server.get(f"{_path(voice)}/pack")).content)
    typer.echo(f"{output} holds {voice}", err=True)


@voices_app.command("import")
def import_voice(
    pack: Annotated[Path, typer.Argument(help="A file that was exported.", exists=True, dir_okay=False)],
    name: Annotated[str | None, typer.Option(help="Another name for it.")] = None,
    url: Url = _LOCALHOST,
    key: KeyOption = None,
) -> None:
    """Keep the voice of a signed file."""
    named = {} if name is None else {"name": name}
    with _server(url, key) as server:
        _show(_checked(server.post("/voice-packs", params=named, content=pack.read_bytes())).json())


@voices_app.command()
def remove(voice: VoiceName, url: Url = _LOCALHOST, key: KeyOption = None) -> None:
    """Forget a voice, with its recordings and its statement of consent."""
    with _server(url, key) as server:
        _checked(server.delete(_path(voice)))
    typer.echo(f"{voice} is removed", err=True)


@contextmanager
def _server(url: str, key: str | None) -> "Iterator[httpx.Client]":
    import httpx

    headers = {} if key is None else {"Authorization": f"Key {key}"}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_SECONDS) as client:
            yield client
    except httpx.HTTPError as error:
        raise CsmServeError(f"{url} does not answer ({type(error).__name__}): is a server running there?") from None


def _checked(answer: "httpx.Response") -> "httpx.Response":
    if not answer.is_success:
        try:
            message = answer.json()["detail"]
        except (ValueError, KeyError, TypeError):
            message = f"the server answered {answer.status_code}"
        raise CsmServeError(message)
    return answer


def _path(voice: str) -> str:
    from urllib.parse import quote

    return f"/voices/{quote(voice, safe='')}"


def _row(voice: Mapping[str, Any]) -> tuple[str, ...]:
    seconds = sum(clip["seconds"] for clip in voice.get("clips", ()))
    passed = _PASSED[voice.get("audition", {}).get("passed")]
    return (voice["id"], voice["name"], f"{seconds:.1f}", passed, moment(voice["created_at"]))


def _show(voice: Mapping[str, Any]) -> None:
    import json

    typer.echo(json.dumps(voice, indent=2, ensure_ascii=False))
