"""Adapters through the whole graph: real Ray, real HTTP, files that PEFT wrote."""

import base64
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from serve_app.cli.main import app
from tests.support.fine_tunes import make_adapter
from tests.support.ray_server import Server
from tests.support.sounds import speech_like

BODY = {"text": "Whose voice is this?", "greedy": True, "max_audio_seconds": 0.8}


@pytest.fixture(scope="module")
def folders(tiny_checkpoint_folder: Path, adapters_folder: Path) -> Path:
    """`configured`, which the server's settings name, and others that it does not know yet."""
    for seed, (name, options) in enumerate({"configured": {}, "added": {}, "too-large": {"r": 80}}.items()):
        make_adapter(tiny_checkpoint_folder, adapters_folder / name, seed, target_modules=["q_proj"], **options)
    shutil.copytree(adapters_folder / "added", adapters_folder / "of-another-base")
    file = adapters_folder / "of-another-base" / "adapter_model.safetensors"
    narrower = {
        name: value[..., :-1].contiguous() if "lora_A" in name else value for name, value in load_file(file).items()
    }
    save_file(narrower, file, {"format": "pt"})
    shutil.copytree(adapters_folder / "added", adapters_folder / "code")
    (adapters_folder / "code" / "adapter_model.safetensors").unlink()
    torch.save({"weight": Path("not a tensor")}, adapters_folder / "code" / "adapter_model.bin")
    return adapters_folder


def post(server: Server, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/generate", json=BODY | body, timeout=60)


def command(server: Server, *args: str) -> tuple[int, str]:
    """Exit status and what `csm-serve adapters` said."""
    result = CliRunner().invoke(app, ["adapters", *args, "--url", server.url])
    return result.exit_code, result.output + str(result.exception or "")


def test_one_of_the_settings_and_one_that_is_added_speak_each_in_its_own_voice(server: Server, folders: Path) -> None:
    assert command(server, "add", "added", str(folders / "added"))[0] == 0
    assert command(server, "list")[1].split() == ["NAME", "added", "configured"]
    plain, *adapted = [post(server), *(post(server, adapter=name) for name in ("configured", "added"))]
    assert [answer.status_code for answer in (plain, *adapted)] == [200] * 3
    assert len({answer.content for answer in (plain, *adapted)}) == 3
    together: dict[str | None, bytes] = {}
    threads = [
        threading.Thread(target=lambda name=name: together.update({name: post(server, adapter=name).content}))
        for name in (None, "configured", "added")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(map(together.get, (None, "configured", "added"))) == [plain.content, *(a.content for a in adapted)]


def test_a_record_names_the_adapter_and_its_replay_has_the_same_codes(server: Server, folders: Path) -> None:
    request = post(server, adapter="configured").headers["x-request-id"]
    receipt = httpx.get(f"{server.url}/requests/{request}/receipt").json()
    assert list(receipt["adapters"]) == ["configured"]
    replay = httpx.post(f"{server.url}/requests/{request}/replay", timeout=60).json()
    assert (replay["equal"], replay["changed"]) == (True, [])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("of-another-base", "name the base that it was trained on"),
        ("too-large", "rank"),
        ("code", "adapter_model.bin"),
        ("configured/..", "adapter_config.json is missing"),
    ],
)
def test_a_bad_one_is_refused_in_one_line_while_another_speaks(
    server: Server, folders: Path, name: str, why: str
) -> None:
    long = {"adapter": "configured", "max_audio_seconds": 4, "streaming": True}
    with httpx.stream("POST", f"{server.url}/generate", json=BODY | long, timeout=60) as answer:
        status, said = command(server, "add", "bad", str(folders / name))
        streamed = b"".join(answer.iter_raw())
    assert status != 0 and why in said and "\n" not in said.strip() and "{" not in said, said
    assert len(streamed) == 44 + 50 * 3840
    assert post(server, adapter="bad").status_code == 422


def test_a_kept_voice_names_an_adapter(server: Server, folders: Path) -> None:
    voice = {
        "name": "Adapted",
        "clips": [{"text": "These are the words.", "audio": base64.b64encode(speech_like(4.0)).decode()}],
        "consent": {"statement": "A test agrees.", "by": "its author"},
        "audition": False,
        "adapter": "configured",
    }
    unknown = httpx.post(f"{server.url}/voices", json=voice | {"adapter": "nobody"}, timeout=60)
    assert unknown.status_code == 422 and "GET /adapters lists them" in unknown.text
    kept = httpx.post(f"{server.url}/voices", json=voice, timeout=60)
    assert (kept.status_code, kept.json()["adapter"]) == (201, "configured")
    scene = [{"text": "With it."}, {"text": "Still with it."}, {"text": "Without.", "speaker": 5}]
    scene[0]["voice"] = "adapted"
    answer = httpx.post(f"{server.url}/generate", json={"scene": scene, "max_audio_seconds": 40}, timeout=60)
    receipt = httpx.get(f"{server.url}/requests/{answer.headers['x-request-id']}/receipt").json()
    assert list(receipt["adapters"]) == ["configured"]
    assert httpx.delete(f"{server.url}/voices/adapted").status_code == 204
