"""What keeps a server from starting is one line with a remedy."""

import socket
from pathlib import Path

import pytest

from serve_app.cli import serving
from serve_app.cli.listening import address_of, require_free_port
from serve_app.cli.start_errors import ray_failure, require_data_folder, require_ray
from serve_app.errors import StartupError

TOO_LONG = OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /scratch/x/plasma")
FOREIGN = PermissionError(13, "Permission denied", "/shared/ray")


@pytest.mark.parametrize(
    ("error", "environment", "line"),
    [
        (TOO_LONG, {"TMPDIR": "/scratch"}, r"longer than the system allows: set RAY_TMPDIR to a short folder"),
        (TOO_LONG, {"RAY_TMPDIR": "/s"}, r"sockets under /s would"),
        (FOREIGN, {}, r"may not write /shared/ray \(Permission denied\), perhaps another user's: set RAY_TMPDIR"),
        (OSError(30, "Read-only file system", "/ray"), {}, r"may not write /ray \(Read-only file system\)"),
        (ConnectionError("Could not find any running Ray instance\nmore"), {"RAY_ADDRESS": "127.0.0.1:6399"},
         r"no Ray answers at RAY_ADDRESS=127.0.0.1:6399 \(Could not find any running Ray instance\): unset"),
        (ValueError("Malformed address"), {"RAY_ADDRESS": "nonsense"}, r"RAY_ADDRESS=nonsense .* or correct it"),
        (RuntimeError(""), {"RAY_ADDRESS": "local"}, r"^Ray cannot start: RuntimeError$"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_ray_that_does_not_start_is_one_line_with_the_remedy(
    error: Exception, environment: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(serving.ray, "init", fail)
    with pytest.raises(StartupError, match=line) as stopped:
        serving._start_ray("127.0.0.1", 8000)
    assert "\n" not in str(stopped.value)
    assert str(ray_failure(error)) == str(stopped.value)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "localhost:{}"])
def test_an_address_where_no_ray_is_is_refused_at_once(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        require_ray(form.format(port))
    with pytest.raises(StartupError, match=rf"no Ray answers at RAY_ADDRESS={form.format(port)} .*: unset"):
        require_ray(form.format(port))


@pytest.mark.parametrize("address", ["auto", "ray://127.0.0.1:1", "[::1]"])
def test_an_address_of_another_form_is_left_to_ray(address: str) -> None:
    require_ray(address)


def test_a_data_folder_that_can_be_written_is_made(tmp_path: Path) -> None:
    require_data_folder(tmp_path / "new" / "data")
    assert (tmp_path / "new" / "data").is_dir()
    assert not list((tmp_path / "new" / "data").iterdir())


@pytest.mark.parametrize("folder", ["/proc/csm-serve", "/dev/null/data"])
def test_a_data_folder_that_cannot_be_written_is_refused_with_the_remedy(folder: str) -> None:
    with pytest.raises(StartupError, match=rf"data_dir: cannot write to {folder} \(.*\): set CSM_DATA_DIR"):
        require_data_folder(Path(folder))


def test_without_a_home_the_remedy_is_named() -> None:
    with pytest.raises(StartupError, match=r"HOME is not set.*: set CSM_DATA_DIR"):
        require_data_folder(Path("~/.local/share/csm-serve"))


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("a.b", "a.b:80")])
def test_an_ipv6_address_stands_in_brackets(host: str, address: str) -> None:
    assert address_of(host, 80) == address


def test_an_ipv6_address_of_another_machine_is_refused_in_brackets() -> None:
    with pytest.raises(StartupError, match=r"cannot listen on \[2001:db8::1\]:8000 "):
        require_free_port("2001:db8::1", 8000)


def test_a_ray_that_takes_too_long_is_started_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[bool] = []

    def start(**_: object) -> None:
        starts.append(True)
        raise RuntimeError("The current node timed out during startup. This could happen …")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(serving.ray, "init", start)
    with pytest.raises(StartupError, match="timed out during startup"):
        serving._start_ray("127.0.0.1", 8000)
    assert len(starts) == 2
