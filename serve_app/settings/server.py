"""All settings of a server, and the only reader of the environment (prefix `CSM_`, sections joined by `__`)."""

import difflib
import inspect
import os
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from serve_app.errors import StartupError
from serve_app.settings.apart import SecretsApart
from serve_app.settings.conversations import ConversationSettings, RecordSettings
from serve_app.settings.service import (
    DatabaseSettings,
    FileSettings,
    JobSettings,
    KeySettings,
    NetSettings,
    TracingSettings,
    WebhookSettings,
)
from serve_app.settings.speech import (
    STAND_IN,
    CodecSettings,
    EngineSettings,
    FailoverSettings,
    LimitSettings,
    SamplingSettings,
    StandInSettings,
)
from serve_app.settings.voices import VoiceSettings
from serve_app.settings.watermark import WatermarkSettings

_NO_BOUND = 2**31 - 1
_OF_CLIENTS = ("CSM_KEY", "CSM_URL")
"""Variables of `csm-serve say` and other clients, which may share a shell with a server."""


class Settings(SecretsApart):
    """The server's configuration: a config's `args` over the environment over the defaults."""

    model_config = SettingsConfigDict(
        env_prefix="CSM_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    model: str = "demo"
    """`demo`, a folder, a Hub repository such as `sesame/csm-1b`, or `stand-in`; see docs/fine-tunes.md."""
    revision: str | None = None
    """Revision of a Hub repository."""
    base: str | None = None
    """Folder or repository of the base that `model` builds on, if it is an adapter or lacks a codec or a tokenizer.
    Unset: the one that the adapter names; for weights in Sesame's layout `sesame/csm-1b`."""
    adapters: dict[str, str] = Field(default={})
    """Adapters that requests may name: folders or Hub repositories by name. See docs/fine-tunes.md."""
    other_models: list[str] = Field(default=[])
    """Names of other applications of the cluster whose models requests may ask for here; see docs/configure.md,
    Serve several models."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models run. `auto` takes CUDA if there is a GPU."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the weights. `auto` is bfloat16 on CUDA and float32 on a CPU. The codec is always float32."""
    quantization: Literal["none", "auto", "int8", "int4", "fp8"] = "none"
    """Smaller matrices in backbone and depth decoder. int8 and fp8 take half of bfloat16's bytes, int4 takes 0.28.
    fp8 needs a Hopper GPU or later, int4 a CPU. `auto` takes none on CUDA. On a CPU it takes int8 for each matrix whose
    rounding error is at most 2.5%. docs/benchmarks.md shows the effect on the answers and how `auto` measures."""
    graph: Literal["separate", "fused"] = "separate"
    """`fused` runs the token generator in the processes of the audio decoder: one hop less, and one process a card
    instead of two. `separate` scales the two by themselves."""
    data_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("csm-serve", appauthor=False)))
    """Folder for database, files and secrets. Default: the platform's folder for application data."""
    public_url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+(/[^\s]*)?$")
    """Beginning of the URLs in answers, such as `https://speech.example.com`. Unset: taken from each request, by
    `Host` or `X-Forwarded-Host` and `X-Forwarded-Proto`."""
    allowed_pages: list[str] = Field(default=[])
    """Origins whose web pages may call a server without keys, such as `https://app.example.com`; `*` for all. Pages of
    this machine and network always may. With keys, or with `keys.open`, all pages may."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    """Lowest level that is logged."""
    log_format: Literal["text", "json"] = "text"
    """`json`: one object a line."""
    sampling: SamplingSettings = SamplingSettings()
    engine: EngineSettings = EngineSettings()
    codec: CodecSettings = CodecSettings()
    limits: LimitSettings = LimitSettings()
    failover: FailoverSettings = FailoverSettings()
    jobs: JobSettings = JobSettings()
    webhooks: WebhookSettings = WebhookSettings()
    files: FileSettings = FileSettings()
    records: RecordSettings = RecordSettings()
    conversations: ConversationSettings = ConversationSettings()
    voices: VoiceSettings = VoiceSettings()
    watermark: WatermarkSettings = WatermarkSettings()
    net: NetSettings = NetSettings()
    database: DatabaseSettings = DatabaseSettings()
    keys: KeySettings = KeySettings()
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    stand_in: StandInSettings | None = None

    @field_validator("data_dir", mode="before")
    @classmethod
    def _check_data_dir_is_named(cls, value: object) -> object:
        if value == "":
            raise StartupError("data_dir is set and empty (CSM_DATA_DIR): name a folder, or leave it out")
        return value

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.data_dir.resolve() / 'state.db'}"

    @property
    def shared_jobs(self) -> JobSettings:
        """`jobs`, without a bound for one key where all callers are one."""
        return self.jobs if self.keys.required else self.jobs.model_copy(update={"max_queued_per_key": _NO_BOUND})

    @property
    def shared_webhooks(self) -> WebhookSettings:
        """The same of `webhooks`."""
        if self.keys.required:
            return self.webhooks
        return self.webhooks.model_copy(update={"max_running_per_key": _NO_BOUND})

    @model_validator(mode="after")
    def _check_model_and_stand_in_agree(self) -> Self:
        """Both are needed for a stand-in, so that one typo never starts a server without a model."""
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


def load_settings(args: dict[str, Any]) -> Settings:
    """The settings of `args` over the environment over the defaults. Raises StartupError naming the first wrong one."""
    for variable, near in misspelt_variables().items():
        raise StartupError(f"{variable}: there is no such setting; did you mean {near}?")
    try:
        return Settings(**args)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = _section(first["loc"][:-1]).model_fields
            raise StartupError(f"setting {name}: unknown{suggestion(str(first['loc'][-1]), known)}") from None
        raise StartupError(f"setting {name}: {first['msg']}") from None


def misspelt_variables() -> dict[str, str]:
    """Environment variables that look like a misspelt setting, with the one that is meant.

    Others that begin with `CSM_` are left alone: an orchestrator names such variables after its own services.
    """
    fields = [name.upper() for name in Settings.model_fields]
    found = {}
    for variable in sorted(name for name in os.environ if name.startswith("CSM_") and name not in _OF_CLIENTS):
        section, *rest = variable.removeprefix("CSM_").split("__")
        if section not in fields and (near := difflib.get_close_matches(section, fields, n=1, cutoff=0.8)):
            found[variable] = "__".join((f"CSM_{near[0]}", *rest))
    return found


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known word, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f": did you mean {near[0]}?" if near else f": use {', '.join(names)}"


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models that a field with this annotation may hold."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def _section(path: Sequence[int | str]) -> type[BaseModel]:
    section: type[BaseModel] = Settings
    for part in path:
        section = next(models_in(section.model_fields[str(part)].annotation))
    return section
