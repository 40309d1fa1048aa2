"""One trace over all hops; and nothing where nobody asked for one."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from serve_app import tracing
from serve_app.codec.decoder_service import DecoderService
from serve_app.codec.encoder_service import EncoderService
from serve_app.codec.stand_in import StandInClips, StandInSlots
from serve_app.deployments.watched_generator import WatchedGenerator
from serve_app.engine.service import TokenService
from serve_app.errors import Overloaded
from serve_app.messages import Accepted, GenerationRequest, ModelInfo, SamplingParams, TokenFrames
from serve_app.settings import CodecSettings, EngineSettings, Settings, StandInSettings, TracingSettings
from serve_app.speech.pipeline import SpeechPipeline
from serve_app.speech.request import ContextClip, SpeechRequest
from serve_app.speech.scene import Turn
from serve_app.speech.watch import Watcher
from serve_app.tracing import OtelTracer
from tests.support.fakes import INFO
from tests.support.recording_meter import RecordingMeter

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


class Traced:
    """The graph in one process, on stand-ins, each hop with its own tracer to one place."""

    def __init__(self, refuses: bool = False) -> None:
        self._exporter = InMemorySpanExporter()
        settings = Settings(model="stand-in", stand_in=StandInSettings(frames=6), engine=EngineSettings())
        self._service = TokenService.load(settings)
        generator = WatchedGenerator(self._service, RecordingMeter(), self._tracer())
        assert settings.stand_in is not None
        self._decoder = DecoderService(
            StandInSlots(settings.stand_in, 2),
            Refusing() if refuses else AsPort(generator),
            CodecSettings(),
            RecordingMeter(),
            self._tracer(),
        )
        self._encoder = EncoderService(StandInClips(settings.stand_in), {})
        self.pipeline = SpeechPipeline(self._encoder, self._decoder, Watcher(RecordingMeter(), self._tracer()))

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def stop(self) -> None:
        self._encoder.stop()
        self._decoder.stop()
        self._service.stop()

    def _tracer(self) -> OtelTracer:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        return OtelTracer(provider)


class AsPort:
    def __init__(self, watched: WatchedGenerator) -> None:
        self.generate = watched.generate

    async def info(self) -> ModelInfo:
        return INFO


class Refusing:
    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        raise Overloaded("a text that is nobody's business")
        yield

    async def info(self) -> ModelInfo:
        return INFO


def asked(trace: str = CALLER) -> SpeechRequest:
    clip = ContextClip("Before.", 0, b"\1\0" * 1920)
    return SpeechRequest("r", (Turn("Hello.", 0),), (clip,), SamplingParams(seed=3), 90.0, trace=trace)


async def spoken(graph: Traced, request: SpeechRequest) -> None:
    try:
        async for _ in graph.pipeline.stream(request):
            pass
        await asyncio.sleep(0)
    finally:
        graph.stop()


async def test_the_hops_of_one_request_are_one_trace_under_the_callers() -> None:
    graph = Traced()
    await spoken(graph, asked())
    spans = graph.spans()
    assert set(spans) == {"request", "encode", "stream", "generate"}
    assert {format(span.context.trace_id, "032x") for span in spans.values()} == {TRACE_ID}
    parents = {name: format(span.parent.span_id, "016x") for name, span in spans.items() if span.parent}
    request, stream = (format(spans[name].context.span_id, "016x") for name in ("request", "stream"))
    assert parents == {"request": CALLER.split("-")[2], "encode": request, "stream": request, "generate": stream}
    assert [event.name for event in spans["generate"].events] == ["accepted", "first frame"]
    assert [event.name for event in spans["stream"].events] == ["slot open"]
    assert [event.name for event in spans["request"].events][:2] == ["accepted", "first audio"]
    assert spans["request"].attributes == {"request_id": "r", "turns": 1, "outcome": "eos", "audio_seconds": 0.48}
    assert spans["generate"].attributes == {"request_id": "r", "finish": "eos", "frames": 6}


async def test_a_caller_without_a_trace_begins_one_and_a_malformed_one_is_none() -> None:
    for trace in ("", "00-nonsense"):
        graph = Traced()
        await spoken(graph, asked(trace))
        assert len({span.context.trace_id for span in graph.spans().values()}) == 1
        assert graph.spans()["request"].parent is None


async def test_a_caller_who_is_not_sampled_stays_so() -> None:
    graph = Traced()
    await spoken(graph, asked(CALLER[:-2] + "00"))
    assert graph.spans() == {}


async def test_an_error_is_the_spans_status_without_its_words() -> None:
    graph = Traced(refuses=True)
    with pytest.raises(Overloaded):
        await spoken(graph, asked())
    for name in ("request", "stream"):
        span = graph.spans()[name]
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "Overloaded")
        assert not span.events


def test_it_is_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "CSM_TRACING__ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert Settings().tracing.endpoint is None
    tracer = tracing.open_tracer(Settings().tracing, "Ingress", "r")
    assert tracer is tracing.NO_TRACER
    with tracer.span("request", CALLER, request_id="r") as span:
        assert span.traceparent == ""


@pytest.mark.parametrize(
    "variable", ["CSM_TRACING__ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
)
def test_our_setting_or_opentelemetrys_own_turns_it_on(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "http://collector:4318")
    assert Settings().tracing.endpoint == "http://collector:4318"


def test_spans_go_to_the_collectors_path_for_them() -> None:
    assert tracing.traces_url("http://collector:4318") == "http://collector:4318/v1/traces"
    assert tracing.traces_url("http://collector:4318/") == "http://collector:4318/v1/traces"
    assert tracing.traces_url("https://x.example/otlp/v1/traces") == "https://x.example/otlp/v1/traces"


async def test_spans_reach_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")  # milliseconds
    bodies: list[bytes] = []
    has_come = asyncio.Event()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l"))
        bodies.append(head.split(b"\r\n")[0] + await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        has_come.set()

    collector = await asyncio.start_server(collect, "127.0.0.1", 0)
    async with collector:
        port = collector.sockets[0].getsockname()[1]
        tracer = tracing.open_tracer(TracingSettings(endpoint=f"http://127.0.0.1:{port}"), "Ingress", "replica-1")
        with tracer.span("request", CALLER, request_id="r-1"):
            pass
        await asyncio.wait_for(has_come.wait(), 30)
    (body,) = bodies
    assert body.startswith(b"POST /v1/traces ") and b"r-1" in body and b"replica-1" in body
    assert bytes.fromhex(TRACE_ID) in body


def test_nothing_of_ours_imports_it_before_it_is_asked_for() -> None:
    script = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import serve_app.tracing as t, serve_app.settings as s, serve_app.speech.pipeline\n"
        "import serve_app.codec.decoder_service, serve_app.engine.service\n"
        "assert t.open_tracer(s.TracingSettings(endpoint=None), 'x', 'y') is t.NO_TRACER"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
