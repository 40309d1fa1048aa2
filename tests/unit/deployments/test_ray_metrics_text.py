"""Several nodes' pages as one."""

import ssl

import pytest

from serve_app.deployments import ray_metrics_text
from serve_app.deployments.ray_metrics_text import RayMetricsText, merged


def page(node: str) -> str:
    return f"""# HELP ray_csm_queue_seconds What was waited.
# TYPE ray_csm_queue_seconds histogram
ray_csm_queue_seconds_bucket{{NodeAddress="{node}",le="+Inf"}} 1.0
ray_csm_queue_seconds_sum{{NodeAddress="{node}"}} 0.5
# HELP ray_node_cpu Not ours.
# TYPE ray_node_cpu gauge
ray_node_cpu 3.0
# HELP ray_csm_engine_slots Rows.
# TYPE ray_csm_engine_slots gauge
ray_csm_engine_slots{{NodeAddress="{node}"}} 8.0
"""


def test_each_family_stands_once_with_every_nodes_samples() -> None:
    assert merged([page("a"), page("b")]).splitlines() == [
        "# HELP ray_csm_queue_seconds What was waited.",
        "# TYPE ray_csm_queue_seconds histogram",
        'ray_csm_queue_seconds_bucket{NodeAddress="a",le="+Inf"} 1.0',
        'ray_csm_queue_seconds_sum{NodeAddress="a"} 0.5',
        'ray_csm_queue_seconds_bucket{NodeAddress="b",le="+Inf"} 1.0',
        'ray_csm_queue_seconds_sum{NodeAddress="b"} 0.5',
        "# HELP ray_csm_engine_slots Rows.",
        "# TYPE ray_csm_engine_slots gauge",
        'ray_csm_engine_slots{NodeAddress="a"} 8.0',
        'ray_csm_engine_slots{NodeAddress="b"} 8.0',
    ]


def test_no_page_is_no_text() -> None:
    assert merged([]) == merged(["# HELP ray_x y\n# TYPE ray_x gauge\nray_x 1.0\n"]) == ""


async def test_no_certificates_are_read_on_the_loop_that_carries_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("tens of milliseconds")

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", read)
    monkeypatch.setattr(ray_metrics_text, "_addresses", lambda: ["http://127.0.0.1:1/metrics"])
    assert await RayMetricsText()() == ""


async def test_a_node_that_does_not_answer_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_metrics_text, "_addresses", lambda: ["http://127.0.0.1:1/metrics"])
    assert await RayMetricsText()() == ""
