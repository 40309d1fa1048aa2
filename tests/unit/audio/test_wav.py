import io

import numpy as np
import pytest
import soundfile

from serve_app.audio.wav import wav_file, wav_header

PCM = np.arange(-2400, 2400, dtype="<i2").tobytes()


def read(data: bytes) -> bytes:
    samples, sample_rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    assert sample_rate == 24_000
    assert samples.shape[1] == 1
    return samples.astype("<i2").tobytes()


def test_a_file_holds_its_samples_and_exact_sizes() -> None:
    data = wav_file(PCM)
    assert read(data) == PCM
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert int.from_bytes(data[40:44], "little") == len(PCM)


@pytest.mark.parametrize("num_samples", [None, 0, 1920])
def test_a_header_is_44_bytes(num_samples: int | None) -> None:
    assert len(wav_header(num_samples)) == 44


def test_a_stream_of_unknown_length_is_readable_to_its_end() -> None:
    header = wav_header(None)
    assert header[4:8] == header[40:44] == b"\xff\xff\xff\xff"
    assert read(header + PCM) == PCM
