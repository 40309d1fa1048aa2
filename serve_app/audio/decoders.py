"""Containers and codecs: encoded bytes in, blocks of float samples out, one block in memory at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END, SEEK_SET, BytesIO
from itertools import chain

import av
import numpy as np
import soundfile
from av.container import InputContainer
from av.error import FFmpegError
from numpy.typing import NDArray

from serve_app.audio.codecs import CODECS
from serve_app.audio.mp4_tables import has_mp4_index, mp4_tables_fit
from serve_app.audio.parts import Part, Unreadable, parts
from serve_app.audio.samples import Packer
from serve_app.errors import AudioTooLong, InvalidAudio

_BLOCK_FRAMES = 16_384
_MAX_PACKETS_PER_SECOND = 1000
"""All tracks of a file together, video included; AAC alone has at most 94."""

_MAX_FRUITLESS_PACKETS = 500
"""In a row without sound. Then the rest of a recording is given up: crafted files hold millions."""
_NO_INDEX = (
    "the audio cannot be decoded: its index (moov) is missing, as in a recording that was not finished or is only a "
    "piece of one; send the whole file"
)

_OF_SOUNDFILE_TOO = ("wav", "aiff", "au", "caf")
_WAV_KINDS_OF_SOUNDFILE = (0x14, 0x38, 0x40)
_AU_KINDS_OF_SOUNDFILE = (23, 25, 26)
"""NMS's ADPCM, G.721 and G.723, which FFmpeg mistakes for others or decodes too softly."""
_CONTAINER_OPTIONS = {
    "codec_whitelist": ",".join(sorted(CODECS)),  # else every track is probed, video too
    "protocol_whitelist": "none",
    "advanced_editlist": "0",  # an edit list multiplies the index; encoder delay is cut without it too
}
_BARE = ("aac", "mp3")
_BARE_OPTIONS = {**_CONTAINER_OPTIONS, "probesize": "262144"}
"""Of streams that have no header FFmpeg tries all it may read, and frames without content cost it ten seconds."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive samples of a clip. Full scale is 1, but float files may exceed it or hold no numbers at all."""

    samples: NDArray[np.float32]
    """[frames, channels]"""
    sample_rate: int


@dataclass(slots=True)
class Losses:
    """What could not be decoded and was left out: packets, or all of a recording in a joined file."""

    pieces: int = 0


def decoded_blocks(field: str, data: bytes, max_seconds: float, losses: Losses) -> Iterator[Block]:
    """Blocks of all recordings that the data holds. Rate and channels may change from one to the next.

    Raises InvalidAudio for what is not audio, and AudioTooLong for an index that is longer than `max_seconds`.
    """
    refusal: str | None = None
    is_any_read = False
    try:
        for part in parts(data):
            try:
                for block in _part_blocks(field, part, max_seconds, losses):
                    is_any_read = True
                    yield block
            except (Unreadable, FFmpegError, soundfile.LibsndfileError) as error:
                losses.pieces += 1
                refusal = refusal or (str(error) if isinstance(error, Unreadable) else "")
    except Unreadable as error:
        refusal = str(error)
    if not is_any_read and (refusal is not None or losses.pieces):
        raise InvalidAudio(field, refusal) if refusal else not_audio(field)


def not_audio(field: str) -> InvalidAudio:
    return InvalidAudio(field, "the audio cannot be decoded; send an intact wav, flac, ogg, mp3, m4a or webm file")


def too_long(field: str, max_seconds: float) -> AudioTooLong:
    return AudioTooLong(field, f"the audio is longer than {max_seconds:g} seconds; send a shorter clip")


def _part_blocks(field: str, part: Part, max_seconds: float, losses: Losses) -> Iterator[Block]:
    """May yield nothing. Raises Unreadable, and the libraries' errors."""
    if part.demuxer == "mov":
        if not mp4_tables_fit(part.data, int((max_seconds + 1) * _MAX_PACKETS_PER_SECOND)):
            raise too_long(field, max_seconds)
        if not has_mp4_index(part.data):
            raise Unreadable(_NO_INDEX)
    blocks = iter(()) if _is_of_soundfile(part) else _ffmpeg_blocks(part, losses)
    try:
        first = next(blocks, None)
    except (FFmpegError, Unreadable):
        if part.demuxer not in _OF_SOUNDFILE_TOO:
            raise
        first = None
    if first is not None:
        yield from chain((first,), blocks)
    elif part.demuxer in _OF_SOUNDFILE_TOO:
        yield from _soundfile_blocks(part.data)


def _is_of_soundfile(part: Part) -> bool:
    if part.demuxer == "wav":
        return int.from_bytes(part.data[20:22], "little") in _WAV_KINDS_OF_SOUNDFILE
    if part.demuxer == "au":
        return part.data.startswith(b"dns.") or int.from_bytes(part.data[12:16], "big") in _AU_KINDS_OF_SOUNDFILE
    return False


def _ffmpeg_blocks(part: Part, losses: Losses) -> Iterator[Block]:
    with av.open(
        BytesIO(part.data),
        "r",
        format=part.demuxer,
        container_options=_BARE_OPTIONS if part.demuxer in _BARE else _CONTAINER_OPTIONS,
        metadata_errors="replace",
    ) as file:
        stream = _first_readable(file)
        packer, fruitless = Packer(), 0
        for frames in _decoded_packets(file, stream):
            losses.pieces += frames is None
            fruitless = 0 if frames else fruitless + 1
            if fruitless > _MAX_FRUITLESS_PACKETS:
                return
            for frame in frames or ():
                yield Block(packer.samples(frame), frame.sample_rate)


def _first_readable(file: InputContainer) -> av.AudioStream:
    """Video is ignored, and so are tracks that nothing here decodes."""
    for stream in file.streams.audio:
        # PyAV leaves the context of a codec that FFmpeg does not know at None, against its own annotation.
        if stream.codec_context is not None and stream.codec_context.name in CODECS:
            return stream
    raise Unreadable


def _decoded_packets(file: InputContainer, stream: av.AudioStream) -> Iterator[list[av.AudioFrame] | None]:
    """The frames of each packet, None for one that is damaged. Ends at damage that the container cannot step over."""
    packets = file.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:
            yield None
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except FFmpegError as error:
            frames = [] if isinstance(error, EOFError) else None
        yield frames


class _Bytes(BytesIO):
    """A crafted offset may point before the file. BytesIO raises there, which soundfile prints to stderr."""

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        origin = {SEEK_SET: 0, SEEK_CUR: self.tell(), SEEK_END: self.getbuffer().nbytes}[whence]
        return super().seek(max(origin + offset, 0))


class _SequentialFile(soundfile.SoundFile):
    """soundfile seeks after every read of a seekable file, which fails on some streams."""

    def seekable(self) -> bool:
        return False


def _soundfile_blocks(data: bytes) -> Iterator[Block]:
    """For the encodings that FFmpeg has no decoder for."""
    with _SequentialFile(_Bytes(data)) as file:
        while len(samples := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
            yield Block(np.asarray(samples, np.float32), file.samplerate)
