"""`csm-serve replay ID`: has a running server make an answer again, and says whether the codes are equal."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

_TIMEOUT_SECONDS = 3600.0


def replay(
    request_id: Annotated[str, typer.Argument(metavar="ID", help="As X-CSM-Request-Id named it, or a job's id.")],
    url: Annotated[str, typer.Option(help="Address of the server.", envvar="CSM_URL")] = "http://127.0.0.1:8000",
    key: Annotated[str | None, typer.Option(help="ID:SECRET.", envvar="CSM_KEY")] = None,
) -> None:
    """Make an answer again from its receipt, and say whether the codes are equal. Exit status 1 if they are not."""
    import httpx

    headers = {"Authorization": f"Key {key}"} if key else {}
    address = f"{url.rstrip('/')}/requests/{quote(request_id, safe='')}/replay"
    try:
        answer = httpx.post(address, headers=headers, timeout=_TIMEOUT_SECONDS)
    except httpx.HTTPError as error:
        raise typer.BadParameter(f"{url} does not answer ({type(error).__name__}): is the server running?") from None
    if answer.status_code != httpx.codes.OK:
        raise typer.BadParameter(_detail(answer))
    verdict = answer.json()
    typer.echo(_sentence(verdict))
    if not verdict["equal"]:
        raise typer.Exit(1)


def _detail(answer: Any) -> str:
    try:
        return f"{answer.status_code}: {answer.json()['detail']}"
    except (ValueError, KeyError):
        return f"the server answered {answer.status_code}"


def _sentence(verdict: dict[str, Any]) -> str:
    if verdict["equal"]:
        return f"equal: {verdict['frames']} frames"
    changed = ", ".join(verdict["changed"]) or "nothing in the model's description"
    return (
        f"different from frame {verdict['first_difference']} on: {verdict['frames']} frames then, "
        f"{verdict['frames_again']} now; changed since: {changed}"
    )
