"""The report of load runs: nothing missing looks like a pass, nothing invalid looks valid."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.load.timeline import summarize
from benchmarks.report import command as report
from benchmarks.report.input import load
from benchmarks.report.tables import number, share, tables
from tests.support.made_up_runs import made_up_level, made_up_records, save, without_figures

PLOTS = ("ttfa", "continuity", "rtf", "throughput", "memory", "lateness")
REASON = "the client's loop lagged 80 ms at p99"


def made(folder: Path, *runs: Path) -> Path:
    report.main([*map(str, runs), "--out", str(folder / "out")])
    return folder / "out"


def drawn_words(path: Path) -> str:
    return " ".join(" ".join(ElementTree.parse(path).getroot().itertext()).split())


def test_every_part_is_written(tmp_path: Path) -> None:
    out = made(tmp_path, save(tmp_path, "run"))
    assert {path.name for path in out.iterdir()} == {
        "report.md",
        "report.html",
        *(f"{plot}.{kind}" for plot in PLOTS for kind in ("png", "svg")),
    }
    for plot in PLOTS:
        assert (out / f"{plot}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"{plot}.png").stat().st_size > 10_000
        assert len(ElementTree.parse(out / f"{plot}.svg").findall(".//{http://www.w3.org/2000/svg}path")) > 5


def test_what_the_load_tool_summarizes_is_read(tmp_path: Path) -> None:
    levels = tuple(summarize(made_up_records((streams,))) for streams in (1, 8))
    outcomes = tables(load([save(tmp_path, "run", levels=levels)]))[-1]
    assert [row.cells[1:] for row in outcomes.rows] == [("1", "29", "29", "none"), ("8", "29", "29", "none")]


def test_the_tables_are_printed_as_they_are_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = made(tmp_path, save(tmp_path, "run"))
    table = [line for line in (out / "report.md").read_text().splitlines() if line.startswith("|")]
    assert set(table) <= set(capsys.readouterr().out.splitlines())


def test_the_page_is_well_formed_and_needs_nothing_beside_it(tmp_path: Path) -> None:
    first = save(tmp_path, 'a<b>&|"c"', command="csm-serve bench --text '<script src=\"x\">'")
    out = made(tmp_path, first, save(tmp_path, "second", invalid_because=(REASON,)))
    text = (out / "report.html").read_text()
    root = ElementTree.fromstring(text)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for element in root.iter():
        assert not element.tag.endswith(("script", "link", "iframe", "img", "object"))
        for name, value in element.attrib.items():
            if name.rpartition("}")[2] in ("href", "src"):
                assert value.removeprefix("#") in ids
    assert re.findall(r"@import|url\((?!#)", text) == []
    assert len(root.findall(".//{http://www.w3.org/2000/svg}svg")) == len(PLOTS)


def test_the_page_states_what_was_measured(tmp_path: Path) -> None:
    text = (made(tmp_path, save(tmp_path, "run")) / "report.html").read_text()
    for fact in ("abc1234, with uncommitted changes", "csm-serve bench --concurrency 1,2,4,8,16", "cpu", "valid"):
        assert f">{fact}</td>" in text


def test_an_invalid_run_is_marked_in_every_table_and_plot(tmp_path: Path) -> None:
    runs = save(tmp_path, "good"), save(tmp_path, "bad", invalid_because=(REASON, "too late"))
    warning = f"bad (INVALID): {REASON}; too late"
    assert all(table.warnings == (warning,) for table in tables(load(runs)))
    out = made(tmp_path, *runs)
    for plot in PLOTS:
        assert warning in drawn_words(out / f"{plot}.svg")
        assert "#b3001b" in (out / f"{plot}.svg").read_text()
    root = ElementTree.fromstring((out / "report.html").read_text())
    cells = [cell for cell in root.iter("td") if "bad (INVALID)" in (cell.text or "")]
    assert cells
    assert all("invalid" in (cell.get("class") or "") for cell in cells)


def test_a_valid_run_beside_an_invalid_one_is_not_marked(tmp_path: Path) -> None:
    side_by_side = tables(load([save(tmp_path, "good"), save(tmp_path, "bad", invalid_because=(REASON,))]))[1]
    assert side_by_side.head[3:] == ("good", "bad (INVALID)", "ratio to good")
    assert {row.invalid for row in side_by_side.rows} == {frozenset({4, 5})}


def test_what_was_not_measured_is_neither_0_nor_a_pass(tmp_path: Path) -> None:
    run = save(tmp_path, "run", levels=(without_figures(4),), memory_mb=())
    for table in tables(load([run]))[1:-1]:
        (row,) = table.rows
        assert row.cells == ("run", "4", *["n/a"] * (len(table.head) - 2))
    out = made(tmp_path, run)
    for plot in PLOTS[:5]:
        assert "n/a" in drawn_words(out / f"{plot}.svg")


def test_single_chunk_streams_leave_no_lateness(tmp_path: Path) -> None:
    run = save(tmp_path, "run", loads=())
    assert "n/a: no stream had a second chunk" in drawn_words(made(tmp_path, run) / "lateness.svg")


def test_a_run_without_levels_says_so(tmp_path: Path) -> None:
    out = made(tmp_path, save(tmp_path, "run", levels=()))
    assert "n/a: no load was measured" in drawn_words(out / "ttfa.svg")
    assert re.search(r"^\| run +\| +n/a \|", (out / "report.md").read_text(), re.MULTILINE)


def test_runs_are_compared_with_the_first(tmp_path: Path) -> None:
    runs = load([save(tmp_path, "first"), save(tmp_path, "slow", loads=(1, 32), slowness=2)])
    rows = {row.cells[:3]: row.cells[3:] for row in tables(runs)[1].rows}
    assert rows["TTFA p50, ms", "lower", "1"] == ("72.0", "144", "2.00x")
    assert rows["audio s/s", "higher", "1"] == ("4.00", "2.00", "0.50x")
    assert rows["TTFA p50, ms", "lower", "32"] == ("n/a", "888", "n/a")
    assert rows["TTFA p50, ms", "lower", "8"][1:] == ("n/a", "n/a")


def test_different_loads_have_no_ratio(tmp_path: Path) -> None:
    table = tables(load([save(tmp_path, "closed"), save(tmp_path, "open", loop="open")]))[1]
    assert {row.cells[-1] for row in table.rows} == {"n/a"}
    assert any("different loops" in note for note in table.notes)


def test_a_first_value_of_0_has_no_ratio(tmp_path: Path) -> None:
    none_kept = made_up_level(1, continuity={"c50": 0.0, "c100": 0.0, "c200": 0.0})
    runs = load([save(tmp_path, "first", levels=(none_kept,)), save(tmp_path, "second")])
    rows = {row.cells[:3]: row.cells[3:] for row in tables(runs)[1].rows}
    assert rows["C50", "higher", "1"] == ("0.0 %", "97.5 %", "n/a")


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert [run.label for run in load([save(tmp_path, "run"), save(other, "run")])] == ["run", "run'"]


def test_a_share_is_rounded_down_and_a_small_figure_is_not_0() -> None:
    assert [share(1.0), share(0.9996), share(0.29), share(0.0)] == ["100.0 %", "99.9 %", "29.0 %", "0.0 %"]
    assert [number(x) for x in (0, 0.0004, 0.064, 7.25, -12.34, 1234.5)] == [
        *("0", "0.0004", "0.064", "7.25", "-12.3", "1234")
    ]


def lost_level(values: dict[str, Any], name: str) -> None:
    del values["levels"][1][name]


BREAKAGES = {
    "no_level": lambda values: values.pop("levels"),
    "unknown_field": lambda values: values.update(surprise=1),
    "levels_no_objects": lambda values: values.update(levels=[1]),
    "lost_section": lambda values: lost_level(values, "rtf"),
    "lost_number": lambda values: lost_level(values, "audio_seconds"),
    "renamed_part": lambda values: values["levels"][0].update(rtf={"median": 1}),
    "text_for_a_number": lambda values: values["levels"][0]["ttfa_ms"].update(p50="fast"),
    "memory_no_pairs": lambda values: values.update(memory_mb=[1, 2]),
    "no_words": lambda values: values.update(started_at=None),
}


@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES.keys())
def test_a_broken_summary_is_one_clear_line(tmp_path: Path, breakage: Any) -> None:
    path = save(tmp_path, "run")
    values = json.loads(path.read_text())
    breakage(values)
    path.write_text(json.dumps(values))
    with pytest.raises(SystemExit, match=r"run\.json: not the summary of a load run") as failure:
        made(tmp_path, path)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\udcff"], ids=repr)
def test_a_file_that_is_no_summary_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = save(tmp_path, "run")
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(SystemExit, match=r"run\.json: not the summary"):
        made(tmp_path, path)


@pytest.mark.parametrize("text", ["{}", "nonsense", '{"chunks": [{}]}'], ids=repr)
def test_broken_records_are_one_clear_line(tmp_path: Path, text: str) -> None:
    path = save(tmp_path, "run")
    path.with_suffix(".jsonl").write_text(text)
    with pytest.raises(SystemExit, match=r"run\.jsonl: not the records of a load run"):
        made(tmp_path, path)


def test_a_chunk_without_a_time_is_one_clear_line(tmp_path: Path) -> None:
    path = save(tmp_path, "run")
    records = path.with_suffix(".jsonl")
    records.write_text(re.sub(r'"at": [\d.]+', '"at": null', records.read_text(), count=1))
    with pytest.raises(SystemExit, match=r"run\.jsonl: line 1: "):
        made(tmp_path, path)


@pytest.mark.parametrize("missing", ["run.json", "run.jsonl"])
def test_a_missing_file_is_one_clear_line(tmp_path: Path, missing: str) -> None:
    path = save(tmp_path, "run")
    (tmp_path / missing).unlink()
    with pytest.raises(SystemExit, match=f"{missing}: No such file"):
        made(tmp_path, path)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file is in the way")
    with pytest.raises(SystemExit, match="cannot write the report to"):
        made(tmp_path, save(tmp_path, "run"))


def test_more_runs_than_can_be_told_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="at most 6 runs"):
        made(tmp_path, *[tmp_path / "run.json"] * 7)
