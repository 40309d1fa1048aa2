"""Runs all checks one after the other, so that one model is in memory at a time."""

import asyncio
import gc
import platform
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app import __version__
from serve_app.engine.reference import PlainReference
from serve_app.errors import GenerationFailed, InvalidRequest, StartupError
from serve_app.messages import GenerationRequest, ModelInfo
from serve_app.model.checkpoint import Checkpoint, open_checkpoint
from serve_app.model.device import check_quantization, pick_device
from serve_app.model.device_memory import free_host_bytes, shown
from serve_app.settings import Settings
from serve_app.speech.build import check_text
from serve_app.verify import ends, files, parity, sound, words
from serve_app.verify.check import (
    ENDS,
    PARITY,
    SAMPLE,
    SERVED,
    SKIPPABLE,
    SPEED,
    WORDS,
    Check,
    Report,
    Status,
    failed,
    not_run,
)
from serve_app.verify.listening import TEXTS, Heard, listen
from serve_app.verify.passages import Utterance, codes_of, encode_clips, listen_to_transformers, served_requests
from serve_app.verify.served import ServedModel, Sound, Speed

Progress = Callable[[str], AbstractContextManager[None]]

_ROOM_BYTES = 500 << 20
_ROOM = 1.1
"""A model takes its float32 weights, a tenth more, and the libraries' memory."""


@dataclass(frozen=True, slots=True)
class Plan:
    settings: Settings
    num_frames: int
    text: str
    sample: Path
    skip: frozenset[str]
    num_utterances: int = len(TEXTS)
    """Of each speaker, to see how they end."""

    def wants(self, *names: str) -> bool:
        return any(name not in self.skip for name in names)


@dataclass(frozen=True, slots=True)
class _Served:
    """Answers of the served configuration."""

    info: ModelInfo
    requests: list[GenerationRequest]
    codes: list[NDArray[np.int64]]
    sound: Sound | None
    heard: list[Heard]
    speed: Speed | None


def verify(plan: Plan, progress: Progress) -> Report:
    """The report. Raises StartupError if the checkpoint cannot be opened, or not be served with these settings."""
    settings = plan.settings
    if settings.stand_in is not None:
        raise StartupError("verify: a stand-in is set, there is no model to check: name a model")
    try:
        plan = replace(plan, text=check_text("--text", plan.text, settings.limits.max_text_chars))
    except InvalidRequest as error:
        raise StartupError(str(error)) from None
    check_quantization(settings.quantization, pick_device(settings.device))
    with progress(f"opening {settings.model}"):
        checkpoint = open_checkpoint(settings.model, settings.revision, settings.base)
    with progress("reading the files' headers"):
        found = files.check_files(checkpoint)
    if found.status is Status.FAILED:
        others = [not_run(name, "the files cannot be loaded") for name in SKIPPABLE]
    else:
        others = _check_model(plan, checkpoint, files.num_parameters(found), progress)
    return Report(_about(settings, checkpoint), (found, *others))


def _check_model(plan: Plan, checkpoint: Checkpoint, num_parameters: int, progress: Progress) -> list[Check]:
    done: dict[str, Check] = {name: not_run(name, "skipped as asked") for name in plan.skip}
    shortage = _shortage(num_parameters, free_host_bytes())
    if shortage:
        compared = [name for name in (PARITY, SERVED) if plan.wants(name)]
        done |= {name: failed(name, f"{shortage}, or --skip {name}") for name in compared}
        plan = replace(plan, skip=plan.skip | set(compared))
    utterances: list[Utterance] = []
    if plan.wants(PARITY):
        with progress("running transformers' model"):
            utterances = listen_to_transformers(checkpoint, plan.num_frames)
    served: _Served | None = None
    if plan.wants(SERVED, SAMPLE, ENDS, SPEED):
        try:
            served = asyncio.run(_listen_to_served(plan, checkpoint.random_weights, progress))
        except GenerationFailed as error:
            wanted = [name for name in (SERVED, SAMPLE, ENDS, SPEED) if plan.wants(name)]
            done |= {name: failed(name, str(error)) for name in wanted}
    if utterances or (served and served.codes):
        with progress("comparing codes and logits"):
            done |= _by_name(_compare(plan, checkpoint, utterances, served))
    if served:
        done |= _by_name(_judge_sound(plan, checkpoint, served, progress))
    return [done.get(name) or not_run(name, "there is no sample to listen to") for name in SKIPPABLE]


async def _listen_to_served(plan: Plan, is_random: bool, progress: Progress) -> _Served:
    """Answers of the served model, which is loaded and freed again."""
    with progress("loading the served model"):
        model = ServedModel(plan.settings)
    requests: list[GenerationRequest] = []
    codes: list[NDArray[np.int64]] = []
    spoken: Sound | None = None
    heard: list[Heard] = []
    speed: Speed | None = None
    try:
        if plan.wants(SERVED):
            requests = served_requests(plan.num_frames, plan.settings.engine.max_batch_size)
            with progress("running the served model"):
                codes = await asyncio.gather(*(codes_of(model.tokens, request) for request in requests))
        if plan.wants(SAMPLE):
            with progress("speaking"):
                spoken = await model.speak(plan.text)
        if plan.wants(ENDS) and not is_random:
            with progress("speaking with each voice"):
                heard = await listen(model, TEXTS[: plan.num_utterances], None)
        if plan.wants(SPEED):
            with progress("measuring the speed"):
                speed = await model.measure()
        info = await model.tokens.info()
    finally:
        model.stop()
    return _Served(info, requests, codes, spoken, heard, speed)


def _compare(
    plan: Plan, checkpoint: Checkpoint, utterances: Sequence[Utterance], served: _Served | None
) -> Iterable[Check]:
    gc.collect()  # earlier models may survive in reference cycles
    clips = encode_clips(plan.settings, utterances)
    reference = PlainReference(checkpoint, max_rows=max(1, len(utterances)))
    if utterances:
        yield parity.check_parity(reference, utterances, clips)
    if served and served.codes:
        quantization = served.info.quantization
        arithmetic = served.info.dtype if quantization == "none" else quantization
        yield parity.check_served(reference, served.requests, served.codes, arithmetic)


def _judge_sound(plan: Plan, checkpoint: Checkpoint, served: _Served, progress: Progress) -> Iterable[Check]:
    if served.sound is not None:
        yield sound.check_sample(served.sound, plan.sample, checkpoint.random_weights)
        if plan.wants(WORDS):
            with progress("transcribing the sample"):
                yield _check_words(plan.text, served.sound, checkpoint.random_weights)
    if served.heard:
        yield ends.check_ends(served.heard)
    elif plan.wants(ENDS):
        yield not_run(ENDS, "random weights never end by themselves")
    if served.speed is not None:
        yield sound.show_speed(served.speed)


def _check_words(text: str, spoken: Sound, is_random: bool) -> Check:
    if is_random:
        return not_run(WORDS, "random weights say no words")
    return words.check_words(text, spoken.pcm, words.find_recognizer())


def _shortage(num_parameters: int, free_bytes: int) -> str | None:
    needed = int(4 * num_parameters * _ROOM) + _ROOM_BYTES
    if needed <= free_bytes:
        return None
    return f"a float32 model needs {shown(needed)} of memory, {shown(free_bytes)} are free: free some"


def _by_name(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def _about(settings: Settings, checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "model": settings.model,
        "folder": str(checkpoint.folder.resolve()),
        "weights": checkpoint.weights,
        "settings": {
            "device": settings.device,
            "dtype": settings.dtype,
            "quantization": settings.quantization,
            "step": settings.engine.step,
        },
        "versions": {
            "csm-serve": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "moshi")},
        },
    }
