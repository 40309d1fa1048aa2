"""Containers and codecs: encoded bytes in, blocks of float samples out, one block in memory at a time.

The container is told from the first bytes and each library is told which one to expect. So what a library would
guess by itself (playlists, concat scripts, headerless formats) is out of reach, and no input opens a file or a socket.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END, SEEK_SET, BytesIO

import av
import numpy as np
import soundfile
from av.error import FFmpegError
from numpy.typing import NDArray

from serve_app.audio.mp4_tables import mp4_tables_fit
from serve_app.errors import AudioTooLong, InvalidAudio

_BLOCK_FRAMES = 16_384
_MAX_PACKETS_PER_SECOND = 1000
"""All tracks of a file together, video included; AAC alone has at most 94."""

_SOUNDFILE_STARTS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"caff", b"fLaC")
# MP3 and Ogg could be soundfile's, but on damaged ones libmpg123 fills stderr and libvorbis takes hundreds of MB.
_FFMPEG_STARTS = {b"\x1aE\xdf\xa3": "matroska", b"OggS": "ogg", b"ID3": "mp3"}
_LENGTH_UNKNOWN = 2**63 - 1
"""libsndfile's word for a streamed file whose header leaves the length open."""
_MPEG_SYNC = 0xFFE0
_MPEG_LAYER = 0x0006
"""Zero in AAC's bare stream (ADTS), which shares MP3's sync bits."""

_CODECS = {"aac", "flac", "libopus", "mp3", "mp3float", "opus", "vorbis"}
_CONTAINER_OPTIONS = {
    "codec_whitelist": ",".join(sorted(_CODECS)),  # else every track is probed, video too
    "protocol_whitelist": "none",
    "advanced_editlist": "0",  # an edit list multiplies the index; encoder delay is cut without it too
}


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive samples of a clip. Full scale is 1, but float files may exceed it or hold no numbers at all."""

    samples: NDArray[np.float32]
    """[frames, channels]"""
    sample_rate: int


def decoded_blocks(field: str, data: bytes, max_seconds: float) -> Iterator[Block]:
    """Refuses what is not audio, and what already claims to be longer than `max_seconds`."""
    if data.startswith(_SOUNDFILE_STARTS):
        return _soundfile_blocks(field, data, max_seconds)
    demuxer = _ffmpeg_demuxer(data)
    if demuxer is None:
        raise not_audio(field)
    return _ffmpeg_blocks(field, data, demuxer, max_seconds)


def not_audio(field: str) -> InvalidAudio:
    return InvalidAudio(field, "the audio cannot be decoded; send an intact wav, flac, ogg, mp3, m4a or webm file")


def too_long(field: str, max_seconds: float) -> AudioTooLong:
    return AudioTooLong(field, f"the audio is longer than {max_seconds:g} seconds; send a shorter clip")


def _ffmpeg_demuxer(data: bytes) -> str | None:
    if data[4:8] == b"ftyp":
        return "mov"
    first_bits = int.from_bytes(data[:2], "big")
    if first_bits & _MPEG_SYNC == _MPEG_SYNC:
        return "mp3" if first_bits & _MPEG_LAYER else "aac"
    return next((demuxer for start, demuxer in _FFMPEG_STARTS.items() if data.startswith(start)), None)


class _Bytes(BytesIO):
    """A crafted offset may point before the file. BytesIO raises there, which soundfile prints to stderr."""

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        origin = {SEEK_SET: 0, SEEK_CUR: self.tell(), SEEK_END: self.getbuffer().nbytes}[whence]
        return super().seek(max(origin + offset, 0))


class _SequentialFile(soundfile.SoundFile):
    """soundfile seeks after every read of a seekable file, which fails on a streamed FLAC."""

    def seekable(self) -> bool:
        return False


def _soundfile_blocks(field: str, data: bytes, max_seconds: float) -> Iterator[Block]:
    try:
        with _SequentialFile(_Bytes(data)) as file:
            if _LENGTH_UNKNOWN != file.frames > max_seconds * file.samplerate:
                raise too_long(field, max_seconds)
            while len(samples := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                yield Block(np.asarray(samples, np.float32), file.samplerate)
    except soundfile.LibsndfileError:
        raise not_audio(field) from None


def _ffmpeg_blocks(field: str, data: bytes, demuxer: str, max_seconds: float) -> Iterator[Block]:
    if demuxer == "mov" and not mp4_tables_fit(data, int((max_seconds + 1) * _MAX_PACKETS_PER_SECOND)):
        raise too_long(field, max_seconds)
    try:
        with av.open(
            BytesIO(data), "r", format=demuxer, container_options=_CONTAINER_OPTIONS, metadata_errors="replace"
        ) as file:
            stream = next(iter(file.streams.audio), None)
            # PyAV leaves the context of a codec that FFmpeg does not know at None, against its own annotation.
            if stream is None or stream.codec_context is None or stream.codec_context.name not in _CODECS:
                raise not_audio(field)
            packer = _Packer()
            for frame in file.decode(stream):
                yield Block(packer.samples(frame), frame.sample_rate)
    except FFmpegError:
        raise not_audio(field) from None


class _Packer:
    """Frames as interleaved floats. PyAV counts the planes of a planar frame wrongly from 8 channels up and crashes."""

    def __init__(self) -> None:
        self._setup: tuple[object, ...] | None = None
        self._converter = av.AudioResampler(format="flt")

    def samples(self, frame: av.AudioFrame) -> NDArray[np.float32]:
        setup = (frame.format.name, frame.layout, frame.sample_rate)
        if setup != self._setup:  # AAC may change its channels after the first frames; a converter takes one setup
            self._setup, self._converter = setup, av.AudioResampler(format="flt")
        packed = [piece.to_ndarray().reshape(-1, frame.layout.nb_channels) for piece in self._converter.resample(frame)]
        return np.concatenate([np.empty((0, frame.layout.nb_channels), np.float32), *packed], dtype=np.float32)
