"""Bytes that a stream sends over each hop, with PCM or Opus between decoder and ingress, and the CPU that Opus takes.

    python -m benchmarks.datapath.hops --kbps 64

The sound is the demo voice's prompts. Messages are pickled as Serve sends them, without its own framing. CPU is the
median of five rounds on one thread.
"""

import argparse
import pickle
import statistics
import time
import wave
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files

from rich.console import Console
from rich.table import Table

from benchmarks.datapath.figures import chunk_frames
from serve_app.audio.encode.encoder import open_encoder
from serve_app.audio.encode.formats import coding_of
from serve_app.audio.inner_opus import OpusPackets, OpusSound
from serve_app.messages import FRAME_RATE_HZ, FRAME_SAMPLES, AudioChunk, Codes, TokenFrames

_FRAME_BYTES = 2 * FRAME_SAMPLES
_CODEBOOKS = 32
_ROUNDS = 5
_FORMATS = ("wav", "mp3", "opus")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kbps", type=int, default=64, help="of the Opus between decoder and ingress")
    kbps = parser.parse_args().kbps
    pcm = _speech()
    seconds = len(pcm) / _FRAME_BYTES / FRAME_RATE_HZ
    plain = _chunks(pcm)
    packets = OpusPackets(1000 * kbps)
    packed = [replace(chunk, pcm=b"", opus=packets.encode(chunk.pcm)) for chunk in plain]
    table = Table("hop", "kB a stream-second")
    frames = [TokenFrames(chunk.first_frame, chunk.codes) for chunk in plain]
    for hop, messages in (
        ("generator to decoder", frames),
        ("decoder to ingress, PCM", plain),
        (f"decoder to ingress, Opus of {kbps} kbit/s", packed),
    ):
        table.add_row(hop, f"{sum(len(pickle.dumps(each)) for each in messages) / seconds / 1000:.1f}")
    for name in _FORMATS:
        table.add_row(f"ingress to client, {name}", f"{_encoded_bytes(name, plain) / seconds / 1000:.1f}")
    console = Console(width=90)
    console.print(table)
    encode, decode = _cpu(lambda: _encode(plain, kbps)), _cpu(lambda: _decode(packed))
    console.print(f"CPU-ms a stream-second: encode {encode / seconds:.2f}, decode {decode / seconds:.2f}")


def _speech() -> bytes:
    """Whole frames, signed 16 bit mono at 24 kHz."""
    sound = b""
    for prompt in sorted(files("serve_app.demo_voice").joinpath("prompts").iterdir(), key=lambda each: each.name):
        if prompt.name.endswith(".wav"):
            with prompt.open("rb") as file, wave.open(file) as recording:
                sound += recording.readframes(recording.getnframes())
    return sound[: len(sound) // _FRAME_BYTES * _FRAME_BYTES]


def _chunks(pcm: bytes) -> list[AudioChunk]:
    chunks, first = [], 0
    for size in chunk_frames(len(pcm) // _FRAME_BYTES):
        sound = pcm[first * _FRAME_BYTES : (first + size) * _FRAME_BYTES]
        # Codes of a real model do not compress either, and are not compressed.
        chunks.append(AudioChunk(first, sound, Codes(bytes(2 * _CODEBOOKS * size), _CODEBOOKS)))
        first += size
    return chunks


def _encoded_bytes(name: str, chunks: list[AudioChunk]) -> int:
    encoder = open_encoder(coding_of(name))
    return sum(len(encoder.feed(chunk.pcm)) for chunk in chunks) + len(encoder.finish())


def _encode(chunks: list[AudioChunk], kbps: int) -> None:
    packets = OpusPackets(1000 * kbps)
    for chunk in chunks:
        packets.encode(chunk.pcm)


def _decode(chunks: list[AudioChunk]) -> None:
    sound = OpusSound()
    for chunk in chunks:
        sound.decode(chunk.opus)


def _cpu(work: Callable[[], None]) -> float:
    """Milliseconds."""
    rounds = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        work()
        rounds.append(1000 * (time.process_time() - began))
    return statistics.median(rounds)


if __name__ == "__main__":
    main()
