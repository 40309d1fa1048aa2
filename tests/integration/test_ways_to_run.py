"""Every command that is a contract starts the whole graph; a start that fails says why in one line."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from serve_app.keys.exposure import is_loopback
from tests.support.ray_server import free_port
from tests.support.server_process import BIN, ROOT, environment, running

PYTHON = str(BIN / "python")


def speaks(url: str, **body: object) -> httpx.Response:
    response = httpx.post(f"{url}/generate", json={"text": "Hello.", "max_audio_seconds": 0.5} | body, timeout=60)
    assert response.status_code == 200, response.text
    assert len(response.content) == 44 + 6 * 3840
    return response


def beyond_loopback(server_pid: int) -> list[str]:
    """What other machines could reach of the server's processes, Ray's included."""
    processes = [psutil.Process(server_pid), *psutil.Process(server_pid).children(recursive=True)]
    names = {process.pid: process.name() for process in processes}
    return [
        f"{names[at.pid]} on {at.laddr}"
        for at in psutil.net_connections("tcp")
        if at.pid in names and at.status == psutil.CONN_LISTEN and not is_loopback(at.laddr.ip.removeprefix("::ffff:"))
    ]


def require_port_8000() -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8000)) == 0:
            pytest.skip("something else listens on port 8000, the only one that `serve run` takes here")


@pytest.mark.slow
def test_vox_serves_command_line(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flags = ["--temperature", "0.7", "--top_p", "0.9", "--repetition_penalty", "1.1", "--max-batch-size", "2"]
    command = [PYTHON, "-m", "serve_app.launch", "--model", str(tiny_checkpoint_folder), "--port", str(port), *flags]
    with running(command, url, environment(tmp_path)) as process:
        speaks(url)
        assert not beyond_loopback(process.pid)
        info = httpx.get(f"{url}/info").json()
        assert (info["sampling"]["temperature"], info["sampling"]["top_p"], info["max_batch_size"]) == (0.7, 0.9, 2)
        taken = subprocess.run(
            [*command[:6], str(port)], capture_output=True, text=True, env=environment(tmp_path), timeout=60, cwd=ROOT
        )
        assert taken.returncode == 1
        assert f":{port}" in taken.stderr and "choose another --port" in taken.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


@pytest.mark.slow
def test_serve_run_with_the_builder(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    require_port_8000()
    command = [str(BIN / "serve"), "run", "serve_app.app:build", f"model={tiny_checkpoint_folder}"]
    with running(command, "http://127.0.0.1:8000", environment(tmp_path)):
        speaks("http://127.0.0.1:8000")


@pytest.mark.slow
def test_serve_run_with_the_local_config(tmp_path: Path) -> None:
    require_port_8000()
    command = [str(BIN / "serve"), "run", "serve_app/configs/local.yaml"]
    with running(command, "http://127.0.0.1:8000", environment(tmp_path)):
        assert speaks("http://127.0.0.1:8000").headers["x-csm-weights"] == "demo voice"


@pytest.mark.slow
def test_a_model_that_fails_to_load_in_its_replica_ends_the_start_in_one_line(
    tiny_checkpoint_folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_checkpoint_folder, broken)
    (broken / "tokenizer.json").write_text("{}")
    command = [str(BIN / "csm-serve"), "serve", "--model", str(broken), "--port", str(free_port())]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), timeout=180, cwd=ROOT)
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("csm-serve: ") and "tokenizer.json" in last
    assert "Traceback" not in ended.stderr
