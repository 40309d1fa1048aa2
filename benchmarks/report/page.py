"""The report as Markdown and as one HTML page that needs nothing beside it: no script, no font, no address."""

import html
import re
from collections.abc import Sequence
from itertools import zip_longest

from benchmarks.report.input import INVALID
from benchmarks.report.plots import Plot
from benchmarks.report.tables import GLOSSARY, NOT_AVAILABLE, Row, Table

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; max-width: 76rem;
  padding: 0 1rem 3rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th { border-bottom: 2px solid #555; vertical-align: bottom; }
.words { text-align: left; } td.words { overflow-wrap: anywhere; min-width: 6rem; }
tr.group td { border-top: 2px solid #bbb; }
.warning { color: #b3001b; font-weight: 600; } .note { color: #555; font-size: .875rem; }
.na { color: #767676; }
.invalid { color: #b3001b; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 23rem), 1fr)); gap: 1rem;
  align-items: start; }
@media (max-width: 30rem) { h1 { font-size: 1.2rem; } th, td { padding: .25rem .4rem; }
  td.words { min-width: 4.5rem; } }
figure { margin: 0; } svg { width: 100%; height: auto; }
"""


def markdown(title: str, tables: Sequence[Table], plots: Sequence[Plot]) -> str:
    """Tables as text that also reads well in a terminal, then the plots by file name."""
    parts = [f"# {title}", *(_markdown_table(table) for table in tables), GLOSSARY]
    parts += [f"## {plot.title}\n\n![{plot.title}]({plot.svg.name})" for plot in plots]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [[_escaped(cell) for cell in cells] for cells in (table.head, *(row.cells for row in table.rows))]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(table.head))]
    rules = [
        "-" * width if column < table.text_columns else "-" * (width - 1) + ":" for column, width in enumerate(widths)
    ]
    padded = []
    for line in (lines[0], rules, *lines[1:]):
        cells = [
            cell.ljust(width) if column < table.text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        padded.append(f"| {' | '.join(cells)} |")
    below = [f"**{_escaped(warning)}**" for warning in table.warnings] + [_escaped(note) for note in table.notes]
    return "\n\n".join([f"## {table.title}", "\n".join(padded), *below])


def _escaped(text: str) -> str:
    return re.sub(r"([|<*`\\])", r"\\\1", " ".join(text.split()))


def page(title: str, tables: Sequence[Table], plots: Sequence[Plot]) -> str:
    """What was measured, then the plots, then every figure. Well-formed as XML too."""
    first, *others = tables
    figures = "\n".join(f"<figure>{_inline(plot)}</figure>" for plot in plots)
    body = [
        f"<h1>{html.escape(title)}</h1>",
        _html_table(first),
        f'<h2>Plots</h2>\n<div class="plots">{figures}</div>',
        *(_html_table(table) for table in others),
        f'<p class="note">{html.escape(GLOSSARY)}</p>',
    ]
    head = (
        f'<meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    )
    joined = "\n".join(body)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{joined}\n</body></html>\n'


def _html_table(table: Table) -> str:
    head = "".join(_cell("th", cell, column < table.text_columns) for column, cell in enumerate(table.head))
    rows = [_html_row(row, before, table.text_columns) for row, before in zip_longest(table.rows, (None, *table.rows))
            if row is not None]  # fmt: skip
    below = [f'<p class="warning">{html.escape(warning)}</p>' for warning in table.warnings]
    below += [f'<p class="note">{html.escape(note)}</p>' for note in table.notes]
    return (
        f"<section><h2>{html.escape(table.title)}</h2>\n"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{"".join(rows)}</tbody></table></div>\n'
        f"{''.join(below)}</section>"
    )


def _html_row(row: Row, before: Row | None, text_columns: int) -> str:
    """A line above the first row of each run, or of each compared figure."""
    starts = text_columns < len(row.cells) and before is not None and before.cells[0] != row.cells[0]
    cells = [_cell("td", cell, column < text_columns, column in row.invalid) for column, cell in enumerate(row.cells)]
    return f'<tr class="{"group" if starts else ""}">{"".join(cells)}</tr>\n'


def _cell(tag: str, text: str, is_words: bool, is_invalid: bool = False) -> str:
    holds = {"words": is_words, "na": text == NOT_AVAILABLE, "invalid": is_invalid or INVALID in text}
    return f'<{tag} class="{" ".join(name for name, held in holds.items() if held)}">{html.escape(text)}</{tag}>'


def _inline(plot: Plot) -> str:
    """The SVG without its prologue, its ids made unique: on one page a second `axes_1` would point to the first."""
    drawing = plot.svg.read_text()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r'\bid="', f'id="{plot.name}-', drawing)
    drawing = re.sub(r'href="#', f'href="#{plot.name}-', drawing).replace("url(#", f"url(#{plot.name}-")
    return drawing.replace("<svg ", f'<svg role="img" aria-label="{html.escape(plot.title)}" ', 1)
