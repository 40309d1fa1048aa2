"""Traces across processes: messages carry W3C `traceparent` strings, and spans go to an OTLP collector.

Tracing is off unless `tracing.endpoint` is set. Only then, and only here, opentelemetry is imported. Spans hold ids,
counts and times, never a user's text, audio or keys.
"""

from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from serve_app.settings import TracingSettings

Attribute = str | int | float | bool


class Span(Protocol):
    """A context manager. An error inside sets its status, without the message, which may hold private text."""

    @property
    def traceparent(self) -> str:
        """The parent of spans in other processes. Empty without tracing."""
        ...

    def set(self, **attributes: Attribute) -> None: ...

    def event(self, name: str, **attributes: Attribute) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Tracer(Protocol):
    def span(self, name: str, parent: str = "", **attributes: Attribute) -> Span: ...


class _NoSpan:
    traceparent = ""

    def set(self, **attributes: Attribute) -> None:
        pass

    def event(self, name: str, **attributes: Attribute) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class _NoTracer:
    _span = _NoSpan()

    def span(self, name: str, parent: str = "", **attributes: Attribute) -> Span:
        return self._span


NO_TRACER: Tracer = _NoTracer()


def open_tracer(settings: TracingSettings, service: str, replica: str) -> Tracer:
    """A tracer for this process, which sends its spans in the background."""
    if settings.endpoint is None:
        return NO_TRACER
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
        resource=Resource.create(
            {"service.namespace": "csm-serve", "service.name": service, "service.instance.id": replica}
        ),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(traces_url(settings.endpoint))))
    return OtelTracer(provider)


def traces_url(endpoint: str) -> str:
    """The URL for traces. An endpoint without a path gets OTLP's path."""
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + "/v1/traces"


class OtelTracer:
    """Uses a provider of opentelemetry's SDK. Parents are explicit, because contexts would leak out of generators."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = provider.get_tracer("serve_app")
        self._propagator = TraceContextTextMapPropagator()

    def span(self, name: str, parent: str = "", **attributes: Attribute) -> Span:
        from opentelemetry.context import Context

        # An empty context, because Serve may trace this request too, into another backend.
        context = self._propagator.extract({"traceparent": parent}, context=Context()) if parent else Context()
        return _OtelSpan(self._tracer.start_span(name, context=context, attributes=attributes))


class _OtelSpan:
    def __init__(self, span: Any) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def set(self, **attributes: Attribute) -> None:
        self._span.set_attributes(attributes)

    def event(self, name: str, **attributes: Attribute) -> None:
        self._span.add_event(name, attributes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing a generator or cancelling a task is not a failure.
        if kind is not None and issubclass(kind, Exception):
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, kind.__name__))
        self._span.end()
