"""Every tunable, by its owner. The only reader of the environment (prefix `CSM_`, sections joined by `__`)."""

import difflib
import os
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
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
    chunk_reserve_ms: float = Field(default=40.0, ge=0)
    """No message waits to grow while its listener has less than this left to play, beside the time of a step: what the
    way to the listener may take. 0 lets messages grow whatever the listener has."""
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

    max_text_chars: int = Field(default=20_000, ge=1)
    """Of all texts of one request together."""
    max_job_text_chars: int = Field(default=200_000, ge=1)
    """The same for a queued job."""
    max_scene_turns: int = Field(default=32, ge=1)
    max_context_segments: int = Field(default=16, ge=0)
    max_context_seconds: float = Field(default=90.0, gt=0)
    """Of one context clip."""
    max_audio_seconds: float = Field(default=1800.0, gt=0, le=14_400)
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
    max_missed_heartbeats: int = Field(default=5, ge=2)
    """A replica says every second that it is there; once so many in a row were missed, it is taken for lost: its
    machine lost power or is cut off."""


class JobSettings(Section):
    """The queue of background jobs, and those who run them."""

    lease_seconds: float = Field(default=30.0, gt=0)
    """A runner that says nothing for this long is taken for dead, and its jobs are run again."""
    heartbeat_seconds: float = Field(default=5.0, gt=0)
    """How often a runner says that it lives; well below `lease_seconds`."""
    poll_seconds: float = Field(default=0.2, gt=0)
    """How often an idle runner looks for a job, and a busy one for cancelled jobs."""
    max_running: int = Field(default=4, ge=1)
    """Jobs that one runner runs at once."""
    max_queued: int = Field(default=1000, ge=1)
    """Jobs that may wait; one more is refused with 429."""
    max_attempts: int = Field(default=3, ge=1)
    """A job that failed this often, or took its runner with it, ends as failed. To find no free slot is no failure."""
    retry_seconds: float = Field(default=1.0, gt=0)
    """Before the second attempt; doubled before each later one."""
    start_timeout_seconds: float = Field(default=24 * 3600.0, gt=0)
    """A job that did not start within this time ends as failed, where its caller sets no time."""
    max_run_seconds: float = Field(default=3600.0, gt=0)
    """An attempt that lasts longer is taken for one that never ends, and has failed."""
    kept_seconds: float = Field(default=7 * 24 * 3600.0, gt=0)
    """Input, result and logs of a job are kept for this long after its end, and so is its file, where its caller set
    no lifetime for that."""
    max_log_lines: int = Field(default=500, ge=0)
    """Of one job; later ones are dropped."""
    resend_seconds: float = Field(default=300.0, ge=0)
    """A submit that equals one from this long ago whose answer was never sent is that one, sent again. 0 takes each
    submit for a new one; an idempotency key works in either case."""
    resend_wait_seconds: float = Field(default=1.0, ge=0)
    """How long an equal submit waits for the earlier one to be answered, before it is taken for the same."""

    @model_validator(mode="after")
    def _a_beat_may_be_late(self) -> Self:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise StartupError(
                f"jobs.heartbeat_seconds is {self.heartbeat_seconds:g}, above half of jobs.lease_seconds "
                f"({self.lease_seconds:g}): one late beat would lose every running job; lower it"
            )
        return self


class WebhookSettings(Section):
    """Telling a caller's server that a job has ended."""

    timeout_seconds: float = Field(default=15.0, gt=0)
    """Of one delivery, from connecting to the answer's status."""
    max_retries: int = Field(default=10, ge=0)
    """After the first delivery; then the webhook is a dead letter (`csm-serve webhooks list --dead`)."""
    first_delay_seconds: float = Field(default=10.0, gt=0)
    """Before the first retry, doubled before each later one: ten retries take about two hours."""
    max_delay_seconds: float = Field(default=1800.0, gt=0)
    max_running: int = Field(default=16, ge=1)
    """Deliveries that one runner makes at once."""
    kept_seconds: float = Field(default=7 * 24 * 3600.0, gt=0)
    """Delivered and dead webhooks are kept for this long."""


class FileSettings(Section):
    """Uploads and finished audio."""

    url: str | None = None
    """`s3://BUCKET/PREFIX` or another store that obstore knows (gs, az); None is the folder `files` in `data_dir`.
    Nodes that do not share a folder need one that all of them reach."""
    options: dict[str, SecretStr] = {}
    """For that store: `endpoint`, `region`, `access_key_id`, `secret_access_key` …, as obstore names them. What is not
    said comes from the machine, as for any S3 client."""
    kept_seconds: float = Field(default=7 * 86400.0, ge=0)
    """A file is deleted this long after it was stored, unless whoever stored it said otherwise; 0 keeps it."""
    max_file_bytes: int = Field(default=100 * 1024 * 1024, ge=1024)
    quota_bytes: int = Field(default=0, ge=0)
    """What the files of one key may take together, unfinished uploads included; 0 is no limit."""
    upload_seconds: float = Field(default=3600.0, gt=0)
    """For one upload: how long its URL or token may be used, and how long it may last."""
    sweep_seconds: float = Field(default=60.0, gt=0)
    """How often what has expired is deleted."""


class NetSettings(Section):
    """URLs that callers give us: context audio and webhooks."""

    allowed_hosts: list[str] = []
    """Hosts that are not public and may be called all the same: names, addresses, or networks as 10.1.0.0/16."""
    max_download_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    timeout_seconds: float = Field(default=20.0, gt=0)
    """Of a whole download, redirects included."""
    max_redirects: int = Field(default=5, ge=0)

    @field_validator("allowed_hosts")
    @classmethod
    def _can_match(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if "/" in host:
                ip_network(host, strict=False)
            elif ":" in host:  # a port would never match
                ip_address(host)
        return hosts


class DatabaseSettings(Section):
    """Where keys, jobs and the metadata of files are kept."""

    url: str | None = Field(default=None, repr=False)
    """`sqlite:////FOLDER/state.db`, or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`, which servers on several
    machines need. Unset: the file `state.db` in `data_dir`."""


class KeySettings(Section):
    """Who may call."""

    required: bool = False
    """Every request needs a key (`csm-serve keys`), but for what tells nobody anything."""
    open: bool = False
    """Without keys, serve others than this machine all the same: whoever reaches the port may use it."""
    cached_seconds: float = Field(default=5.0, ge=0, le=60)
    """How long a replica takes a good key for good without asking the database: revoking takes as long to act."""
    audio_seconds_per_minute: float = Field(default=0.0, ge=0)
    """Of keys that were created without a limit of their own; 0 is no limit."""
    concurrency: int = Field(default=0, ge=0)
    """Requests at once, of such keys; 0 is no limit."""

    @model_validator(mode="after")
    def _open_or_not(self) -> Self:
        if self.required and self.open:
            raise StartupError("keys.required and keys.open are both set, and contradict each other: set one of them")
        return self


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
    quantization: Literal["none", "auto", "int8", "int4", "fp8"] = "none"
    """Of the matrices of backbone and depth decoder. int8 and fp8 are half of bfloat16's bytes, int4 is 0.28 of them.
    fp8 wants CUDA and a Hopper GPU or later, int4 a CPU. `auto` is none on CUDA. On a CPU it is int8 for each matrix
    whose weights are rounded by at most 2.5% of their median size. docs/benchmarks.md has the effect on answers."""
    data_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("csm-serve", appauthor=False)))
    public_url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+(/[^\s]*)?$")
    """What addresses in answers begin with, such as https://speech.example.com; None takes it from each request, as
    its Host or its X-Forwarded-Host and -Proto have it."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    """`json`: one object a line, for machines that collect them."""
    sampling: SamplingSettings = SamplingSettings()
    engine: EngineSettings = EngineSettings()
    codec: CodecSettings = CodecSettings()
    limits: LimitSettings = LimitSettings()
    failover: FailoverSettings = FailoverSettings()
    jobs: JobSettings = JobSettings()
    webhooks: WebhookSettings = WebhookSettings()
    files: FileSettings = FileSettings()
    net: NetSettings = NetSettings()
    database: DatabaseSettings = DatabaseSettings()
    keys: KeySettings = KeySettings()
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    stand_in: StandInSettings | None = None

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.data_dir.resolve() / 'state.db'}"

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


def misspelt_variables() -> dict[str, str]:
    """Variables of the environment that are nearly a setting's, with the one meant: nothing reads them as they are.

    Others that begin with `CSM_` are none of ours: an orchestrator names such after its own services.
    """
    fields = [name.upper() for name in Settings.model_fields]
    found = {}
    for variable in sorted(name for name in os.environ if name.startswith("CSM_")):
        section, *rest = variable.removeprefix("CSM_").split("__")
        if section not in fields and (near := difflib.get_close_matches(section, fields, n=1, cutoff=0.8)):
            found[variable] = "__".join((f"CSM_{near[0]}", *rest))
    return found
