"""Deployment handles as the ports that the rest of the code knows."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from serve_app.errors import CsmServeError, GenerationFailed, NotReady, Overloaded, ReplicaLost
from serve_app.messages import Accepted, AudioChunk, Codes, ContextSegment, GenerationRequest, ModelInfo, TokenFrames

_COLD_POLL_SECONDS = 0.25


class EncoderHandle:
    """`ports.ContextEncoder` on a deployment."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def encode(self, pcm: bytes) -> Codes:
        with our_errors():
            return await self._handle.encode.remote(pcm)

    async def default_voices(self) -> dict[int, ContextSegment]:
        with our_errors():
            return await self._handle.default_voices.remote()


class GeneratorHandle:
    """`ports.TokenGenerator` on a deployment."""

    def __init__(self, handle: DeploymentHandle, cold_wait_seconds: float) -> None:
        self._handle = handle
        self._cold_wait_seconds = cold_wait_seconds
        self._streaming = _streaming(handle)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Accepted | TokenFrames, None]:
        response = self._streaming.generate.remote(request)
        async for message in _consume(response, self._streaming, self._cold_wait_seconds):
            yield message

    async def info(self) -> ModelInfo:
        with our_errors():
            return await self._handle.info.remote()


class DecoderHandle:
    """`ports.AudioDecoder` on a deployment."""

    def __init__(self, handle: DeploymentHandle, cold_wait_seconds: float) -> None:
        self._handle = handle
        self._cold_wait_seconds = cold_wait_seconds
        self._streaming = _streaming(handle)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Accepted | AudioChunk, None]:
        response = self._streaming.stream.remote(request)
        async for message in _consume(response, self._streaming, self._cold_wait_seconds):
            yield message

    async def info(self) -> ModelInfo:
        with our_errors():
            return await self._handle.info.remote()


def _streaming(handle: DeploymentHandle) -> DeploymentHandle:
    # By value over gRPC: three times the messages a second of object references, at a fifth of the latency.
    # Messages are plain dataclasses: pickle writes them in half of cloudpickle's time.
    return handle.options(stream=True, _by_reference=False, response_serialization="pickle")


async def _consume(response: Any, handle: DeploymentHandle, cold_wait_seconds: float) -> AsyncIterator[Any]:
    try:
        with our_errors():
            yield await _first(response, handle, cold_wait_seconds)
            async for message in response:
                yield message
    except StopAsyncIteration:
        return
    finally:
        # Ray cancels what is behind a cancelled request by itself most of the time only.
        response.cancel()


async def _first(response: Any, handle: DeploymentHandle, cold_wait_seconds: float) -> Any:
    """The first message. Serve would hold a request for ever while no replica runs; one that runs answers in time.

    The request is on its way meanwhile, so that the autoscaler sees it.
    """
    first = asyncio.ensure_future(anext(response))
    gives_up_at = time.monotonic() + cold_wait_seconds
    try:
        while not handle.running_replicas_populated():
            done, _ = await asyncio.wait({first}, timeout=_COLD_POLL_SECONDS)
            if done:
                break
            if time.monotonic() > gives_up_at:
                raise NotReady(f"no replica started within {cold_wait_seconds:.0f} seconds; try again")
        return await first
    finally:
        first.cancel()


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
