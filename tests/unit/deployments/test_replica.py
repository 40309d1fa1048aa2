"""A replica computes with the CPUs that it was given."""

from types import SimpleNamespace

import pytest

from serve_app.deployments import replica
from serve_app.settings import EngineSettings, Settings


@pytest.mark.parametrize(
    ("asked", "given", "expected"),
    [(0, 4.0, 4), (0, 0.5, 0), (0, 2.5, 2), (3, 4.0, 3), (0, None, 0)],
    ids=["its CPUs", "a share of one", "whole ones only", "as set", "none given"],
)
def test_threads_of_a_replica(monkeypatch: pytest.MonkeyPatch, asked: int, given: float | None, expected: int) -> None:
    resources = {} if given is None else {"CPU": given}
    context = SimpleNamespace(get_assigned_resources=lambda: resources)
    monkeypatch.setattr(replica.ray, "get_runtime_context", lambda: context)
    settings = Settings(engine=EngineSettings(threads=asked))
    assert replica.with_threads(settings, "engine").engine.threads == expected
    assert replica.with_threads(settings, "engine").codec == settings.codec
