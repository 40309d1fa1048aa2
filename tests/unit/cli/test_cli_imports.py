"""What answers at once imports nothing that takes seconds; and the launcher of a server never imports torch."""

import json
import socket
import subprocess
import sys

import pytest

HEAVY = {"ray", "torch", "transformers", "moshi", "numpy", "sqlalchemy", "fastapi", "httpx", "aiohttp", "rich"}
"""pydantic is not among them: typer reads options with it."""
_RUN = """
import json, sys
import importlib
main = importlib.import_module(sys.argv.pop(1)).main
try:
    main()
finally:
    print("\\n" + json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""


def run(argv: list[str], module: str = "serve_app.cli") -> tuple[int, set[str]]:
    """The exit status, and the packages that were imported."""
    command = [sys.executable, "-c", _RUN, module, *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["--version"],
        ["serve", "--help"],
        ["verify", "--help"],
        ["check"],
        ["replay", "--help"],
        ["serve", "--prot", "1"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(argv: list[str]) -> None:
    status, imported = run(argv)
    assert status == (0 if argv[-1].startswith("--") else 2)
    assert "typer" in imported
    assert not imported & HEAVY


def test_a_taken_port_is_refused_before_anything_heavy_is_imported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, imported = run(["serve", "--port", str(taken.getsockname()[1])])
    assert status == 1
    assert not imported & HEAVY


def test_vox_serves_launcher_refuses_a_taken_port_without_ray() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, imported = run(["--port", str(taken.getsockname()[1])], "serve_app.launch")
    assert status == 1
    assert not imported & HEAVY


def test_the_launcher_builds_the_graph_without_torch() -> None:
    """torch takes 400 MB, for as long as the server runs."""
    program = """
import sys
from serve_app.cli.serving import _find_checkpoint, build_graph
from serve_app.settings import Settings
assert _find_checkpoint(Settings(model="demo")) == "demo voice"
build_graph(Settings(model="demo"))
print(sorted({"torch", "transformers", "moshi"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_no_installed_package_makes_ray_slow_to_import() -> None:
    """jsonschema loads what checks formats if it is there. One such package takes a second in each process of Ray."""
    code = "import sys, ray; print('jsonschema' in sys.modules, 'rfc3987_syntax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["True", "False"]
