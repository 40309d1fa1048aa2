"""Every metric, and the port they are written to. Units are Prometheus' base units; `docs/operations.md` has the table.

Listeners are judged at the ingress, as chunks leave it, in the words of `benchmarks/load/timeline.py`: a player starts
with the first chunk, and a later one is due when the audio before it has been played.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol


@dataclass(frozen=True, slots=True)
class Metric:
    """`labels` are all given with every value; deployment and replica are the meter's to add."""

    kind: ClassVar[str]
    name: str
    unit: str
    description: str
    labels: tuple[str, ...] = ()


class Counter(Metric):
    """Only grows. The name ends in `_total`."""

    kind: ClassVar[str] = "counter"


class Gauge(Metric):
    """What is so right now, on one replica."""

    kind: ClassVar[str] = "gauge"


@dataclass(frozen=True, slots=True)
class Histogram(Metric):
    """`buckets`: upper bounds. Values are never negative: exporters drop those."""

    kind: ClassVar[str] = "histogram"
    buckets: tuple[float, ...] = ()


class Meter(Protocol):
    """Takes values from any thread, in a few microseconds."""

    def count(self, metric: Counter, amount: float = 1, **labels: str) -> None: ...

    def set(self, metric: Gauge, value: float, **labels: str) -> None: ...

    def observe(self, metric: Histogram, value: float, **labels: str) -> None: ...


class _NoMeter:
    def count(self, metric: Counter, amount: float = 1, **labels: str) -> None:
        pass

    def set(self, metric: Gauge, value: float, **labels: str) -> None:
        pass

    def observe(self, metric: Histogram, value: float, **labels: str) -> None:
        pass


NO_METER: Meter = _NoMeter()

_WAITS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_DELAYS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)
_COMPUTING = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.05, 0.08, 0.16, 0.32, 1.0, 5.0)
_JOB_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)

REQUESTS_STARTED = Counter(
    "csm_requests_started_total", "requests", "Valid requests for speech, of every API, as they arrive."
)
UTTERANCES_ENDED = Counter(
    "csm_utterances_ended_total",
    "utterances",
    "Pieces of text that were spoken. `how`: itself; rescued, after it ran away; cut, where it ran away again and "
    "again; limit, of the request's audio; broken, by an error or the engine's deadline.",
    ("how",),
)
REQUESTS_ENDED = Counter(
    "csm_requests_ended_total",
    "requests",
    "The same as they end. `outcome`: eos, length or runaway, how the speech ended; cancelled, by the client or the "
    "engine's deadline; error, after it was accepted or by a failure of ours; refused (429), not_ready (503) or "
    "invalid (422), before any audio.",
    ("outcome",),
)
REQUESTS_LIVE = Gauge("csm_requests_live", "requests", "Requests that wait or are being spoken, on this ingress.")
AUDIO_SECONDS = Counter("csm_audio_seconds_total", "seconds", "Audio that was sent, of ended requests.")
QUEUE_SECONDS = Histogram(
    "csm_queue_seconds", "seconds", "What an accepted request waited for a slot of the engine.", buckets=_WAITS
)
TIME_TO_FIRST_AUDIO = Histogram(
    "csm_time_to_first_audio_seconds",
    "seconds",
    "From a request's arrival (its body read) to its first chunk of sound; a WAV header does not count.",
    buckets=_WAITS,
)
REAL_TIME_FACTOR = Histogram(
    "csm_real_time_factor",
    "ratio",
    "From a request's arrival to its end, over the length of its audio; of answers spoken to their end. A stream that "
    "is held back to its listener's pace comes near 1.",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 8.0),
)
CHUNK_LATENESS = Histogram(
    "csm_chunk_lateness_seconds",
    "seconds",
    "By how much a chunk of a stream, but for the first, came after the moment at which it had to be played; in time "
    "is 0.",
    buckets=_DELAYS,
)
UNDERRUN_SECONDS = Counter(
    "csm_underrun_seconds_total", "seconds", "How long listeners' players stood still, counted as it happens."
)
STREAM_UNDERRUN = Histogram(
    "csm_stream_underrun_seconds",
    "seconds",
    "How long a stream's player stood still in all, by streams of two chunks and more, however they ended. Bucket "
    "0.001 holds those without an underrun; 0.05, 0.1 and 0.2 are C50, C100 and C200 of the load test.",
    buckets=(0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)

FAILOVER_SECONDS = Histogram(
    "csm_failover_seconds",
    "seconds",
    "From the loss of the replica behind a stream, `part` generator or decoder, to the stream's next message from "
    "another one; for the `part` encoder, to a clip's codes. Its count is that of losses survived.",
    ("part",),
    _WAITS,
)
FAILOVERS_FAILED = Counter(
    "csm_failovers_failed_total", "streams", "Streams given up after such losses, for want of a replica.", ("part",)
)
LEASES_EXPIRED = Counter(
    "csm_leases_expired_total",
    "streams",
    "Streams of the `part` generator or decoder that nobody had taken a message of for long, closed past their "
    "deadline; above 0, somebody forgets streams.",
    ("part",),
)

ENGINE_SLOTS = Gauge("csm_engine_slots", "slots", "Rows of the engine's batch: sequences that it can run at once.")
ENGINE_CAPACITY = Gauge(
    "csm_engine_capacity", "slots", "How many of them the measured step time allows: more sequences are not let in."
)
ENGINE_RUNNING = Gauge("csm_engine_running", "sequences", "Sequences that hold a row, paused ones included.")
ENGINE_PAUSED = Gauge(
    "csm_engine_paused", "sequences", "Of these, far enough ahead of their listeners to be left out of the steps."
)
ENGINE_WAITING = Gauge("csm_engine_waiting", "sequences", "Sequences that wait for one.")
ENGINE_STREAMS = Gauge(
    "csm_engine_streams",
    "streams",
    "Calls that somebody consumes. Running and waiting sequences beyond their number belong to nobody.",
)
ENGINE_OLDEST_WAIT = Gauge(
    "csm_engine_oldest_wait_seconds", "seconds", "How long the longest waiting request waits to be accepted."
)
ENGINE_REFUSED = Counter(
    "csm_engine_refused_total", "requests", "Requests without room to wait, or without a slot in time: demand too."
)
ENGINE_SET_ASIDE = Counter(
    "csm_engine_set_aside_total", "sequences", "How often a background sequence gave up its slot to a request."
)
ENGINE_STEP_SECONDS = Gauge(
    "csm_engine_step_seconds",
    "seconds",
    "One frame of all sequences that decode now, as measured; above 0.08 nobody is served in real time.",
)
ENGINE_FRAMES = Counter("csm_engine_frames_total", "frames", "Frames of 80 ms handed out.")
ENGINE_PROMPT_POSITIONS = Counter("csm_engine_prompt_positions_total", "positions", "Positions of prompts read.")
ENGINE_RESTORED_POSITIONS = Counter(
    "csm_engine_restored_positions_total", "positions", "Of these, taken from the prefix cache."
)

DECODER_SLOTS = Gauge("csm_decoder_slots", "slots", "Streams that the audio decoder can take at once.")
DECODER_BUSY = Gauge("csm_decoder_busy", "slots", "Slots that are taken.")
DECODER_STREAMS = Gauge(
    "csm_decoder_streams", "streams", "Calls that somebody consumes. Busy slots beyond their number belong to nobody."
)
DECODER_TICK_SECONDS = Histogram(
    "csm_decoder_tick_seconds",
    "seconds",
    "Decoding one frame of every stream that has one; above 0.08 nobody is decoded in real time.",
    buckets=_COMPUTING,
)

ENCODER_CLIPS = Counter("csm_encoder_clips_total", "clips", "Context clips encoded or remembered.")
ENCODER_CACHE_HITS = Counter("csm_encoder_cache_hits_total", "clips", "Of them, those whose codes were remembered.")
ENCODER_SECONDS = Histogram(
    "csm_encoder_seconds", "seconds", "One pass over the clips of several requests.", buckets=_WAITS
)

JOBS_QUEUED = Gauge("csm_jobs_queued", "jobs", "Jobs of the whole queue that wait; each runner says the same.")
JOBS_RUNNING = Gauge("csm_jobs_running", "jobs", "Jobs that this runner runs.")
JOBS_ENDED = Counter(
    "csm_jobs_ended_total",
    "jobs",
    "Jobs that ended with a runner, or for want of one. `outcome`: completed, failed or cancelled; those cancelled "
    "before they began are not here.",
    ("outcome",),
)
JOBS_PUT_BACK = Counter(
    "csm_jobs_put_back_total",
    "jobs",
    "Jobs that wait again: their engine was busy, or failed, or their runner stopped.",
)
JOB_LEASES_LOST = Counter(
    "csm_job_leases_lost_total", "jobs", "Jobs whose runner died or stood still for `jobs.lease_seconds`."
)
JOB_QUEUE_SECONDS = Histogram(
    "csm_job_queue_seconds", "seconds", "From a job's submit to its first attempt.", buckets=_JOB_SECONDS
)
JOB_SECONDS = Histogram("csm_job_seconds", "seconds", "From a job's submit to its end.", buckets=_JOB_SECONDS)
WEBHOOK_DELIVERIES = Counter(
    "csm_webhook_deliveries_total",
    "webhooks",
    "Deliveries tried. `outcome`: delivered; failed, to be tried again; dead, given up.",
    ("outcome",),
)
WEBHOOKS_PENDING = Gauge(
    "csm_webhooks_pending", "webhooks", "Webhooks that are not delivered yet; each runner says the same."
)
WEBHOOKS_DEAD = Gauge(
    "csm_webhooks_dead", "webhooks", "Dead letters that are kept: `csm-serve webhooks list --dead` shows them."
)

ALL: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


def markdown_table() -> str:
    """As in docs/operations.md; a test compares."""
    rows = ["| Metric | Kind, unit | Labels | |", "|---|---|---|---|"]
    for metric in ALL:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind}, {metric.unit} | {labels} | {metric.description} |")
    return "\n".join(rows)
