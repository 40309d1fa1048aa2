"""Checks seed, sampling, length and quality of an answer, and reads the conventions of other servers' clients."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from serve_app.errors import InvalidRequest
from serve_app.messages import MAX_SEED, MAX_TEMPERATURE, ModelInfo, SamplingParams
from serve_app.settings import LimitSettings, SamplingSettings
from serve_app.speech.scene import Quality

_BY_CHANCE = -1
_OFF = (0, -1)
_MAX_SPREAD = 2


def seed_of(asked: int | None) -> int | None:
    """The seed, or None if the server is to choose, which -1 asks for too. Raises InvalidRequest."""
    if asked is None or asked == _BY_CHANCE:
        return None
    if not 0 <= asked <= MAX_SEED:
        raise InvalidRequest("seed", f"must be an integer from 0 to {MAX_SEED}; leave it out, or send -1, for chance")
    return asked


def sampling_of(
    given: Mapping[str, Any], info: ModelInfo, defaults: SamplingSettings
) -> tuple[SamplingParams, tuple[str, ...]]:
    """The server's defaults, overridden by the caller's values, and remarks on values moved to a limit.

    Temperature 0 is greedy. `top_k` 0 and -1 switch it off. Raises InvalidRequest.
    """
    values, size = dict(given), info.codebook_size
    if values.get("temperature") == 0:
        del values["temperature"]
        values["greedy"] = True
    remarks: tuple[str, ...] = ()
    if 0 < values.get("repetition_penalty", 1) < 1:
        values["repetition_penalty"] = 1.0
        remarks = ("repetition_penalty: raised to 1, which switches it off; below 1 speech would repeat itself",)
    params = SamplingParams(**(defaults.model_dump() | values))
    _check(params, size)
    if "top_k" in values and params.top_k > size:
        remarks += (f"top_k: lowered to {size}, the size of a codebook",)
    top_k = size if params.top_k in _OFF else min(params.top_k, size)
    return replace(params, top_k=top_k), remarks


def _check(params: SamplingParams, size: int) -> None:
    checks = (
        ("temperature", 0 < params.temperature <= MAX_TEMPERATURE, "must be from 0 to 5; 0 is greedy"),
        ("top_k", params.top_k >= 1 or params.top_k in _OFF, f"must be from 1 to {size}; 0 or -1 switches it off"),
        ("top_p", 0 < params.top_p <= 1, "must be above 0 and at most 1; 1 switches it off"),
        ("repetition_penalty", 1 <= params.repetition_penalty <= 2, "must be from 1 to 2; 1 or less is off"),
    )
    for path, is_in_range, remedy in checks:
        if not is_in_range:
            raise InvalidRequest(path, remedy)


def quality_of(asked: Quality | None, is_job: bool, sampling: SamplingParams, limits: LimitSettings) -> Quality | None:
    """Raises InvalidRequest for a wish that only a job can have, or that is beyond the limits."""
    if asked is None:
        return None
    if not is_job:
        raise InvalidRequest("quality", "is for jobs alone: send this to the queue, or in a batch")
    if not 1 <= asked.candidates <= limits.max_candidates:
        raise InvalidRequest("quality.candidates", f"must be from 1 to {limits.max_candidates}")
    if not 0 < asked.good_enough <= 1:
        raise InvalidRequest(
            "quality.good_enough", "must be above 0 and at most 1, the score of a take without a fault"
        )
    if not 1 <= asked.spread <= _MAX_SPREAD:
        raise InvalidRequest("quality.spread", f"must be from 1, which draws all takes alike, to {_MAX_SPREAD}")
    if sampling.greedy and asked.candidates > 1:
        raise InvalidRequest("quality.candidates", "must be 1 where sampling is greedy: all takes would be the same")
    return asked


def max_audio_seconds_of(asked: float | None, limits: LimitSettings) -> tuple[float, tuple[str, ...]]:
    """The length, at most the server's limit, and a remark if it was lowered. Raises InvalidRequest."""
    limit = limits.max_audio_seconds
    if asked is None:
        return limit, ()
    if asked > limit:
        return limit, (f"max_audio_seconds: lowered to {limit:g}, the limit of this server",)
    if not asked > 0:  # also refuses NaN
        raise InvalidRequest(
            "max_audio_seconds", f"must be above 0 and at most {limit:g}; leave it out for the longest"
        )
    return asked, ()
