"""The least that can stream this speech: one FastAPI process, the same bytes in the same chunks at the same pace.

python -m benchmarks.datapath.bare --port 8000
"""

import argparse
import asyncio
import math
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

import numpy as np
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from benchmarks.datapath.figures import FRAME_SECONDS, chunk_frames
from serve_app.audio.wav import wav_header
from serve_app.codec.stand_in import StandInSlots
from serve_app.engine.stand_in import frame_codes
from serve_app.settings import StandInSettings

RAY_WORKER_NICENESS = 15
"""What Ray gives its workers: on a full machine the two servers must wait alike."""


class Body(BaseModel):
    seed: int
    max_audio_seconds: float


class Pace:
    """Frames of all streams fall due together, as those of one batch do; a stream begins at the next such moment."""

    def __init__(self) -> None:
        self._live = 0
        self._origin = 0.0

    @contextmanager
    def joined(self, now: float) -> Iterator[float]:
        """Gives the moment at which the stream begins."""
        if not self._live:
            self._origin = now
        self._live += 1
        try:
            yield self._origin + math.ceil((now - self._origin) / FRAME_SECONDS) * FRAME_SECONDS
        finally:
            self._live -= 1


class Voice:
    """The stand-ins' sound, without their services."""

    def __init__(self) -> None:
        self._slots = StandInSlots(StandInSettings(), 1)

    def pcm(self, seed: int, first_frame: int, num_frames: int) -> bytes:
        frames = np.arange(first_frame, first_frame + num_frames)
        codes = frame_codes(np.full(num_frames, seed), frames, 1)
        return self._slots.decode({0: codes})[0].tobytes() if num_frames else b""


def bare_app() -> FastAPI:
    app, pace, voice = FastAPI(), Pace(), Voice()

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/generate")
    async def generate(body: Body) -> StreamingResponse:
        return StreamingResponse(_speech(body, pace, voice), media_type="audio/wav")

    return app


async def _speech(body: Body, pace: Pace, voice: Voice) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    with pace.joined(loop.time()) as start:
        await asyncio.sleep(start - loop.time())
        yield wav_header(None)
        frame = 0
        for size in chunk_frames(int(body.max_audio_seconds / FRAME_SECONDS)):
            await asyncio.sleep(start + (frame + size) * FRAME_SECONDS - loop.time())
            yield voice.pcm(body.seed, frame, size)
            frame += size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    os.nice(RAY_WORKER_NICENESS)
    uvicorn.run(bare_app(), port=parser.parse_args().port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
