"""Ray's private names stay in one file, so that a Ray upgrade has one file to check."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.serve._private.request_router.common import ReplicaQueueLengthCache
from ray.serve.handle import DeploymentHandle
from ray.serve.request_router import RequestRouter

from serve_app.deployments.ray_private import ExactRequestRouter
from serve_app.deployments.scaling.prefix_router import PrefixRouter

PACKAGE = next(p for p in Path(__file__).resolve().parents if (p / "pyproject.toml").exists()) / "serve_app"
ALLOWED = PACKAGE / "deployments" / "ray_private.py"
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != ALLOWED)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_own(node: ast.expr) -> bool:
    """Whether it is `self`, `cls` or `super()`."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def private_names(source: str) -> Iterator[str]:
    """Private names of Ray that a module imports, reads from another object than itself, or passes as a keyword."""
    tree = ast.parse(source)
    modules = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [
        *(alias.name for node in modules if isinstance(node, ast.Import) for alias in node.names),
        *(
            f"{node.module}.{alias.name}"
            for node in modules
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        ),
    ]
    of_ray = [name for name in names if name.split(".")[0] == "ray"]
    yield from (name for name in of_ray if any(map(is_private, name.split("."))))
    if not of_ray:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if not is_own(node.value):
                yield node.attr
        elif isinstance(node, ast.Call):
            yield from (keyword.arg for keyword in node.keywords if keyword.arg and is_private(keyword.arg))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_uses_no_private_name_of_ray(path: Path) -> None:
    assert list(private_names(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "from ray.serve._private.constants import SERVE_LOGGER_NAME",
        "import ray._private.worker",
        "from ray.serve.context import _get_global_client",
        "import ray\nray._something()",
        "from ray import serve\nhandle.options(_by_reference=False)",
    ],
)
def test_the_guard_sees_a_private_name(source: str) -> None:
    assert list(private_names(source))


def test_the_allowed_file_is_where_they_are() -> None:
    assert list(private_names(ALLOWED.read_text()))


def test_the_prefix_router_replaces_no_private_method_of_serves_router() -> None:
    private = {name for name in dir(RequestRouter) if is_private(name)}
    assert private & vars(ExactRequestRouter).keys()
    assert not private & (vars(PrefixRouter).keys() - {"_abc_impl"})


CALLED = {
    "_select_from_candidate_replicas": ["self", "candidates", "backoff_index"],
    "_fulfill_next_pending_request": ["self", "replica", "request_metadata"],
    "_probe_queue_lens": ["self", "replicas", "backoff_index"],
    "_cancel_routing_task_for_pending_request": ["self", "pending_request"],
    "_record_queue_wait_time": ["self", "pending_request"],
    "_remove_pending_request_from_indices": ["self", "pending_request"],
}
"""What the router replaces or calls of Serve's own, with the arguments it relies on."""


@pytest.mark.parametrize("name", CALLED)
def test_serves_router_still_has_what_ours_relies_on(name: str) -> None:
    assert list(inspect.signature(getattr(RequestRouter, name)).parameters) == CALLED[name]


def test_serves_router_keeps_its_state_where_ours_looks_for_it() -> None:
    source = inspect.getsource(RequestRouter)
    assert "self._replica_queue_len_cache = " in source and "self._pending_requests_to_fulfill" in source
    assert {"staleness_timeout_s", "get_curr_time_s"} <= set(inspect.signature(ReplicaQueueLengthCache).parameters)


def test_a_handle_still_takes_the_options_that_carry_messages() -> None:
    assert {"_by_reference", "response_serialization"} <= set(inspect.signature(DeploymentHandle.options).parameters)
