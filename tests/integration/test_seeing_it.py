"""What an operator sees of a real local Ray: metrics, logs and traces of one request on all of its hops."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.ray_server import SharedRay

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"X-Request-Id": "seen-1", "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}
SEEN = [
    'ray_csm_requests_ended_total{outcome="eos"}',
    "ray_csm_time_to_first_audio_seconds_bucket",
    "ray_csm_chunk_lateness_seconds_bucket",
    "ray_csm_stream_underrun_seconds_bucket",
    "ray_csm_engine_slots",
    "ray_csm_engine_frames_total",
    "ray_csm_engine_step_seconds",
    "ray_csm_decoder_streams",
    "ray_csm_decoder_tick_seconds_bucket",
]


class Collector(http.server.BaseHTTPRequestHandler):
    """OpenTelemetry's, as far as it takes spans by HTTP."""

    spans: ClassVar[list[tuple[str, Span]]] = []

    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in sent.resource_spans:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Seen:
    """`logs` are those of this application's replicas alone: others ran on the same Ray before."""

    url: str
    logs: list[Path]
    spans: list[tuple[str, Span]]
    agent_port: int

    @property
    def replicas(self) -> set[str]:
        return {log.stem.rpartition("_")[2] for log in self.logs}


def replica_logs() -> set[Path]:
    import ray

    folder = ray._private.worker._global_node.get_logs_dir_path()
    return set(Path(folder, "serve").glob("replica_*.log"))


@pytest.fixture(scope="module")
def seen(ray_of_session: SharedRay) -> Iterator[Seen]:
    import ray

    from serve_app.app import build_graph
    from serve_app.settings import Settings, StandInSettings, TracingSettings

    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    settings = Settings(
        model="stand-in",
        stand_in=StandInSettings(frames=30),
        log_format="json",
        tracing=TracingSettings(endpoint=f"http://127.0.0.1:{collector.server_port}"),
    )
    ray_of_session.start()
    earlier = replica_logs()
    url = ray_of_session.serving("seen", lambda: build_graph(settings)).url
    response = httpx.post(f"{url}/generate", json={"text": "Hello.", "streaming": True}, headers=HEADERS, timeout=60)
    assert response.status_code == 200
    (node,) = ray.nodes()
    yield Seen(url, sorted(replica_logs() - earlier), Collector.spans, node["MetricsExportPort"])
    ray_of_session.clear()
    collector.shutdown()


def lacking(seen: Seen, url: str) -> list[str]:
    """Of what should be seen of this application; labels of Ray's stand between the name and ours."""
    published = httpx.get(f"{url}/metrics", timeout=10).text.splitlines()
    lines = [line for line in published if any(f'replica="{replica}"' in line for replica in seen.replicas)]

    def is_there(name: str) -> bool:
        family, _, label = name.rstrip("}").partition("{")
        return any(line.startswith(family) and label in line for line in lines)

    return [name for name in SEEN if not is_there(name)]


def test_prometheus_sees_every_part_at_the_servers_own_address_and_at_rays(seen: Seen) -> None:
    deadline = time.monotonic() + 60
    for url in (seen.url, f"http://127.0.0.1:{seen.agent_port}"):
        while (missing := lacking(seen, url)) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not missing
    text = httpx.get(f"{seen.url}/metrics").text
    assert 'deployment="TokenGenerator"' in text and "ray_node" not in text
    assert text.count("# TYPE ray_csm_engine_slots gauge") == 1


def test_each_hop_logs_the_request_by_its_id_as_json(seen: Seen) -> None:
    texts = [file.read_text() for file in seen.logs]
    # Serve says that it begins before any code of ours runs.
    lines = [json.loads(line) for text in texts for line in text.splitlines() if "initializing replica" not in line]
    assert {"Ingress", "TokenGenerator"} <= {line["deployment"] for line in lines if line.get("request_id") == "seen-1"}
    assert {line["level"] for line in lines} <= {"INFO", "WARNING"}
    ours = next(line for line in lines if line["message"].startswith("request seen-1: eos, 2.40 s of audio"))
    assert ours["logger"] == "serve_app.speech.watch" and ours["replica"] and ours["time"].endswith("+00:00")


def test_one_trace_goes_through_all_replicas(seen: Seen) -> None:
    deadline = time.monotonic() + 30
    while len(seen.spans) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sorted((service, span.name) for service, span in seen.spans) == [
        ("AudioDecoder", "stream"),
        ("Ingress", "request"),
        ("TokenGenerator", "generate"),
    ]
    assert {span.trace_id.hex() for _, span in seen.spans} == {TRACE_ID}
