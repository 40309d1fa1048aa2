"""The checks of the spoken sample and of the speed."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from serve_app.audio.wav import wav_file
from serve_app.errors import StartupError
from serve_app.messages import SAMPLE_RATE_HZ, FinishReason
from serve_app.verify.check import SAMPLE, SPEED, Check, Status, finite, judged
from serve_app.verify.served import FRAME_MS, Sound, Speed

_QUIETEST_SPEECH_DBFS = -50.0
"""RMS of a whole answer. Speech has about -25."""


def check_sample(sound: Sound, path: Path, is_random: bool) -> Check:
    """Judge the sound and write it to `path`. Raises StartupError if the file cannot be written."""
    try:
        path.write_bytes(wav_file(sound.pcm))
    except OSError as error:
        raise StartupError(f"--sample: cannot write {path} ({error.strerror}): name another file") from error
    samples = np.frombuffer(sound.pcm, dtype="<i2") / 32768
    seconds = len(samples) / SAMPLE_RATE_HZ
    rms = _dbfs(math.sqrt(np.square(samples).mean())) if len(samples) else -math.inf
    peak = _dbfs(float(np.abs(samples).max())) if len(samples) else -math.inf
    noise = " (random weights: this is noise)" if is_random else ""
    rows = [
        ("file", f"{path}{noise}"),
        ("sound", f"{seconds:.2f} s, RMS {rms:.1f} dBFS, peak {peak:.1f} dBFS; it ended by {sound.finish}"),
    ]
    values = {
        "file": str(path),
        "seconds": seconds,
        "rms_dbfs": finite(rms),
        "peak_dbfs": finite(peak),
        "finish": sound.finish.value,
        "noise": is_random,
    }
    return judged(SAMPLE, _reasons(sound, rms, is_random), rows, values)


def show_speed(speed: Speed) -> Check:
    rows = [("device", f"{speed.device}, {speed.dtype}, {speed.step} step")]
    for size, milliseconds in speed.step_ms.items():
        streams = "1 stream" if size == 1 else f"{size} streams"
        rows.append((streams, f"{milliseconds:.1f} ms a frame, real-time factor {milliseconds / FRAME_MS:.2f}"))
    rows += [
        ("first audio", f"{speed.first_audio_ms:.0f} ms after the request, of a short text alone"),
        ("codec", f"{speed.codec_ms:.1f} ms a frame of one stream, of at most {speed.codec_slots}"),
    ]
    values = {
        "device": speed.device,
        "dtype": speed.dtype,
        "step": speed.step,
        "step_ms_by_batch": {str(size): milliseconds for size, milliseconds in speed.step_ms.items()},
        "real_time_factor_by_batch": {str(size): ms / FRAME_MS for size, ms in speed.step_ms.items()},
        "first_audio_ms": speed.first_audio_ms,
        "codec_ms": speed.codec_ms,
        "codec_slots": speed.codec_slots,
    }
    return Check(SPEED, Status.MEASURED, tuple(rows), values)


def _reasons(sound: Sound, rms: float, is_random: bool) -> Iterator[str]:
    if not sound.pcm:
        yield "the answer holds no sound"
    elif not is_random:  # noise may repeat itself
        if sound.finish not in (FinishReason.EOS, FinishReason.LENGTH):
            yield f"the answer ended by {sound.finish}, not by itself"
        if rms < _QUIETEST_SPEECH_DBFS:
            yield f"the answer is nearly silent: {rms:.0f} dBFS"


def _dbfs(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf
