"""One adapter a kind of server: how it is asked, and what its answer's bytes are."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import aiohttp

from benchmarks.load.wire_audio import RawPcm, Wav, WireAudio
from benchmarks.load.workloads import CONVERSATION, SCENE, Item, Workload


@dataclass(frozen=True, slots=True)
class Ask:
    """What aiohttp's `post` gets."""

    path: str
    body: dict[str, Any]
    """Keyword arguments: `json` or `data`."""


class Target(Protocol):
    name: ClassVar[str]
    cannot: ClassVar[Mapping[str, str]]
    """What it has no way to ask, and why."""

    def ask(self, item: Item) -> Ask: ...

    def audio(self) -> WireAudio: ...


CONTEXT = "context"


@dataclass(frozen=True, slots=True)
class Ours:
    name: ClassVar[str] = "ours"
    cannot: ClassVar[Mapping[str, str]] = {}
    extra: dict[str, Any] = field(default_factory=dict)
    """Fields that go into every body."""

    def ask(self, item: Item) -> Ask:
        body: dict[str, Any] = {"streaming": True, "seed": item.seed}
        if item.scenario == SCENE:
            body["scene"] = [{"text": turn.text, "speaker": turn.speaker} for turn in item.turns]
        else:
            body |= {"text": item.turns[0].text, "speaker": item.turns[0].speaker}
        if item.context:
            body["context"] = [
                {"text": clip.text, "speaker": clip.speaker, "audio": base64.b64encode(clip.wav).decode()}
                for clip in item.context
            ]
        if item.max_audio_seconds is not None:
            body["max_audio_seconds"] = item.max_audio_seconds
        return Ask("/generate", {"json": body | self.extra})

    def audio(self) -> WireAudio:
        return Wav()


@dataclass(frozen=True, slots=True)
class Vox:
    """vox-serve's form, which ours answers too. It can set neither a seed nor a longest audio."""

    name: ClassVar[str] = "vox"
    cannot: ClassVar[Mapping[str, str]] = {
        SCENE: "its form takes one text",
        CONTEXT: "its form takes no context",
    }
    extra: dict[str, Any] = field(default_factory=dict)

    def ask(self, item: Item) -> Ask:
        fields = {"text": item.turns[0].text, "speaker": str(item.turns[0].speaker), "streaming": "true"}
        # Multipart even without a file, as its own clients send it.
        form = aiohttp.FormData(default_to_multipart=True)
        for name, value in (fields | self.extra).items():
            form.add_field(name, str(value))
        return Ask("/generate", {"data": form})

    def audio(self) -> WireAudio:
        return Wav()


@dataclass(frozen=True, slots=True)
class OpenAi:
    """Any server of OpenAI's speech API. Some stream only if told so, such as by `--extra '{"stream": true}'`."""

    name: ClassVar[str] = "openai"
    cannot: ClassVar[Mapping[str, str]] = {
        SCENE: "the speech API takes one input",
        CONTEXT: "the speech API takes no context",
    }
    extra: dict[str, Any] = field(default_factory=dict)
    model: str = "csm-1b"
    voice: str = "alloy"
    response_format: str = "pcm"

    def ask(self, item: Item) -> Ask:
        body = {
            "model": self.model,
            "input": item.turns[0].text,
            "voice": self.voice,
            "response_format": self.response_format,
        }
        return Ask("/v1/audio/speech", {"json": body | self.extra})

    def audio(self) -> WireAudio:
        return Wav() if self.response_format == "wav" else RawPcm()


def skipped(target: Target, workload: Workload) -> dict[str, str]:
    """The workload's scenarios that this server cannot be asked for, and why."""
    reasons = {}
    for scenario in workload.scenarios:
        needs = {scenario}
        if scenario == CONVERSATION or workload.context_seconds:
            needs.add(CONTEXT)
        for need in sorted(needs & set(target.cannot)):
            reasons[scenario] = target.cannot[need]
    return reasons
