"""`csm-serve say` and `csm-serve scene`: speech on this machine, of a running server or without one."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve_app.cli.speaking import Spoken
    from serve_app.client import Client, Turn

Url = Annotated[str, typer.Option(envvar="CSM_URL", help="The running server.")]
KeyOption = Annotated[str | None, typer.Option("--key", envvar="CSM_KEY", help="ID:SECRET, where it requires keys.")]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", help="Keep it: .wav, .mp3, .flac, .opus, .aac or .pcm; - writes WAV to stdout."),
]
Seed = Annotated[int | None, typer.Option(help="The same seed speaks the same again.")]
IsMute = Annotated[bool, typer.Option("--mute", help="Do not play it.")]
IsLocal = Annotated[bool, typer.Option("--local", help="Load the model here instead of asking a server.")]
ModelOption = Annotated[str, typer.Option("--model", help="With --local: demo, a folder, or a Hub repository.")]
LOCALHOST = "http://localhost:8000"


def say(  # noqa: PLR0913 - each is an option of the command line
    text: Annotated[str, typer.Argument(help="What to say; - reads standard input.")],
    voice: Annotated[str, typer.Option(help="A speaker's number, a voice of the server, or one that it keeps.")] = "0",
    output: Output = None,
    seed: Seed = None,
    mute: IsMute = False,
    url: Url = LOCALHOST,
    key: KeyOption = None,
    local: IsLocal = False,
    model: ModelOption = "demo",
) -> None:
    """Say a text: play it while it is made, or keep it in a file."""
    from serve_app.client import Client, Turn

    words = sys.stdin.read() if text == "-" else text
    with Client(url, key) as client:
        speaker, kept = _voice(voice, None if local else client)
        turns = [Turn(words, speaker, kept)]
        _speak(turns, client, output, seed, mute, model if local else None)


def scene(  # noqa: PLR0913 - as above
    script: Annotated[str, typer.Argument(help="A file with lines such as `Ann: Hello.`; - reads standard input.")],
    output: Output = None,
    srt: Annotated[Path | None, typer.Option(help="Also write when each turn is heard, as subtitles.")] = None,
    seed: Seed = None,
    mute: IsMute = False,
    url: Url = LOCALHOST,
    key: KeyOption = None,
    local: IsLocal = False,
    model: ModelOption = "demo",
) -> None:
    """Say a scene of several speakers."""
    from serve_app.cli.scripts import read_script, subtitles
    from serve_app.client import Client

    turns, names = read_script(_read(script))
    with Client(url, key) as client:
        spoken = _speak(turns, client, output, seed, mute, model if local else None)
    if srt is not None:
        srt.write_text(subtitles(turns, names, spoken.turn_starts, spoken.seconds), encoding="utf-8")


def _speak(
    turns: "Sequence[Turn]", client: "Client", output: str | None, seed: int | None, is_mute: bool, model: str | None
) -> "Spoken":
    """model: the one to load here, None to ask the server."""
    from serve_app.cli.speaking import ServerSource, Source, say_aloud

    source: Source = ServerSource(client, turns, seed)
    if model is not None:
        from serve_app.cli.local_speech import LocalSource
        from serve_app.settings import load_settings

        source = LocalSource(load_settings({"model": model}), turns, seed)
    spoken = say_aloud(source, output, plays=not is_mute and output != "-")
    ending = "" if spoken.finish in (None, "eos") else f", ended by {spoken.finish}"
    typer.echo(f"{spoken.seconds:.2f} s, seed {spoken.seed}{ending}", err=True)
    return spoken


def _voice(voice: str, client: "Client | None") -> tuple[int, str | None]:
    """The speaker's number, and the kept voice if it is none of the server's own. Without a `client` it is a number."""
    if voice.isdecimal():
        return int(voice), None
    if client is None:
        raise StartupError(f"--voice: {voice} is no speaker's number, and --local knows no other voices")
    own = {each.id: each.speaker for each in client.voices()}
    speaker = own.get(voice)
    return (0, voice) if speaker is None else (speaker, None)


def _read(script: str) -> str:
    try:
        return sys.stdin.read() if script == "-" else Path(script).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"{script} cannot be read ({error}): name a text file, or - for standard input") from error
