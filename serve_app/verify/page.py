"""The page of a comparison: one HTML file that needs nothing else, with figures, plots and the sound."""

import base64
from collections.abc import Callable, Sequence
from html import escape
from math import inf
from pathlib import Path
from statistics import median

from serve_app import __version__
from serve_app.audio.encode.encoder import encode_whole
from serve_app.audio.encode.formats import coding_of
from serve_app.verify.compare import Side
from serve_app.verify.ends import ends_by_speaker
from serve_app.verify.listening import Heard
from serve_app.verify.plot import dots

_MEASURES = (
    ("score", "Score of each utterance (1: without a fault)", "", 1.0),
    ("pace", "Length beside a usual reading", "", inf),
    ("silence_seconds", "Longest silence", " s", inf),
    ("loudness_db", "Loudness above the voice's clip", " dB", inf),
    ("pitch_semitones", "Pitch above the voice's clip, semitones", "", inf),
    ("words_heard", "Share of the words that were heard", "", 1.0),
)
"""A score's field, its title, its unit, and the most that it can be."""
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --dim: #66727f; --line: #d7dde3; --a: #2b6cb0; --b: #c05621; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf0; --dim: #97a3af; --line: #37414b; --a: #63a4e6; --b: #f0945a; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
svg { width: 100%; max-width: 44rem; display: block; }
svg text { font-size: 11px; fill: var(--dim); } .label { text-anchor: end; } .tick { text-anchor: middle; }
.grid { stroke: var(--line); } .median { stroke: var(--ink); stroke-width: 2; }
.side0 { fill: var(--a); opacity: .75; } .side1 { fill: var(--b); opacity: .75; }
audio { height: 2rem; width: 14rem; } .dim { color: var(--dim); }
"""


def page_of(sides: Sequence[Side]) -> str:
    """HTML. The texts are those of `verify.listening`, so nothing of a caller stands in it."""
    title = " beside ".join(side.name for side in sides)
    plots = [_plot(sides, *measure) for measure in _MEASURES]
    body = [f"<h1>{escape(title)}</h1>", _about(sides), _summary(sides), *plots, "<h2>Utterances</h2>", _texts(sides)]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><body>{''.join(body)}</body></html>\n"
    )


def _about(sides: Sequence[Side]) -> str:
    num_texts = len({heard.text for heard in sides[0].heard})
    return (
        f'<p class="dim">csm-serve {__version__}. {num_texts} texts for each speaker, the same seeds on both sides. '
        f"A dot is an utterance, a line the median. {escape(sides[0].speed.device)}.</p>"
    )


def _summary(sides: Sequence[Side]) -> str:
    rows: list[tuple[str, Callable[[Side], str]]] = [
        ("weights", lambda side: f"{side.info.weights}, {side.arithmetic}, {side.info.step} step"),
        ("voice", _voices),
        ("ends", lambda side: "<br>".join(f"speaker {one.speaker}: {one}" for one in ends_by_speaker(side.heard))),
        ("mean score", lambda side: f"{sum(one.score['score'] for one in side.heard) / len(side.heard):.3f}"),
        ("audio", lambda side: f"{sum(one.score['seconds'] for one in side.heard):.1f} s"),
        ("words heard", _words_heard),
        ("a frame takes", lambda side: ", ".join(f"{ms:.1f} ms ({n})" for n, ms in side.speed.step_ms.items())),
        ("first audio", lambda side: f"{side.speed.first_audio_ms:.0f} ms"),
    ]
    head = _head(sides)
    lines = [f"<tr><th>{label}</th>{''.join(f'<td>{cell(side)}</td>' for side in sides)}</tr>" for label, cell in rows]
    note = '<p class="dim">In brackets: streams at once.</p>'
    return f"<table><tr><th></th>{head}</tr>{''.join(lines)}</table>{note}"


def _head(sides: Sequence[Side]) -> str:
    return "".join(f"<th>{letter}: {escape(side.name)}</th>" for letter, side in zip("AB", sides, strict=True))


def _voices(side: Side) -> str:
    own = {True: "the checkpoint's clip", False: "as it was trained, no clip"}
    speakers = sorted({one.speaker for one in side.heard})
    return "<br>".join(f"speaker {speaker}: {own[speaker in side.prompted]}" for speaker in speakers)


def _words_heard(side: Side) -> str:
    shares = _values(side, "words_heard")
    return f"{sum(shares) / len(shares):.1%}" if shares else "not measured (pip install faster-whisper)"


def _plot(sides: Sequence[Side], name: str, title: str, unit: str, most: float) -> str:
    rows = [(label, _values(side, name)) for label, side in zip(_labels(sides), sides, strict=True)]
    drawn = dots(title, rows, unit, most)
    if not drawn:
        return ""
    medians = ", ".join(f"{median(values):.3g}" for _, values in rows if values)
    return f'<h2>{escape(title)}</h2>{drawn}<p class="dim">medians: {medians}{escape(unit)}</p>'


def _labels(sides: Sequence[Side]) -> list[str]:
    """Short, and different for long names that end alike."""
    return [f"{letter}: {Path(side.name).name[-12:]}" for letter, side in zip("AB", sides, strict=True)]


def _values(side: Side, name: str) -> list[float]:
    return [value for heard in side.heard if (value := heard.score[name]) is not None]


def _texts(sides: Sequence[Side]) -> str:
    head = _head(sides)
    lines: list[str] = []
    for one in sides[0].heard:
        others = [_same(side, one) for side in sides]
        cells = "".join(f"<td>{_cell(heard) if heard else ''}</td>" for heard in others)
        lines.append(f"<tr><td>{one.speaker}: {escape(one.text)}</td>{cells}</tr>")
    return f"<table><tr><th>speaker and text</th>{head}</tr>{''.join(lines)}</table>"


def _same(side: Side, wanted: Heard) -> Heard | None:
    """The utterance of the same speaker and text. The two may bring different voices."""
    return next((one for one in side.heard if (one.speaker, one.text) == (wanted.speaker, wanted.text)), None)


def _cell(heard: Heard) -> str:
    sound = base64.b64encode(encode_whole(heard.pcm, coding_of("mp3"))).decode() if heard.pcm else ""
    player = f'<audio controls preload="none" src="data:audio/mpeg;base64,{sound}"></audio>' if sound else "no sound"
    return f"{player}<br>{heard.score['score']:.2f}, {heard.score['seconds']:.2f} s, {heard.end.value}"
