"""vox-serve's command line, up to the settings it starts the server with."""

import pytest

from serve_app import launch
from serve_app.errors import StartupError
from serve_app.settings import Settings


class Started:
    """Takes the place of the server."""

    settings: Settings
    address: tuple[str, int]

    def __call__(self, settings: Settings, host: str, port: int) -> None:
        self.settings, self.address = settings, (host, port)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    server = Started()
    monkeypatch.setattr(launch, "_serve", server)
    return server


def value_at(settings: Settings, path: str) -> object:
    found: object = settings
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("spelling", ["dashes", "underscores"])
@pytest.mark.parametrize(
    ("flag", "value", "path", "expected"),
    [
        ("--model", "/some/folder", "model", "/some/folder"),
        ("--max-batch-size", "3", "engine.max_batch_size", 3),
        ("--max-batch-size", "3", "codec.max_streams", 3),
        ("--temperature", "0.7", "sampling.temperature", 0.7),
        ("--top-k", "7", "sampling.top_k", 7),
        ("--top-p", "0.8", "sampling.top_p", 0.8),
        ("--repetition-penalty", "1.1", "sampling.repetition_penalty", 1.1),
        ("--max-tokens", "25", "limits.max_audio_seconds", 2.0),
        ("--log-level", "DEBUG", "log_level", "DEBUG"),
    ],
)
def test_a_flag_becomes_its_setting(
    started: Started, spelling: str, flag: str, value: str, path: str, expected: object
) -> None:
    spelled = flag if spelling == "dashes" else "--" + flag[2:].replace("-", "_")
    launch.main([spelled, value])
    assert value_at(started.settings, path) == expected


def test_greedy_is_a_switch(started: Started) -> None:
    launch.main(["--greedy"])
    assert started.settings.sampling.greedy


def test_flags_of_one_section_are_set_together(started: Started) -> None:
    launch.main(["--temperature", "0.7", "--top_p", "0.9", "--repetition_penalty", "1.1"])
    sampling = started.settings.sampling
    assert (sampling.temperature, sampling.top_p, sampling.repetition_penalty, sampling.top_k) == (0.7, 0.9, 1.1, 50)


def test_without_flags_the_settings_are_the_servers_own(started: Started) -> None:
    launch.main([])
    assert started.settings == Settings()
    assert started.address == ("127.0.0.1", 8000)


@pytest.mark.parametrize("setting", ["REQUIRED", "OPEN"])
def test_it_listens_everywhere_as_vox_serve_does_where_that_is_meant(
    started: Started, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv(f"CSM_KEYS__{setting}", "true")
    launch.main([])
    assert started.address == ("0.0.0.0", 8000)


def test_open_is_a_switch(started: Started) -> None:
    launch.main(["--open"])
    assert started.settings.keys.open
    assert started.address == ("0.0.0.0", 8000)


def test_host_and_port_are_where_it_listens(started: Started) -> None:
    launch.main(["--host", "127.0.0.1", "--port", "9001"])
    assert started.address == ("127.0.0.1", 9001)


@pytest.mark.parametrize(("given", "model"), [("csm", "sesame/csm-1b"), ("sesame/csm-1b", "sesame/csm-1b")])
def test_vox_serves_short_name_means_the_published_model(started: Started, given: str, model: str) -> None:
    launch.main(["--model", given])
    assert started.settings.model == model


@pytest.mark.parametrize("spelling", ["--max-num-pages", "--max_num_pages"])
def test_flags_without_effect_are_taken_and_named_in_a_warning(
    started: Started, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    launch.main([spelling, "2048", "--enable-cuda-graph", "--page-size", "128"])
    assert started.settings == Settings()
    assert "without effect here: --max-num-pages, --page-size, --enable-cuda-graph" in caplog.text


def test_flags_that_were_not_given_are_not_warned_of(started: Started, caplog: pytest.LogCaptureFixture) -> None:
    launch.main(["--model", "demo"])
    assert "without effect" not in caplog.text


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--temperature", "0"], "serve_app.launch: setting sampling.temperature: "),
        (["--top-p", "1.5"], "serve_app.launch: setting sampling.top_p: "),
        (["--max-batch-size", "0"], "serve_app.launch: setting engine.max_batch_size: "),
        (["--max-tokens", "1000000"], "serve_app.launch: setting limits.max_audio_seconds: "),
    ],
)
def test_a_value_out_of_range_is_one_line_and_a_failure(started: Started, argv: list[str], line: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        launch.main(argv)
    message = stopped.value.code
    assert isinstance(message, str), "which Python prints to stderr, and exits with 1"
    assert message.startswith(line)
    assert "\n" not in message


@pytest.mark.parametrize("argv", [["--port", "x"], ["--no-such-flag"], ["--log-level", "LOUD"]], ids=str)
def test_a_command_line_that_cannot_be_read_fails(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        launch.main(argv)
    assert stopped.value.code == 2
    assert argv[0] in capsys.readouterr().err


def test_a_server_that_cannot_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StartupError("cannot listen on port 8000: choose another --port")

    monkeypatch.setattr(launch, "_serve", refuse)
    with pytest.raises(SystemExit) as stopped:
        launch.main([])
    assert stopped.value.code == "serve_app.launch: cannot listen on port 8000: choose another --port"


def test_help_names_the_flags_that_act(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        launch.main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "--top-p" in shown and "--top_p" in shown
    assert "--page-size" not in shown
