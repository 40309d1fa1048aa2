"""The command line: what it plans, what it writes, and how it ends."""

import socket
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.common.records import read_records, read_run
from benchmarks.load.client import ClosedPhase, Limit, OpenPhase
from benchmarks.load.command import build_parser, load_test, main
from benchmarks.load.plan import BadPlan
from benchmarks.load.run import LoadTest
from serve_app.cli.bench import run_bench
from serve_app.cli.main import app
from serve_app.errors import StartupError


def planned(*arguments: str) -> LoadTest:
    return load_test(build_parser("load").parse_args(arguments), "command")


def open_phases(*arguments: str) -> list[OpenPhase]:
    return [phase for phase in planned(*arguments).phases if isinstance(phase, OpenPhase)]


def test_by_default_the_loop_is_closed_and_ends_by_time() -> None:
    assert planned().phases == [ClosedPhase(level, Limit(20.0, None)) for level in (1, 2, 4, 8)]
    assert planned("--concurrency", "3", "--requests", "9").phases == [ClosedPhase(3, Limit(None, 9))]


def test_every_rate_is_a_phase_of_its_own() -> None:
    phases = open_phases("--rates", "5,10", "--duration", "30")
    assert [phase.label for phase in phases] == ["5 a second", "10 a second"]
    assert [len(phase.arrivals) for phase in phases] == pytest.approx([150, 300], rel=0.25)
    assert {arrival.level for arrival in phases[0].arrivals} == {5}
    [few] = open_phases("--rates", "5", "--requests", "7", "--arrivals", "gamma", "--burstiness", "3")
    assert len(few.arrivals) == 7


def test_a_conversation_counts_as_the_requests_it_holds() -> None:
    [phase] = open_phases("--rates", "8", "--duration", "50", "--scenario", "conversation")
    assert len(phase.arrivals) == pytest.approx(100, rel=0.3)
    assert phase.arrivals[0].level == 8


def test_steps_and_ramps_are_one_phase_of_several_levels() -> None:
    [step] = open_phases("--rates", "5,10", "--arrivals", "step", "--duration", "10")
    assert {arrival.level for arrival in step.arrivals} == {5, 10}
    [ramp] = open_phases("--rates", "0,10", "--arrivals", "ramp", "--duration", "20")
    assert {arrival.level for arrival in ramp.arrivals} == {1, 3, 5, 7, 9}


def test_a_trace_is_replayed_as_far_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "monday.txt"
    path.write_text("0\n1\n2\n3\n")
    [phase] = open_phases("--trace", str(path), "--duration", "2.5")
    assert (phase.label, len(phase.arrivals)) == ("monday.txt", 3)


def test_what_a_target_cannot_do_is_left_out_by_name() -> None:
    test = planned("--target", "vox", "--scenario", "sentence,scene")
    assert test.workload.scenarios == ("sentence",)
    assert test.skipped == ("scene: its form takes one text",)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "openai", "--scenario", "conversation"), "openai cannot do conversation"),
        (("--target", "vox", "--context-seconds", "3"), "takes no context"),
        (("--scenario", "opera"), "--scenario opera: choose from sentence"),
        (("--url", "localhost:8000"), "give it as http://host:port"),
        (("--rates", "5", "--arrivals", "ramp"), "takes two rates"),
        (("--rates", "0,1"), "only a ramp"),
        (("--rates", "0.001", "--duration", "1"), "nothing arrives at 0.001 a second"),
        (("--trace", "nowhere.txt"), "--trace nowhere.txt"),
        (("--texts", "nowhere.txt"), "--texts nowhere.txt"),
        (("--max-chars", "1"), "no sentence is left"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_that_make_no_sense_are_refused_by_name(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadPlan, match=said):
        planned(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--concurrency", "0"],
        ["--rates", "1,-2"],
        ["--rates", "nan"],
        ["--extra", "[1]"],
        ["--extra", "{"],
        ["--name", "a/b"],
        ["--scenario", "opera"],
        ["--server-pid", "999999999"],
    ],
    ids=" ".join,
)
def test_a_bad_option_is_one_line_and_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert "error: " in said[-1]
    assert arguments[0] in said[-1] or arguments[1] in said[-1]


def test_a_server_that_is_not_there_is_one_line_a_failure_and_an_invalid_run(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(SystemExit) as stopped:
        main(["--url", url, "--out", str(tmp_path), "--name", "nobody"])
    message = stopped.value.code
    assert isinstance(message, str)
    assert f"no server answers at {url}" in message
    assert "\n" not in message
    assert read_run(tmp_path / "nobody.json").invalid_because == ("the first request failed: connect",)
    assert [record.error for record in read_records(tmp_path / "nobody.jsonl")] == ["connect"]


def test_csm_serve_bench_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(sys.modules["serve_app.cli.bench"], "run_bench", given.extend)
    arguments = ["bench", "--rates", "1,2", "--extra", '{"a": 1}', "--help"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert given == arguments[1:]


def test_csm_serve_bench_knows_its_own_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_bench(["--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage: csm-serve bench")


def test_without_a_checkout_bench_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys.modules["serve_app.cli.bench"], "__file__", str(tmp_path / "a" / "b" / "bench.py"))
    with pytest.raises(StartupError, match="needs a checkout"):
        run_bench([])
