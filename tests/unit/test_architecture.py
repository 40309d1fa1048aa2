"""Guards the layer diagram in docs/architecture.md: imports point down, and heavy libraries stay inside their fence."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists()) / "serve_app"

# Lower number = lower layer. A module may import its own subpackage and strictly lower layers.
LAYERS = {
    "errors": 0,
    "client": 0.5,
    "settings": 1,
    "log": 1,
    "shares": 1,
    "turns": 1.2,
    "messages": 1.5,
    "ports": 1.6,
    "owner_thread": 2,
    "metrics": 2,
    "tracing": 2,
    "audio": 2,
    "store": 3,
    "net": 3,
    "model": 3,
    "align": 4,
    "engine": 4,
    "codec": 4,
    "jobs": 5,
    "keys": 5,
    "records": 5,
    "conversations": 5.5,
    "adapters": 5,
    "voices": 5,
    "capacity": 5,
    "speech": 6,
    "api": 7,
    "deployments": 8,
    "preflight": 8.5,
    "app": 9,
    "verify": 9,
    "cli": 10,
    "launch": 11,
}
FENCES = {
    "ray": {"deployments", "preflight", "app", "cli", "launch"},
    "torch": {"model", "engine", "codec"},
    "fastapi": {"api"},
    "starlette": {"api"},
    "opentelemetry": {"tracing"},
}

OUTSIDE = {"training", "tests"}

DIALECT = re.compile(
    r"(?i:\bfal\b|\bfal[_-]|_fal\b|x-fal|idempotency-key)|\bFal[A-Z]|partNumber|expiration_duration_seconds"
    r"|gateway_request_id|IN_QUEUE|IN_PROGRESS|\"COMPLETED\""
    r"|client_cancelled|runner_disconnected|runner_server_error|file_download_error"
)
"""Names, headers and words of fal's API. The core neither knows nor stores them."""
MAY_NAME_DIALECT = {"deployments/services.py", "client/calls.py"}
"""One injects the dialect: the only module outside `api` that imports it. The other is outside: it calls its routes."""


def imports(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} relative import"
            if node.module == "serve_app":
                found += [(node.lineno, f"serve_app.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, node.module))
    return found


def unit(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


SOURCES = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_respect_layers(path: Path) -> None:
    here = unit(path)
    assert here in LAYERS, f"{here} has no layer: add it to LAYERS and to the diagram"
    for line, name in imports(path):
        top, *rest = name.split(".")
        if top == "serve_app":
            if not rest or rest[0] == "__version__":
                continue  # all that the package itself holds
            target = rest[0]
            assert target == here or LAYERS[target] < LAYERS[here], f"{path}:{line} {here} -> {target} points up"
        else:
            assert top not in OUTSIDE, f"{path}:{line} {top} stands outside the server"
        if top in FENCES:
            assert here in FENCES[top], f"{path}:{line} {top} is fenced to {sorted(FENCES[top])}"


@pytest.mark.parametrize("path", [p for p in SOURCES if unit(p) != "api"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_core_speaks_no_dialect(path: Path) -> None:
    if str(path.relative_to(PACKAGE)) in MAY_NAME_DIALECT:
        pytest.skip("injects or calls the dialect")
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        found = DIALECT.search(line)
        assert found is None, f"{path}:{number} {found[0]} belongs into serve_app/api/"


def test_there_is_something_to_guard() -> None:
    assert len(SOURCES) > 10
