"""Scenes as people write them: `Ann: Hello.`, one turn a line; and when each turn is heard, as subtitles."""

import re
from collections.abc import Sequence

from serve_app.client.values import Turn
from serve_app.errors import StartupError

# A space must follow the colon: "10:30 is late" names no speaker.
_TURN = re.compile(r"^\s*(?P<speaker>[^\s:][^:]{0,39}?)\s*:\s+(?P<text>.*)$")


def read_script(script: str) -> tuple[list[Turn], dict[int, str]]:
    """The turns, and the name of each speaker's number. Lines without a speaker go on with the turn above.

    A number names that speaker. Other names get the numbers from 0 that are free, in the order in which they come.
    Raises StartupError if there is nothing to say.
    """
    said: list[tuple[str, str]] = []
    for line in filter(str.strip, script.splitlines()):
        if match := _TURN.match(line):
            said.append((match["speaker"], match["text"].strip()))
        elif said:
            said[-1] = (said[-1][0], f"{said[-1][1]} {line.strip()}".strip())
        else:
            said.append(("0", line.strip()))
    if not said:
        raise StartupError("the script is empty: write lines such as `Ann: Hello.`")
    numbers = _numbers([name for name, _ in said])
    return [Turn(text, numbers[name]) for name, text in said], {number: name for name, number in numbers.items()}


def _numbers(names: Sequence[str]) -> dict[str, int]:
    given = {name: int(name) for name in names if name.isascii() and name.isdecimal()}
    free = (number for number in range(len(names) + len(given)) if number not in given.values())
    return given | {name: next(free) for name in dict.fromkeys(names) if name not in given}


def subtitles(turns: Sequence[Turn], names: dict[int, str], starts: Sequence[float], seconds: float) -> str:
    """SRT of the turns that were spoken. `starts` and `seconds` are those of the answer."""
    ends = [*starts[1:], seconds]
    shown = [
        f"{number}\n{_clock(start)} --> {_clock(end)}\n{names[turn.speaker]}: {turn.text}\n"
        for number, (turn, start, end) in enumerate(zip(turns, starts, ends, strict=False), start=1)
    ]
    return "\n".join(shown)


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"
