"""Settings of the models and of requests for speech. The text under a field is its row in docs/configure.md."""

from typing import Annotated, Literal

from pydantic import Field

from serve_app.settings.section import Section

STAND_IN = "stand-in"


class SamplingSettings(Section):
    """Sampling of requests that do not choose their own."""

    temperature: float = Field(default=0.9, gt=0, le=5)
    """Sampling temperature."""
    top_k: int = Field(default=50, ge=1)
    """Codes are drawn from this many most likely ones."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Codes are drawn from the most likely ones that together have this probability."""
    repetition_penalty: float = Field(default=1.0, ge=1, le=2)
    """Above 1, codes that were drawn lately become less likely."""
    greedy: bool = False
    """Always take the most likely code."""


class EngineSettings(Section):
    """The token generator."""

    max_batch_size: int = Field(default=8, ge=1, le=1024)
    """Slots of one generator replica: sequences that it generates at once."""
    max_positions: int = Field(default=2048, ge=64, le=2048)
    """KV positions of a slot, for prompt tokens and generated frames. A position takes 32 KiB for CSM-1B in
    bfloat16."""
    max_waiting: int = Field(default=32, ge=0)
    """Requests that may wait for a slot. One more gets 429."""
    max_wait_seconds: float = Field(default=10.0, gt=0)
    """A request that waited this long for a slot gets 429."""
    max_step_ms: float = Field(default=72.0, ge=0)
    """A request is admitted only if the step with it, as measured, stays below this time. A frame lasts 80 ms; the rest
    is for prompts and slow steps. One sequence always runs. 0 is no limit: more throughput for files, but streams may
    stutter."""
    max_lead_seconds: float = Field(default=10.0, ge=0)
    """A stream pauses when it is this far ahead of its listener. The lead bridges the loss of a replica. 0 is no
    limit."""
    chunk_frames: int = Field(default=4, ge=1)
    """Largest message of a stream, in frames of 80 ms, while its listener has little in hand. Messages grow as 1, 1, 2,
    2, 4, … up to this."""
    chunk_frames_ahead: int = Field(default=12, ge=1)
    """Largest message once its listener has at least as much in hand. A message costs the same CPU whatever it holds.
    An answer that nobody hears before its end has messages of this size or larger. Up to `engine.chunk_frames`, it
    changes nothing for listeners."""
    chunk_reserve_ms: float = Field(default=40.0, ge=0)
    """A message is sent early if its listener has less than this left to play after the next step. 0 lets messages grow
    regardless."""
    prefill_chunk_tokens: int = Field(default=256, ge=16)
    """Prompt tokens that are computed between two frames of the running sequences."""
    prefix_cache_mb: int = Field(default=512, ge=0)
    """Device memory for keys and values of earlier contexts. CSM-1B in bfloat16 takes 13 MB for a clip of 30 seconds. 0
    switches the cache off."""
    prefix_cache_host_mb: int = Field(default=2048, ge=0)
    """Host memory behind the prefix cache, on CUDA only."""
    adapter_mb: int = Field(default=1024, ge=0)
    """Device memory for adapters that requests name. One of rank 32 on every matrix of CSM-1B takes 54 MB in bfloat16,
    and 29 MB more beside it while rows of the native step use it. The least recently used ones leave it."""
    adapter_host_mb: int = Field(default=4096, ge=0)
    """Host memory behind it, on CUDA only."""
    max_adapter_rank: int = Field(default=64, ge=1, le=512)
    """Largest rank of an adapter that a request may name."""
    adapter_graph_ranks: int = Field(default=0, ge=0, le=8192)
    """Ranks of all adapters of a step together that CUDA graphs are recorded for, on CUDA. A step with more, or with 0
    any step with an adapter, runs without a graph, which is much slower. 256 take 430 MB for CSM-1B."""
    memory_fraction: float = Field(default=0.6, gt=0, le=1)
    """Largest share of the card's memory that a generator may take, on CUDA. See docs/configure.md, "Share one GPU"."""
    step: Literal["auto", "plain", "native", "graphs", "fused"] = "auto"
    """How a frame is computed. `plain`: torch's operations one by one, anywhere. `native`: our C++ on a CPU, needs a
    compiler. `graphs`: torch's operations in CUDA graphs. `fused`: our kernels in CUDA graphs. `auto` takes the last of
    these that runs here."""
    dependent_launches: bool = False
    """Have each kernel of the `fused` step start while the one before it ends (programmatic dependent launch), on
    Hopper and later; other cards ignore it. Not yet tried on a card."""
    repeated_frames_limit: int = Field(default=25, ge=2)
    """This many equal frames in a row end a sequence as runaway."""
    stuck_seconds: float = Field(default=60.0, gt=0)
    """A step that lasts this long counts as stuck, and Serve replaces the replica. Starting does not count. Raise it if
    a long prompt takes a slow CPU longer."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of the generator. 0 takes the CPUs that Ray gave the replica, or half of the machine's cores if that
    is less than one."""


class CodecSettings(Section):
    """The context encoder and the audio decoder."""

    max_streams: int = Field(default=8, ge=1, le=1024)
    """Slots of one decoder replica. With `codec.step` `moshi`, as on a card, they come in banks of 64: a tick costs as
    much as all slots of the banks that take part, and 65 slots take the memory of 128."""
    max_wait_seconds: float = Field(default=5.0, gt=0)
    """A stream that the engine admitted waits this long for a decoder slot, then it gets 429."""
    silent_tail_seconds: float = Field(default=3.0, gt=0)
    """This much silence without end of speech ends a stream as runaway."""
    step: Literal["auto", "native", "moshi"] = "auto"
    """How frames become sound. `native`: our C++ on a CPU, needs a compiler. `moshi`: torch's operations, anywhere.
    `auto` takes the first of these that runs here."""
    load_encoder: Literal["auto", "start", "first_clip"] = "auto"
    """When the context encoder loads its model, on a CPU. `first_clip` saves 360 MB until a recording comes, which then
    waits about three seconds. `auto`: `first_clip` on a machine with less than 32 GiB."""
    # Each transformer layer looks 125 frames back. Twice that rebuilt every stream that was tried to within 1 LSB, even
    # with 2 random layers of sharp attention at full layer scale, where 125 frames left up to 242 LSB.
    replay_frames: int = Field(default=250, ge=1)
    """Frames that are decoded again to rebuild a stream on another decoder replica. 250 rebuild it to within 1 LSB."""
    opus_kbps: int = Field(default=0, ge=0, le=256)
    """Sound for listeners of MP3, Opus and AAC goes from the decoder to the ingress as Opus of this bit rate. 0 sends
    PCM, which costs less CPU and is exact. See docs/scale.md."""
    cache_entries: int = Field(default=256, ge=0)
    """Context clips whose codes the encoder remembers."""
    stuck_seconds: float = Field(default=60.0, gt=0)
    """A decoder tick or the encoding of a clip that lasts this long counts as stuck, and Serve replaces the replica."""
    memory_fraction: float = Field(default=0.15, gt=0, le=1)
    """Largest share of the card's memory that the encoder, and the decoder, may each take, on CUDA."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of the encoder, and of the decoder. 0 as in `engine.threads`."""


class LimitSettings(Section):
    """What a request may ask for."""

    max_text_chars: int = Field(default=20_000, ge=1)
    """Characters of all texts of one request together."""
    max_job_text_chars: int = Field(default=200_000, ge=1)
    """The same for a queued job."""
    max_batch_items: int = Field(default=100, ge=1)
    """Items of `POST /v1/audio/speech/batch`. Each is a queued job."""
    max_batch_text_chars: int = Field(default=200_000, ge=1)
    """Characters of all items of a batch together."""
    max_scene_turns: int = Field(default=32, ge=1)
    """Turns of a scene."""
    max_candidates: int = Field(default=8, ge=1)
    """Takes of each utterance that a job may ask for (`quality.candidates`)."""
    max_context_segments: int = Field(default=16, ge=0)
    """Context clips of a request."""
    max_context_seconds: float = Field(default=90.0, gt=0)
    """Length of one context clip."""
    max_audio_seconds: float = Field(default=1800.0, gt=0, le=14_400)
    """Length of a whole answer, and the default of requests that name none."""
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    """Size of a request's body."""
    max_requests_per_key: int = Field(default=512, ge=1)
    """Requests of one key that one ingress replica answers at once, whatever they ask for. One more gets 429."""
    bytes_per_second_per_key: int = Field(default=16 * 1024 * 1024, ge=0)
    """What one ingress replica reads from one key, on average. What comes faster waits, and the key's answers with it.
    A request counts as 32 KiB at least, a WebSocket that is opened as 1 MiB. 0 is no limit."""
    max_status_streams: int = Field(default=1000, ge=1)
    """Status streams that one ingress replica keeps open. One more gets 429."""
    max_status_streams_per_key: int = Field(default=50, ge=1)
    """Of these, those of one key."""
    max_sockets: int = Field(default=256, ge=1)
    """Realtime sockets that one ingress replica keeps open."""
    max_sockets_per_key: int = Field(default=16, ge=1)
    """Of these, those of one key."""
    max_downloads: int = Field(default=64, ge=1)
    """Files that one ingress replica sends at once."""
    max_downloads_per_key: int = Field(default=16, ge=1)
    """Of these, those whose files belong to one key."""


class StandInSettings(Section):
    """A stand-in for model and codec that costs nothing, to measure the rest. Only with `model` set to `stand-in`."""

    step_ms_by_batch: dict[Annotated[int, Field(ge=1)], Annotated[float, Field(ge=0)]] = Field(default={})
    """Milliseconds of a step by batch size, linear in between and constant beyond the ends. Empty takes no time."""
    frames: int | None = Field(default=None, ge=1)
    """Frames of every utterance. Unset: as many as the request allows."""
    decode_ms_per_tick: float = Field(default=0, ge=0)
    """Milliseconds in which the codec decodes one frame of every stream."""
    num_codebooks: int = Field(default=32, ge=2, le=64)
    """Codes of a frame."""


class FailoverSettings(Section):
    """Streams whose replica dies go on with another one."""

    max_losses: int = Field(default=8, ge=0)
    """Lost replicas that one stream survives. With 0 the first loss ends it as an error."""
    max_wait_seconds: float = Field(default=60.0, gt=0)
    """How long a stream waits for another replica. A new replica loads its model first."""
    cold_wait_seconds: float = Field(default=180.0, gt=0)
    """How long a request waits while no replica runs, as after scaling to zero. Then it gets 503."""
    spare_process: bool = False
    """Keep a process of about 110 MB in which Ray and this server are imported. A replica that has to start takes it,
    and starts sooner. `csm-serve serve` sets it where it starts Ray on this machine."""
    max_missed_heartbeats: int = Field(default=3, ge=2)
    """A replica sends a heartbeat every two seconds to its waiting callers. After this many missed in a row it counts
    as lost: its machine lost power or network."""
