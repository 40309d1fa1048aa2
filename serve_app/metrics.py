"""Every metric, and the port they are written to. Units are Prometheus' base units. `make docs` lists them in
docs/observe.md.

Playback is measured at the ingress, as chunks leave it, with the terms of `benchmarks/load/timeline.py`: a player
starts with the first chunk, and a later chunk is due when the audio before it has been played.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol


@dataclass(frozen=True, slots=True)
class Metric:
    """Every value has all `labels`. The meter adds deployment and replica."""

    kind: ClassVar[str]
    name: str
    unit: str
    description: str
    labels: tuple[str, ...] = ()


class Counter(Metric):
    """A count that only grows. Its name ends in `_total`."""

    kind: ClassVar[str] = "counter"


class Gauge(Metric):
    """A current value of one replica."""

    kind: ClassVar[str] = "gauge"


@dataclass(frozen=True, slots=True)
class Histogram(Metric):
    """`buckets` are upper bounds. Values must not be negative, because exporters drop those."""

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

_defined: list[Metric] = []


def _counter(name: str, unit: str, description: str, labels: tuple[str, ...] = ()) -> Counter:
    _defined.append(counter := Counter(name, unit, description, labels))
    return counter


def _gauge(name: str, unit: str, description: str, labels: tuple[str, ...] = ()) -> Gauge:
    _defined.append(gauge := Gauge(name, unit, description, labels))
    return gauge


def _histogram(
    name: str, unit: str, description: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = ()
) -> Histogram:
    _defined.append(histogram := Histogram(name, unit, description, labels, buckets))
    return histogram


_WAITS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_DELAYS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)
_COMPUTING = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.05, 0.08, 0.16, 0.32, 1.0, 5.0)
_JOB_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)

REQUESTS_STARTED = _counter(
    "csm_requests_started_total", "requests", "Valid requests for speech, of every API, as they arrive."
)
UTTERANCES_ENDED = _counter(
    "csm_utterances_ended_total",
    "utterances",
    "Pieces of text that were spoken. `how`: itself; rescued, after it ran away; cut, where it ran away again and "
    "again; limit, of the request's audio; broken, by an error or the engine's deadline. `adapter`: the speaking one, "
    "empty for the checkpoint itself.",
    ("how", "adapter"),
)
REQUESTS_ENDED = _counter(
    "csm_requests_ended_total",
    "requests",
    "The same requests as they end. `outcome`: eos, length or runaway, if the speech ended so; cancelled, by the client"
    " or the engine's deadline; error, after acceptance or by a failure of the server; refused (429), not_ready (503) "
    "or invalid (422), before any audio.",
    ("outcome",),
)
REQUESTS_LIVE = _gauge("csm_requests_live", "requests", "Requests that wait or are being spoken, on this ingress.")
AUDIO_SECONDS = _counter("csm_audio_seconds_total", "seconds", "Audio sent, of ended requests.")
QUEUE_SECONDS = _histogram(
    "csm_queue_seconds", "seconds", "How long an accepted request waited for a slot of the engine.", buckets=_WAITS
)
TIME_TO_FIRST_AUDIO = _histogram(
    "csm_time_to_first_audio_seconds",
    "seconds",
    "From a request's arrival (its body read) to its first chunk of audio. A WAV header does not count.",
    buckets=_WAITS,
)
REAL_TIME_FACTOR = _histogram(
    "csm_real_time_factor",
    "ratio",
    "From a request's arrival to its end, divided by the length of its audio, for answers spoken to their end. A paced "
    "stream comes near 1.",
    buckets=(0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 8.0),
)
CHUNK_LATENESS = _histogram(
    "csm_chunk_lateness_seconds",
    "seconds",
    "How late a chunk of a stream was for playback, without the first chunk. 0 is in time.",
    buckets=_DELAYS,
)
UNDERRUN_SECONDS = _counter(
    "csm_underrun_seconds_total", "seconds", "How long listeners' players had no audio, counted as it happens."
)
STREAM_UNDERRUN = _histogram(
    "csm_stream_underrun_seconds",
    "seconds",
    "How long a stream's player had no audio in all, for streams of two chunks and more, however they ended. Bucket "
    "0.001 holds streams without an underrun; 0.05, 0.1 and 0.2 are C50, C100 and C200 of the load test.",
    buckets=(0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)

FAILOVER_SECONDS = _histogram(
    "csm_failover_seconds",
    "seconds",
    "From the loss of a stream's replica, `part` generator or decoder, to the stream's next message from another "
    "replica; for the `part` encoder, to a clip's codes. Its count is the number of losses survived.",
    ("part",),
    _WAITS,
)
FAILOVERS_FAILED = _counter(
    "csm_failovers_failed_total", "streams", "Streams that failed after such a loss, for want of a replica.", ("part",)
)
LEASES_EXPIRED = _counter(
    "csm_leases_expired_total",
    "streams",
    "Streams of the `part` generator or decoder that were closed past their deadline, because their consumer had not "
    "read for long. Above 0, a consumer forgets to close streams.",
    ("part",),
)

ENGINE_SLOTS = _gauge("csm_engine_slots", "slots", "Rows of the engine's batch: how many sequences it can run at once.")
ENGINE_CAPACITY = _gauge(
    "csm_engine_capacity", "slots", "How many slots the measured step time allows. No more sequences are admitted."
)
ENGINE_STEP_FALLBACK = _gauge(
    "csm_engine_step_fallback",
    "replicas",
    "Replicas that run a slower step than their device is made for. `step_fallback` in `/info` says why.",
)
ENGINE_RUNNING = _gauge("csm_engine_running", "sequences", "Sequences that hold a row, including paused ones.")
ENGINE_PAUSED = _gauge(
    "csm_engine_paused",
    "sequences",
    "Running sequences that are far enough ahead of their listeners to be left out of decode steps.",
)
ENGINE_WAITING = _gauge("csm_engine_waiting", "sequences", "Sequences that wait for a row.")
ENGINE_STREAMS = _gauge(
    "csm_engine_streams",
    "streams",
    "Calls with a consumer. If more sequences run and wait, some have lost their consumer.",
)
ENGINE_OLDEST_WAIT = _gauge(
    "csm_engine_oldest_wait_seconds", "seconds", "The longest wait of a request that is not accepted yet."
)
ENGINE_REFUSED = _counter(
    "csm_engine_refused_total",
    "requests",
    "Requests refused for want of room to wait, or of a slot in time. They are demand too.",
)
ENGINE_SET_ASIDE = _counter(
    "csm_engine_set_aside_total", "sequences", "How often a background sequence gave up its slot to an interactive one."
)
ENGINE_STEP_SECONDS = _gauge(
    "csm_engine_step_seconds",
    "seconds",
    "Measured time of a decode step at the current batch size. Above 0.08 no stream keeps real time.",
)
ENGINE_FRAMES = _counter("csm_engine_frames_total", "frames", "Frames of 80 ms handed out.")
ENGINE_PROMPT_POSITIONS = _counter("csm_engine_prompt_positions_total", "positions", "Positions of prompts read.")
ENGINE_RESTORED_POSITIONS = _counter(
    "csm_engine_restored_positions_total", "positions", "Prompt positions restored from the prefix cache."
)

DECODER_SLOTS = _gauge("csm_decoder_slots", "slots", "Streams that the audio decoder can decode at once.")
DECODER_BUSY = _gauge("csm_decoder_busy", "slots", "Slots in use.")
DECODER_STREAMS = _gauge(
    "csm_decoder_streams", "streams", "Calls with a consumer. If more slots are busy, some have lost their consumer."
)
DECODER_TICK_SECONDS = _histogram(
    "csm_decoder_tick_seconds",
    "seconds",
    "Time to decode one frame of every stream that has one. Above 0.08 no stream keeps real time.",
    buckets=_COMPUTING,
)

ENCODER_CLIPS = _counter("csm_encoder_clips_total", "clips", "Context clips encoded or found in the cache.")
ENCODER_CACHE_HITS = _counter("csm_encoder_cache_hits_total", "clips", "Context clips whose codes were in the cache.")
ENCODER_SECONDS = _histogram(
    "csm_encoder_seconds", "seconds", "One pass over the clips of several requests.", buckets=_WAITS
)

JOBS_QUEUED = _gauge(
    "csm_jobs_queued", "jobs", "Waiting jobs of the whole queue. Every runner reports the same number."
)
JOBS_OLDEST_WAIT = _gauge(
    "csm_jobs_oldest_wait_seconds", "seconds", "Age of the oldest waiting job. Every runner reports the same number."
)
JOBS_RUNNING = _gauge("csm_jobs_running", "jobs", "Jobs that this runner runs.")
JOBS_ENDED = _counter(
    "csm_jobs_ended_total",
    "jobs",
    "Jobs that ended with a runner, or for want of one. `outcome`: completed, failed or cancelled. Jobs cancelled "
    "before they began do not count.",
    ("outcome",),
)
JOBS_PUT_BACK = _counter(
    "csm_jobs_put_back_total",
    "jobs",
    "Jobs that wait again, because their engine was busy or failed, or their runner stopped.",
)
JOB_LEASES_LOST = _counter(
    "csm_job_leases_lost_total", "jobs", "Jobs whose runner died or hung for `jobs.lease_seconds`."
)
JOB_QUEUE_SECONDS = _histogram(
    "csm_job_queue_seconds", "seconds", "From a job's submit to its first attempt.", buckets=_JOB_SECONDS
)
JOB_SECONDS = _histogram("csm_job_seconds", "seconds", "From a job's submit to its end.", buckets=_JOB_SECONDS)
WEBHOOK_DELIVERIES = _counter(
    "csm_webhook_deliveries_total",
    "webhooks",
    "Delivery attempts. `outcome`: delivered; failed, to be tried again; dead, given up.",
    ("outcome",),
)
WEBHOOKS_PENDING = _gauge(
    "csm_webhooks_pending", "webhooks", "Webhooks not delivered yet. Every runner reports the same number."
)
WEBHOOKS_DEAD = _gauge(
    "csm_webhooks_dead", "webhooks", "Stored dead letters. `csm-serve webhooks list --dead` shows them."
)

ALL: tuple[Metric, ...] = tuple(_defined)
