"""`csm-serve adapters …`: the adapters of a running server, over HTTP."""

import os
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from serve_app.cli.table import show_table
from serve_app.errors import StartupError

adapters_app = typer.Typer(
    no_args_is_help=True,
    help="List, add and remove the adapters of a running server. CSM_KEY: a key with the scope admin, if it wants one.",
)

_URL = typer.Option(help="Of the server.", envvar="CSM_URL")
_TIMEOUT_SECONDS = 600.0
"""Adding one may download it."""


@adapters_app.command("list")
def list_adapters(url: Annotated[str, _URL] = "http://127.0.0.1:8000") -> None:
    """List the names that a request may have as `adapter`."""
    show_table([("NAME",), *((entry["name"],) for entry in _ask("GET", url, "")["adapters"])])


@adapters_app.command()
def add(
    name: Annotated[str, typer.Argument(help="What requests call it.")],
    source: Annotated[str, typer.Argument(help="A folder that the server can read, or a Hub repository.")],
    revision: Annotated[str | None, typer.Option(help="Revision of a Hub repository.")] = None,
    url: Annotated[str, _URL] = "http://127.0.0.1:8000",
) -> None:
    """Load an adapter into the server and let requests name it. One of that name is replaced."""
    # A folder as this command sees it: the server runs elsewhere.
    place = str(Path(source).resolve()) if Path(source).is_dir() else source
    _ask("PUT", url, f"/{name}", {"source": place, "revision": revision})
    typer.echo(f"{name} can be used", err=True)


@adapters_app.command()
def remove(
    name: Annotated[str, typer.Argument(help="As `list` shows it.")],
    url: Annotated[str, _URL] = "http://127.0.0.1:8000",
) -> None:
    """Forget an adapter that was added. Requests that run keep it."""
    _ask("DELETE", url, f"/{name}")
    typer.echo(f"{name} is forgotten", err=True)


def _ask(method: str, url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The server's answer. Raises StartupError with what it said where it refused."""
    key = os.environ.get("CSM_KEY")
    headers = {"Authorization": f"Key {key}"} if key else {}
    try:
        response = httpx.request(
            method, f"{url.rstrip('/')}/adapters{path}", json=body, headers=headers, timeout=_TIMEOUT_SECONDS
        )
    except httpx.HTTPError as error:
        raise StartupError(f"{url} cannot be reached ({type(error).__name__}): is the server running?") from None
    if response.is_success:
        return response.json()
    raise StartupError(f"the server answers {response.status_code}: {_said(response)}")


def _said(response: httpx.Response) -> str:
    try:
        values = response.json()
    except ValueError:
        return response.text[:200]
    return str(values.get("detail", values)) if isinstance(values, dict) else str(values)
