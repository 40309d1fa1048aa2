"""Every tunable, by its owner. The only reader of the environment (prefix `CSM_`, sections joined by `__`)."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from serve_app.errors import StartupError

STAND_IN = "stand-in"


class Section(BaseModel):
    """Unknown keys are refused: a typo must not be a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class SamplingSettings(Section):
    """What a request gets where it does not say."""

    temperature: float = Field(default=0.9, gt=0, le=5)
    top_k: int = Field(default=50, ge=1)
    top_p: float = Field(default=1.0, gt=0, le=1)
    repetition_penalty: float = Field(default=1.0, ge=1, le=2)
    greedy: bool = False


class EngineSettings(Section):
    """The token generator."""

    max_batch_size: int = Field(default=8, ge=1, le=1024)
    """Slots of one replica: sequences generated at once."""
    max_positions: int = Field(default=2048, ge=64, le=2048)
    """KV positions of a slot: prompt tokens and generated frames."""
    max_waiting: int = Field(default=32, ge=0)
    """Requests that may wait for a slot; one more is refused with 429."""
    max_wait_seconds: float = Field(default=10.0, gt=0)
    """A request that waited this long for a slot is refused with 429."""
    max_step_ms: float = Field(default=72.0, ge=0)
    """A request gets a slot only while a step of all running sequences, as measured, stays below this: past a frame's
    80 ms every stream would stutter, and a tenth is left for prompts and for steps that last longer than usual. One
    sequence may run however long it takes. 0 is no limit: for answers that nobody listens to as they are made."""
    max_lead_seconds: float = Field(default=10.0, ge=0)
    """A stream runs ahead of its listener by about this much, then pauses: enough to bridge the loss of a replica, and
    no more than that is computed in vain for a listener who leaves. 0 is no limit."""
    chunk_frames: int = Field(default=4, ge=1)
    """A stream's messages hold 1, 1, 2, 2, 4, ... frames of 80 ms, up to this many."""
    prefill_chunk_tokens: int = Field(default=256, ge=16)
    """Prompt tokens computed between two frames of the running sequences."""
    prefix_cache_mb: int = Field(default=512, ge=0)
    """Device memory for keys and values of contexts that were read before: CSM-1B in bfloat16 takes 32 KiB a
    position, some 13 MB for a clip of 30 seconds. 0 switches the cache off."""
    prefix_cache_host_mb: int = Field(default=2048, ge=0)
    """Host memory behind it, on CUDA."""
    memory_fraction: float = Field(default=0.6, gt=0, le=1)
    """Of the whole card's memory, on CUDA: what this process may take, at most. With twice `codec.memory_fraction` it
    should leave a tenth of the card, for what CUDA itself takes in three processes."""
    step: Literal["auto", "plain", "native", "graphs", "fused"] = "auto"
    """How a frame is computed. `plain`: torch's operations one by one, anywhere. `native`: our C++ on a CPU, needs a
    compiler. `graphs`: torch's operations in CUDA graphs. `fused`: our kernels in CUDA graphs. `auto` takes the last
    of these that runs here."""
    repeated_frames_limit: int = Field(default=25, ge=2)
    """This many equal frames in a row (80 ms each) end a sequence as runaway."""
    stuck_seconds: float = Field(default=60.0, gt=0)
    """A step that lasts this long is taken for one that never ends, and the replica is replaced. On a CPU a step with
    `prefill_chunk_tokens` of a prompt takes seconds; starting is not counted."""
    threads: int = Field(default=0, ge=0)
    """CPU threads for torch; 0 takes the replica's share of the machine."""


class CodecSettings(Section):
    """The context encoder and the audio decoder."""

    max_streams: int = Field(default=8, ge=1, le=1024)
    """Decoder slots of one replica: streams decoded at once."""
    max_wait_seconds: float = Field(default=5.0, gt=0)
    """A stream that the engine took waits this long for one of them, then it is refused with 429."""
    silent_tail_seconds: float = Field(default=3.0, gt=0)
    """This much silence without end of speech ends a stream as runaway."""
    replay_frames: int = Field(default=250, ge=1)
    """Frames decoded again to rebuild a stream's codec state on another replica."""
    cache_entries: int = Field(default=256, ge=0)
    """Encoded context clips that the encoder remembers, by content."""
    stuck_seconds: float = Field(default=60.0, gt=0)
    """A frame that takes the decoder this long, or a clip the encoder, never ends: the replica is replaced."""
    memory_fraction: float = Field(default=0.15, gt=0, le=1)
    """Of the whole card's memory, on CUDA: what the encoder and the decoder may take, each."""
    threads: int = Field(default=0, ge=0)


class LimitSettings(Section):
    """What a request may ask for."""

    max_text_chars: int = Field(default=2000, ge=1)
    max_scene_turns: int = Field(default=32, ge=1)
    max_context_segments: int = Field(default=16, ge=0)
    max_context_seconds: float = Field(default=90.0, gt=0)
    """Of one context clip."""
    max_audio_seconds: float = Field(default=90.0, gt=0, le=160)
    """Of a whole answer, and the default where a request does not say."""
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)


class StandInSettings(Section):
    """A model and a codec that cost nothing, to measure the rest. Goes with `model` "stand-in" only."""

    step_ms_by_batch: dict[Annotated[int, Field(ge=1)], Annotated[float, Field(ge=0)]] = {}
    """One frame's time by batch size, linear in between and held at the ends; empty is as fast as asked."""
    frames: int | None = Field(default=None, ge=1)
    """Frames of every utterance; None is as many as the request allows."""
    decode_ms_per_tick: float = Field(default=0, ge=0)
    """Time in which the codec decodes one frame of every stream."""
    num_codebooks: int = Field(default=32, ge=2, le=64)


class FailoverSettings(Section):
    """Streams whose replica dies go on with another one."""

    max_losses: int = Field(default=8, ge=0)
    """One stream survives this many; 0 ends it as an error at once."""
    max_wait_seconds: float = Field(default=60.0, gt=0)
    """How long a stream waits for a replica to go on with: one that is started anew loads its model first."""
    cold_wait_seconds: float = Field(default=180.0, gt=0)
    """How long a request waits where no replica runs, as after scaling to zero. It counts as demand meanwhile."""


def _otel_endpoint() -> str | None:
    return os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None


class TracingSettings(Section):
    """OpenTelemetry traces."""

    endpoint: str | None = Field(default_factory=_otel_endpoint)
    """An OTLP/HTTP collector, such as http://localhost:4318; unset traces nothing. Where it is not given,
    OpenTelemetry's own variables for it count; its other ones (headers, batching) are read by its exporter."""
    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Of the requests that bring no `traceparent`; one that does decides for itself."""


class Settings(BaseSettings):
    """The server's configuration: run-config args over the environment over the defaults."""

    model_config = SettingsConfigDict(
        env_prefix="CSM_", env_nested_delimiter="__", frozen=True, extra="forbid", protected_namespaces=()
    )

    model: str = "demo"
    """`demo`, a folder in the Hub's layout, or a Hub repository such as `sesame/csm-1b`; see also `stand_in`."""
    revision: str | None = None
    """Of a Hub repository."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` is bfloat16 on CUDA and float32 on a CPU. The codec is always float32."""
    quantization: Literal["none", "int8", "fp8"] = "none"
    """Of the matrices of backbone and depth decoder: half of bfloat16's bytes. fp8 wants CUDA and a Hopper GPU or
    later. What it does to the model's answers: docs/benchmarks.md."""
    data_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("csm-serve", appauthor=False)))
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    """`json`: one object a line, for machines that collect them."""
    sampling: SamplingSettings = SamplingSettings()
    engine: EngineSettings = EngineSettings()
    codec: CodecSettings = CodecSettings()
    limits: LimitSettings = LimitSettings()
    failover: FailoverSettings = FailoverSettings()
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    stand_in: StandInSettings | None = None

    @model_validator(mode="after")
    def _stand_in_is_asked_for_twice(self) -> Self:
        """A server without a model is never one typo away."""
        if self.model == STAND_IN and self.stand_in is None:
            raise StartupError(
                "model is stand-in, which speaks no text, but the section stand_in is not set: name a model that "
                "speaks, or set both (CSM_STAND_IN='{}' for its defaults)"
            )
        if self.model != STAND_IN and self.stand_in is not None:
            raise StartupError(
                f"the section stand_in is set, but model is {self.model}, not stand-in: set both or none"
            )
        return self
