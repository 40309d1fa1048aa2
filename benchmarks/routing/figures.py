"""What the generator's metrics and its listeners' answers say of how requests were routed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.datapath.figures import milliseconds
from benchmarks.load.one_request import Answer

_SAMPLE = re.compile(r'^ray_csm_(\w+)\{.*?\breplica="(\w+)".*?\} (\S+)$', re.MULTILINE)
_FRAMES = "engine_frames_total"
_READ, _RESTORED = "engine_prompt_positions_total", "engine_restored_positions_total"
_REFUSED = "engine_refused_total"
_COUNTERS: tuple[str, ...] = (_FRAMES, _READ, _RESTORED, _REFUSED)
_RUNNING = "engine_running"

Counts = Mapping[str, Mapping[str, float]]
"""By replica, then by metric."""


def replicas_with(text: str, metric: str) -> set[str]:
    """Who publishes it, its name without `csm_`."""
    return {replica for name, replica, _ in _SAMPLE.findall(text) if name == metric}


def counters(text: str) -> dict[str, dict[str, float]]:
    """Of every generator replica, since its start. A counter that it has not published yet is 0."""
    found = {replica: dict.fromkeys(_COUNTERS, 0.0) for replica in replicas_with(text, _RUNNING)}
    for name, replica, value in _SAMPLE.findall(text):
        if replica in found and name in _COUNTERS:
            found[replica][name] = float(value)
    return found


def running(text: str) -> dict[str, float]:
    """Sequences that every generator replica runs."""
    return {replica: float(value) for name, replica, value in _SAMPLE.findall(text) if name == _RUNNING}


def growth(before: Counts, after: Counts) -> dict[str, dict[str, float]]:
    """Of the replicas that are there now; one that was not there before counts from 0."""
    return {
        replica: {name: value - before.get(replica, {}).get(name, 0.0) for name, value in now.items()}
        for replica, now in after.items()
    }


def busiest_share(samples: Iterable[Mapping[str, float]], fewest: int) -> float | None:
    """The largest share of all running sequences that one replica ever had, of samples with at least `fewest` of them:
    of a few, one replica has many in any case. None where there is no such sample."""
    shares = [
        max(sample.values()) / total
        for sample in samples
        if sample and (total := sum(sample.values())) >= max(1, fewest)
    ]
    return round(max(shares), 2) if shares else None


def figures(grown: Counts, answers: Sequence[Answer], voice_positions: int) -> dict[str, Any]:
    """One scenario's row. All its answers are equally long, so that frames tell how many requests a replica had.

    `voice_positions`: of a prompt, what the prefix cache can hold; 0 where requests bring no voice.
    """
    frames = {replica: counts[_FRAMES] for replica, counts in grown.items()}
    per_replica = _shared_out(len([a for a in answers if a.error is None]), frames)
    read, restored = _sum(grown, _READ), _sum(grown, _RESTORED)
    errors = [answer.error for answer in answers if answer.error not in (None, "refused")]
    p50, p95 = milliseconds([answer.chunks[0].at for answer in answers if answer.error is None], 50, 95)
    return {
        "requests": len(answers),
        "requests_per_replica": per_replica,
        "restored_share": round(restored / read, 3) if read else None,
        "voices_found_share": round(restored / (voice_positions * len(answers)), 3) if voice_positions else None,
        "positions_read_per_request": round((read - restored) / max(1, len(answers)), 1),
        "first_audio_p50_ms": p50,
        "first_audio_p95_ms": p95,
        "refused": sum(answer.error == "refused" for answer in answers),
        "refused_by_engines": round(_sum(grown, _REFUSED)),
        "errors": sorted(set(map(str, errors))),
        "num_errors": len(errors),
    }


def _sum(grown: Counts, metric: str) -> float:
    return sum(counts[metric] for counts in grown.values())


def _shared_out(requests: int, frames: Mapping[str, float]) -> list[int]:
    """Most first."""
    total = sum(frames.values())
    return sorted((round(requests * each / total) for each in frames.values()), reverse=True) if total else []
