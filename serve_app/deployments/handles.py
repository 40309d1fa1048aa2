"""Deployment handles as the ports that the rest of the code knows."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from serve_app.deployments.heartbeats import Heartbeat, while_heard
from serve_app.errors import CsmServeError, GenerationFailed, NotReady, Overloaded, ReplicaLost, ReplicaSilent
from serve_app.messages import Accepted, AudioChunk, Codes, ContextSegment, GenerationRequest, ModelInfo, TokenFrames
from serve_app.settings import FailoverSettings

_HEARTBEATS_IN_LINE = 2
"""So long a request waits for a slot of one replica before it looks where the line is shorter."""


class EncoderHandle:
    """`ports.ContextEncoder` on a deployment."""

    def __init__(self, handle: DeploymentHandle, failover: FailoverSettings) -> None:
        self._handle = handle
        self._failover = failover

    async def encode(self, pcm: bytes) -> Codes:
        return await self._answer(self._handle.encode.remote(pcm))

    async def default_voices(self) -> dict[int, ContextSegment]:
        return await self._answer(self._handle.default_voices.remote())

    async def _answer(self, response: Any) -> Any:
        """Raises NotReady where none comes: while no replica runs, Serve would hold the request for ever."""
        seconds = self._failover.cold_wait_seconds
        try:
            with our_errors():
                async with asyncio.timeout(seconds):
                    return await response
        except TimeoutError:
            response.cancel()
            raise NotReady(f"no replica answered within {seconds:.0f} seconds; try again") from None


class GeneratorHandle:
    """`ports.TokenGenerator` on a deployment."""

    def __init__(self, handle: DeploymentHandle, failover: FailoverSettings) -> None:
        self._handle = handle
        self._failover = failover
        self._streaming = _streaming(handle)

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        def ask(waited_seconds: float) -> Any:
            return self._streaming.generate.remote(replace(request, waited_seconds=waited_seconds))

        return _consume(ask, self._failover, _HEARTBEATS_IN_LINE)

    async def info(self) -> ModelInfo:
        with our_errors():
            return await self._handle.info.remote()


class DecoderHandle:
    """`ports.AudioDecoder` on a deployment."""

    def __init__(self, handle: DeploymentHandle, failover: FailoverSettings) -> None:
        self._handle = handle
        self._failover = failover
        self._streaming = _streaming(handle)

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        return _consume(lambda _: self._streaming.stream.remote(request), self._failover)

    async def info(self) -> ModelInfo:
        with our_errors():
            return await self._handle.info.remote()


def _streaming(handle: DeploymentHandle) -> DeploymentHandle:
    # By value over gRPC: three times the messages a second of object references, at a fifth of the latency.
    # Messages are plain dataclasses: pickle writes them in half of cloudpickle's time.
    return handle.options(stream=True, _by_reference=False, response_serialization="pickle")


class _StandsInLine(Exception):
    """A replica keeps a request waiting."""


async def _consume(
    ask: Callable[[float], Any], failover: FailoverSettings, patience: int | None = None
) -> AsyncGenerator[Any, None]:
    """A replica that took a request says so within a heartbeat. While none takes it, Serve would hold it for ever: none
    runs, which may change, or it was sent to one that is cut off. So it is sent anew.

    So it is where only heartbeats came, `patience` of them: another replica may have room by now, or be new. `ask` gets
    the seconds that it has waited, so that its place in the line is kept.
    """
    asked_at, waited_seconds = time.monotonic(), 0.0
    while True:
        response, num_heartbeats, is_open = ask(waited_seconds), 0, False
        try:
            with our_errors():
                async with aclosing(while_heard(response, failover.max_missed_heartbeats)) as messages:
                    async for message in messages:
                        if not isinstance(message, Heartbeat):
                            is_open = True
                            yield message
                            continue
                        num_heartbeats += 1
                        if not is_open and num_heartbeats == patience:
                            raise _StandsInLine
            return
        except _StandsInLine:
            waited_seconds = time.monotonic() - asked_at
        except ReplicaSilent:
            if is_open or num_heartbeats:
                raise
            if time.monotonic() > asked_at + failover.cold_wait_seconds:
                seconds = f"{failover.cold_wait_seconds:.0f} seconds"
                raise NotReady(f"no replica started within {seconds}; try again") from None
        finally:
            # Ray cancels what is behind a cancelled request by itself most of the time only.
            response.cancel()


@contextmanager
def our_errors() -> Iterator[None]:
    """Raise what a replica raised, or our word for what Ray says of it."""
    try:
        yield
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, CsmServeError):
            raise cause from None
        if isinstance(cause, RayActorError):
            raise ReplicaLost("a replica died; try again") from error
        raise GenerationFailed("a part of the server failed; try again") from error
    except BackPressureError as error:
        raise Overloaded("every replica is busy and the queue is full", 2) from error
    except DeploymentUnavailableError as error:
        raise NotReady("the models are still loading") from error
    except RayActorError as error:
        raise ReplicaLost("a replica died; try again") from error
