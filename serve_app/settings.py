"""Every tunable, by its owner. The only reader of the environment (prefix `CSM_`, sections joined by `__`)."""

from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


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
    chunk_frames: int = Field(default=4, ge=1)
    """A stream's messages hold 1, 1, 2, 2, 4, ... frames of 80 ms, up to this many."""
    prefill_chunk_tokens: int = Field(default=256, ge=16)
    """Prompt tokens computed between two frames of the running sequences."""
    repeated_frames_limit: int = Field(default=25, ge=2)
    """This many equal frames in a row (80 ms each) end a sequence as runaway."""
    threads: int = Field(default=0, ge=0)
    """CPU threads for torch; 0 takes the replica's share of the machine."""


class CodecSettings(Section):
    """The context encoder and the audio decoder."""

    max_streams: int = Field(default=8, ge=1, le=1024)
    """Decoder slots of one replica: streams decoded at once."""
    silent_tail_seconds: float = Field(default=3.0, gt=0)
    """This much silence without end of speech ends a stream as runaway."""
    replay_frames: int = Field(default=250, ge=1)
    """Frames decoded again to rebuild a stream's codec state on another replica."""
    cache_entries: int = Field(default=256, ge=0)
    """Encoded context clips that the encoder remembers, by content."""
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


class Settings(BaseSettings):
    """The server's configuration: run-config args over the environment over the defaults."""

    model_config = SettingsConfigDict(
        env_prefix="CSM_", env_nested_delimiter="__", frozen=True, extra="forbid", protected_namespaces=()
    )

    model: str = "demo"
    """`demo`, a folder in the Hub's layout, or a Hub repository such as `sesame/csm-1b`."""
    revision: str | None = None
    """Of a Hub repository."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` is bfloat16 on CUDA and float32 on a CPU. The codec is always float32."""
    data_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("csm-serve", appauthor=False)))
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    sampling: SamplingSettings = SamplingSettings()
    engine: EngineSettings = EngineSettings()
    codec: CodecSettings = CodecSettings()
    limits: LimitSettings = LimitSettings()
