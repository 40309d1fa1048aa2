"""Settings of jobs, webhooks, files, keys and storage. The text under a field is its row in docs/configure.md."""

import os
from ipaddress import ip_address, ip_network
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from serve_app.errors import StartupError
from serve_app.settings.section import Section

_DAY_SECONDS = 24 * 3600.0


class JobSettings(Section):
    """The queue of background jobs and its runners."""

    lease_seconds: float = Field(default=30.0, gt=0)
    """A runner without a heartbeat for this long counts as dead, and other runners take its jobs."""
    heartbeat_seconds: float = Field(default=5.0, gt=0)
    """How often a runner renews the leases of its jobs. At most half of `jobs.lease_seconds`."""
    poll_seconds: float = Field(default=0.2, gt=0)
    """How often an idle runner looks for a job, and a busy one for cancelled jobs."""
    max_running: int = Field(default=4, ge=1)
    """Jobs that one runner runs at once."""
    max_queued: int = Field(default=1000, ge=1)
    """Jobs that may wait. One more gets 429."""
    max_queued_per_key: int = Field(default=250, ge=1)
    """Of these, those of one key. Without keys only `jobs.max_queued` counts."""
    max_attempts: int = Field(default=3, ge=1)
    """Attempts after which a failing job ends as failed. An attempt that found no free slot does not count."""
    retry_seconds: float = Field(default=1.0, gt=0)
    """Pause before the second attempt, doubled before each later one."""
    start_timeout_seconds: float = Field(default=_DAY_SECONDS, gt=0)
    """A job that did not start within this time ends as failed, unless its caller set another time."""
    max_run_seconds: float = Field(default=3600.0, gt=0)
    """An attempt that lasts longer counts as failed."""
    drain_seconds: float = Field(default=20.0, ge=0)
    """How long a runner that is stopped lets its jobs end. What still runs then begins anew on another runner."""
    kept_seconds: float = Field(default=7 * _DAY_SECONDS, gt=0)
    """How long result, logs and file of an ended job are kept. Its input goes when it ends, unless it failed.
    A caller may set the file's own lifetime."""
    retryable_seconds: float = Field(default=3600.0, ge=0)
    """How long the input of a failed job is kept, so that it can be run again. 0 deletes it at the end, as does a job
    whose input and result its caller wants not to be stored."""
    max_log_lines: int = Field(default=500, ge=0)
    """Log lines of one job. Later ones are dropped."""
    resend_seconds: float = Field(default=300.0, ge=0)
    """A submit that equals an unanswered one from this long ago counts as the same job. 0 makes every submit a new job,
    unless it brings an idempotency key."""
    resend_wait_seconds: float = Field(default=1.0, ge=0)
    """How long an equal submit waits for the answer to the earlier one before it counts as the same."""

    @model_validator(mode="after")
    def _check_heartbeat_within_lease(self) -> Self:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise StartupError(
                f"jobs.heartbeat_seconds is {self.heartbeat_seconds:g}, above half of jobs.lease_seconds "
                f"({self.lease_seconds:g}): one late heartbeat would lose every running job; lower it"
            )
        return self


class WebhookSettings(Section):
    """Webhooks that tell a caller's server how a job ended."""

    timeout_seconds: float = Field(default=15.0, gt=0)
    """Time for one delivery, from connecting to the answer's status."""
    max_retries: int = Field(default=10, ge=0)
    """Retries of a failed delivery. Then the webhook is a dead letter (`csm-serve webhooks list --dead`)."""
    first_delay_seconds: float = Field(default=10.0, gt=0)
    """Pause before the first retry, doubled before each later one. Ten retries take about two hours."""
    max_delay_seconds: float = Field(default=1800.0, gt=0)
    """Longest pause between two retries."""
    max_running: int = Field(default=16, ge=1)
    """Deliveries that one runner makes at once."""
    max_running_per_key: int = Field(default=8, ge=1)
    """Of these, about those of one key. Without keys only `webhooks.max_running` counts."""
    max_running_per_url: int = Field(default=8, ge=1)
    """Of these, about those to one URL."""
    kept_seconds: float = Field(default=7 * _DAY_SECONDS, gt=0)
    """How long delivered and dead webhooks are kept."""


class FileSettings(Section):
    """Uploads and finished audio."""

    url: str | None = None
    """Where files are: `s3://BUCKET/PREFIX`, or another store that obstore knows (`gs`, `az`). Unset: the folder
    `files` in `data_dir`. Several machines need a store that all of them reach."""
    options: dict[str, SecretStr] = Field(default={})
    """Options of that store as obstore names them: `endpoint`, `region`, `access_key_id`, `secret_access_key`, …
    Missing ones come from the machine, as for any S3 client."""
    kept_seconds: float = Field(default=7 * _DAY_SECONDS, ge=0)
    """Lifetime of a file whose caller sets none. 0 keeps it for ever."""
    max_file_bytes: int = Field(default=100 * 1024 * 1024, ge=1024)
    """Largest upload."""
    quota_bytes: int = Field(default=0, ge=0)
    """Size of all files of one key, unfinished uploads included. 0 is no limit. The disk may hold four times as much
    for some minutes, with what was deleted."""
    upload_seconds: float = Field(default=3600.0, gt=0)
    """How long an upload's URL or token may be used, and how long the upload may take."""
    sweep_seconds: float = Field(default=60.0, gt=0)
    """How often expired files are deleted."""


class NetSettings(Section):
    """URLs from callers: context audio and webhooks."""

    allowed_hosts: list[str] = Field(default=[])
    """Hosts that are not public and may be called all the same: names, addresses, or networks such as 10.1.0.0/16."""
    max_download_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    """Largest download."""
    timeout_seconds: float = Field(default=20.0, gt=0)
    """Time for a whole download, redirects included."""
    max_redirects: int = Field(default=5, ge=0)
    """Redirects that a download follows."""

    @field_validator("allowed_hosts")
    @classmethod
    def _check_networks_and_addresses(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if "/" in host:
                ip_network(host, strict=False)
            elif ":" in host:  # an IPv6 address; a host with a port would never match
                ip_address(host)
        return hosts


class DatabaseSettings(Section):
    """Where keys, jobs and the metadata of files are kept."""

    url: str | None = Field(default=None, repr=False)
    """`postgresql+psycopg://USER:PASSWORD@HOST/NAME`, or `sqlite:////FOLDER/state.db`. Unset: `state.db` in `data_dir`.
    Several machines need PostgreSQL. Set it in the environment, since Serve shows the `args` of a config."""
    connections: int = Field(default=3, ge=1, le=64)
    """Connections that one process keeps to PostgreSQL. Each ingress and each job runner is a process, and all of them
    together must stay below the server's `max_connections` (100 by default). Statements wait for one that is free."""


class KeySettings(Section):
    """API keys."""

    required: bool = False
    """Every request needs a key, except for health checks and the like."""
    open: bool = False
    """Without keys, also listen for other machines. Anyone who reaches the port may then use the server."""
    open_ray: bool = False
    """Listen for other machines although Ray's own ports ask for no token (`RAY_AUTH_MODE=disabled`). Whoever reaches
    those ports runs code on the server, so set it only behind a firewall."""
    cached_seconds: float = Field(default=5.0, ge=0, le=60)
    """How long a replica trusts a good key without asking the database. Revoking takes as long to act."""
    audio_seconds_per_minute: float = Field(default=0.0, ge=0)
    """Audio a minute of keys that were created without a limit of their own. 0 is no limit."""
    concurrency: int = Field(default=0, ge=0)
    """Requests at once of such keys. 0 is no limit."""
    share_caches: bool = False
    """A key's context may be found in the caches of encoder and generator although another key sent it. That saves work
    where one owner has all keys, and tells by time what other keys have sent."""
    context_charge: float = Field(default=0.1, ge=0, le=1)
    """Seconds of audio that a key is charged for each second of context audio, whose encoding is work too."""

    @model_validator(mode="after")
    def _check_not_required_and_open(self) -> Self:
        if self.required and self.open:
            raise StartupError("keys.required and keys.open are both set, and contradict each other: set one of them")
        return self


def _otel_endpoint() -> str | None:
    return os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None


class TracingSettings(Section):
    """OpenTelemetry traces."""

    endpoint: str | None = Field(default_factory=_otel_endpoint)
    """An OTLP/HTTP collector such as `http://localhost:4318`. Unset: OpenTelemetry's own variables count
    (`OTEL_EXPORTER_OTLP_ENDPOINT`), and without them nothing is traced."""
    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of requests that are traced. A request with a `traceparent` header decides for itself."""
