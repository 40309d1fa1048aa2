"""From records to figures. Arithmetic only; a value that cannot be known is None, never 0 and never a pass.

A player starts with the first chunk. Chunk n's deadline is that moment plus the audio of the chunks before it, and its
lateness is its arrival less its deadline. A stream's starvation is its worst lateness: as long as that, all in all, a
player stands still that waits for what is late. A stream of one chunk has no deadlines: it is not judged.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.common.records import Record

_DIGITS = 4
_CONTINUITY_MS = (50, 100, 200)


def summarize(records: Sequence[Record]) -> dict[str, Any]:
    """One level's figures. Warm-up counts nowhere; what failed counts among `errors` only."""
    measured = [record for record in records if not record.warm_up]
    good = [record for record in measured if record.error is None]
    heard = [record for record in good if record.chunks]
    judged = [record for record in heard if len(record.chunks) > 1]
    return {
        "level": records[0].level if records else None,
        "requests": len(measured),
        "ok": len(good),
        "errors": dict(Counter(record.error for record in measured if record.error is not None)),
        **_speed(heard),
        **_continuity(judged),
        "streams_judged": len(judged),
        "single_chunk_streams": len(heard) - len(judged),
        **_throughput(measured, good),
    }


def audio_seconds(record: Record) -> float:
    return sum(chunk.audio_seconds for chunk in record.chunks)


def lateness_seconds(record: Record) -> list[float]:
    """Of every chunk but the first, whose arrival starts the player; negative is early."""
    late, played = [], 0.0
    for before, chunk in pairwise(record.chunks):
        played += before.audio_seconds
        # To the microsecond, so that "at most 50 ms" is not decided by how floats are stored.
        late.append(round(chunk.at - record.chunks[0].at - played, 6))
    return late


def starvation_seconds(record: Record) -> float | None:
    """How long its player stood still; None for a stream of fewer than two chunks."""
    late = lateness_seconds(record)
    return max(0.0, *late) if late else None


def _speed(heard: Sequence[Record]) -> dict[str, Any]:
    paced = [(record.ended_after, audio_seconds(record)) for record in heard]
    return {
        "ttfa_ms": _figures([record.chunks[0].at * 1000 for record in heard], "mean", "p50", "p95", "p99"),
        "first_chunk_ms_of_audio": _figures([record.chunks[0].audio_seconds * 1000 for record in heard], "p50"),
        "rtf": _figures([wall / audio for wall, audio in paced if audio > 0], "mean", "p50", "p95", "p99"),
        "end_to_end_s": _figures([record.ended_after for record in heard], "p50", "p95", "p99"),
    }


def _continuity(judged: Sequence[Record]) -> dict[str, Any]:
    late_by_stream = [lateness_seconds(record) for record in judged]
    late = [seconds for stream in late_by_stream for seconds in stream]
    starved = [max(0.0, *stream) for stream in late_by_stream]
    gaps = [after.at - before.at for record in judged for before, after in pairwise(record.chunks)]
    return {
        "lateness_ms": _figures([seconds * 1000 for seconds in late], "p50", "p95", "p99", "max"),
        "underrun_s": _figures(starved, "p50", "p95", "max"),
        "continuity": {f"c{limit}": _share([s <= limit / 1000 for s in starved]) for limit in _CONTINUITY_MS},
        "viability": {
            # vox-serve's: what was heard must be longer than the time since the first chunk, not merely as long.
            "chunks": _share([seconds < 0 for seconds in late]),
            "streams": _share([all(seconds < 0 for seconds in stream) for stream in late_by_stream]),
        },
        "inter_chunk_gap_ms": _figures([seconds * 1000 for seconds in gaps], "p50", "p95", "p99"),
    }


def _throughput(measured: Sequence[Record], good: Sequence[Record]) -> dict[str, float | None]:
    """Of whole answers, over the time from the first sending to the last end, failed requests' time included."""
    if not good:
        return {"audio_seconds_per_second": None, "requests_per_second": None, "audio_seconds": None}
    began = min(record.sent_at for record in measured)
    wall = max(record.sent_at + record.ended_after for record in measured) - began
    audio = sum(audio_seconds(record) for record in good)
    return {
        "audio_seconds_per_second": round(audio / wall, _DIGITS) if wall > 0 else None,
        "requests_per_second": round(len(good) / wall, _DIGITS) if wall > 0 else None,
        "audio_seconds": round(audio, _DIGITS),
    }


def _figures(values: Sequence[float], *names: str) -> dict[str, float | None]:
    return {name: _figure(values, name) for name in names}


def _figure(values: Sequence[float], name: str) -> float | None:
    """`mean`, `max`, or `p95` for the 95th percentile, interpolated between neighbours."""
    if not values:
        return None
    if name == "mean":
        return round(float(np.mean(values)), _DIGITS)
    rank = 100.0 if name == "max" else float(name.removeprefix("p"))
    return round(float(np.percentile(values, rank)), _DIGITS)


def _share(passes: Sequence[bool]) -> float | None:
    return round(sum(passes) / len(passes), _DIGITS) if passes else None
