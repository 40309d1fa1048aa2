"""Deployment handles that satisfy `ports`."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from typing import Any

from grpc.aio import AioRpcError
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from serve_app.deployments.heartbeats import Heartbeat, while_heard
from serve_app.deployments.ray_private import by_reference, runs_alone, streaming
from serve_app.errors import CsmServeError, GenerationFailed, NotReady, Overloaded, ReplicaLost, ReplicaSilent
from serve_app.messages import (
    Accepted,
    AdapterRef,
    AudioChunk,
    Codes,
    ContextSegment,
    GenerationRequest,
    ModelInfo,
    TokenFrames,
    WordTime,
)
from serve_app.settings import FailoverSettings

_QUEUED_HEARTBEATS = 2
"""A request that waited this long for a slot of one replica is routed again: another one may be free by now."""


class EncoderHandle:
    """`ports.ContextEncoder` on a deployment."""

    def __init__(self, handle: DeploymentHandle, failover: FailoverSettings) -> None:
        self._handle = by_reference(handle)  # a clip of 90 s is 4.3 MB
        self._failover = failover

    async def encode(self, pcm: bytes, owner: str = "") -> Codes:
        return await _answer(self._handle.encode.remote(pcm, owner), self._failover.cold_wait_seconds)

    async def default_voices(self) -> dict[int, ContextSegment]:
        return await _answer(self._handle.default_voices.remote(), self._failover.cold_wait_seconds)

    async def codec(self) -> str:
        return await _answer(self._handle.codec.remote(), self._failover.cold_wait_seconds)


class AlignerHandle:
    """`ports.WordAligner` on a deployment. The first call waits for a replica to start."""

    def __init__(self, handle: DeploymentHandle, failover: FailoverSettings) -> None:
        self._handle = handle
        self._failover = failover

    async def align(self, pcm: bytes, text: str) -> list[WordTime]:
        return await _answer(self._handle.align.remote(pcm, text), self._failover.cold_wait_seconds)


class GeneratorHandle:
    """`ports.TokenGenerator` on a deployment."""

    def __init__(self, handle: DeploymentHandle, failover: FailoverSettings) -> None:
        self._handle = handle
        self._failover = failover
        self._streaming = streaming(handle)

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        return _of_an_engine(self._streaming.generate, request, self._failover)

    async def info(self) -> ModelInfo:
        with our_errors():
            return await self._handle.info.remote()

    async def check_adapter(self, ref: AdapterRef) -> None:
        with our_errors():
            await self._handle.check_adapter.remote(ref)


class DecoderHandle:
    """`ports.AudioDecoder` on a deployment.

    is_fused: its replicas have an engine inside, so that requests wait and are refused there.
    """

    def __init__(self, handle: DeploymentHandle, failover: FailoverSettings, is_fused: bool = False) -> None:
        self._handle = handle
        self._failover = failover
        self._streaming = streaming(handle)
        self._is_fused = is_fused

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        if self._is_fused:
            messages = _of_an_engine(self._streaming.stream, request, self._failover)
        else:
            messages = _consume(lambda *_: self._streaming.stream.remote(request), self._failover)
        return _unpacked(messages) if request.is_lossy else messages

    async def decode(self, codes: Codes) -> bytes:
        return await _answer(self._handle.decode.remote(codes), self._failover.cold_wait_seconds)

    async def info(self) -> ModelInfo:
        return await _answer(self._handle.info.remote(), self._failover.cold_wait_seconds)

    async def check_adapter(self, ref: AdapterRef) -> None:
        with our_errors():
            await self._handle.check_adapter.remote(ref)


async def _answer(response: Any, seconds: float) -> Any:
    """Raises NotReady after `seconds`. Serve would hold the request for as long as no replica runs."""
    try:
        with our_errors():
            async with asyncio.timeout(seconds):
                return await response
    except TimeoutError:
        _cancel(response)
        raise NotReady(f"no replica answered within {seconds:.0f} seconds; try again") from None


async def _unpacked(
    messages: AsyncGenerator[Accepted | AudioChunk, None],
) -> AsyncGenerator[Accepted | AudioChunk, None]:
    """The same with sound in every chunk, where the decoder has sent Opus."""
    opus = None
    async with aclosing(messages):
        async for message in messages:
            if isinstance(message, AudioChunk) and message.opus:
                # Every replica imports this file, and only an ingress has FFmpeg at hand anyway.
                from serve_app.audio.inner_opus import OpusSound

                opus = opus or OpusSound()
                yield replace(message, pcm=opus.decode(message.opus), opus=())
            else:
                yield message


def _of_an_engine(
    method: DeploymentHandle, request: GenerationRequest, failover: FailoverSettings
) -> AsyncGenerator[Any, None]:
    """The messages of a request that may wait for a slot of an engine, or be refused one."""

    def ask(waited_seconds: float, was_refused: bool) -> Any:
        return method.remote(replace(request, waited_seconds=waited_seconds, was_refused=was_refused))

    return _consume(ask, failover, lambda: not runs_alone(method))


class _StillQueued(Exception):
    """A replica keeps the request waiting."""


async def _consume(
    ask: Callable[[float, bool], Any],
    failover: FailoverSettings,
    is_another_there: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[Any, None]:
    """The messages of one request, without heartbeats. Closing it cancels the request.

    A replica that takes the request sends a heartbeat. If none comes, no replica runs or the replica is cut off, and
    Serve would hold the request for ever; so it is sent again. Where another replica is there, it is also sent again
    after some heartbeats without a message, and once if a full replica refuses it: callers know the loads of a second
    ago, and another may have room. `ask` gets the seconds waited so far, so that the request keeps its place, and
    whether it was refused.
    """
    asked_at, waited_seconds, was_refused = time.monotonic(), 0.0, False
    while True:
        response, num_heartbeats, is_open = ask(waited_seconds, was_refused), 0, False
        try:
            with our_errors():
                async with aclosing(while_heard(response, failover.max_missed_heartbeats)) as messages:
                    async for message in messages:
                        if not isinstance(message, Heartbeat):
                            is_open = True
                            yield message
                            continue
                        num_heartbeats += 1
                        if not is_open and num_heartbeats >= _QUEUED_HEARTBEATS and is_another_there():
                            raise _StillQueued
            return
        except _StillQueued:
            waited_seconds = time.monotonic() - asked_at
        except Overloaded:
            if is_open or was_refused or not is_another_there():
                raise
            was_refused = True
        except ReplicaSilent:
            if is_open or num_heartbeats:
                raise
            _require_patience(asked_at, failover.cold_wait_seconds)
        finally:
            _cancel(response)


def _cancel(response: Any) -> None:
    """Ray does not always cancel the calls behind a cancelled request."""
    # For a request that was never sent, Serve raises here again why not.
    with suppress(BackPressureError, DeploymentUnavailableError, RayActorError, RayTaskError):
        response.cancel()


def _require_patience(asked_at: float, seconds: float) -> None:
    """Raises NotReady if a request that no replica has taken was sent longer ago than this."""
    if time.monotonic() > asked_at + seconds:
        raise NotReady(f"no replica started within {seconds:.0f} seconds; try again") from None


@contextmanager
def our_errors() -> Iterator[None]:
    """Raises the replica's own error, or this package's error for Ray's."""
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
    except AioRpcError as error:
        raise GenerationFailed("a message between parts of the server was lost; try again") from error
