"""Every error that this project raises on purpose.

    CsmServeError
    ├── InvalidRequest
    │   ├── InvalidAudio
    │   │   └── AudioTooLong
    │   ├── ContextTooLong
    │   ├── BodyTooLarge
    │   ├── FileTooLarge
    │   ├── QuotaExceeded
    │   ├── VoiceNameTaken
    │   └── DownloadFailed
    ├── UnknownRequest
    ├── UnknownConversation
    ├── Conflict
    ├── UnknownVoice
    ├── UnknownAdapter
    ├── UnknownFile
    │   └── UnknownUpload
    ├── InvalidSignature
    ├── Unauthorized
    ├── Forbidden
    ├── UnknownKey
    ├── UnknownJob
    │   └── UnknownBatch
    ├── NotRetryable
    ├── Overloaded
    │   └── LimitReached
    ├── StartTimeout
    ├── StorageFailed
    ├── DeliveryFailed
    │   └── DeliveryRefused
    ├── NotReady
    ├── Cancelled
    ├── RunnerLost
    ├── InternalError
    ├── GenerationFailed
    │   └── ReplicaLost
    │       └── ReplicaSilent
    └── StartupError
        └── CheckpointError
            └── HubUnreachable

Errors cross process boundaries by pickle. Each constructor therefore passes all its arguments to `Exception.__init__`.
"""

from typing import ClassVar, Self


class CsmServeError(Exception):
    """Base of the tree. `kind` names a class of errors in stored results and in every API dialect."""

    kind: ClassVar[str] = "internal_error"


class InvalidRequest(CsmServeError):
    """A request that can never succeed as it is.

    `field` is a neutral path into the request, such as `context[2].audio`. Each dialect renders it in its own names.
    """

    kind = "invalid_request"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message

    def at(self, field: str) -> Self:
        """The same error at another path."""
        return type(self)(field, self.message)

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidAudio(InvalidRequest):
    """Audio that cannot be decoded, is empty, is too long, or holds values that are not finite."""

    kind = "invalid_audio"


class AudioTooLong(InvalidAudio):
    """Audio that is longer than a context clip may be."""

    kind = "audio_too_long"


class ContextTooLong(InvalidRequest):
    """The part of the prompt that must be kept leaves no room for speech."""

    kind = "context_too_long"


class BodyTooLarge(InvalidRequest):
    """The HTTP body is larger than `limits.max_body_bytes`."""

    kind = "body_too_large"


class FileTooLarge(InvalidRequest):
    """An upload, or one part of it, is larger than its limit."""

    kind = "file_too_large"


class QuotaExceeded(InvalidRequest):
    """The files of one key would take more than `files.quota_bytes`, or it keeps `voices.max_per_key` voices."""

    kind = "quota_exceeded"


class VoiceNameTaken(InvalidRequest):
    """The key keeps another voice of that name."""

    kind = "voice_name_taken"


class DownloadFailed(InvalidRequest):
    """A URL of the caller could not be fetched. The message says nothing about the network behind this server."""

    kind = "download_failed"


class UnknownRequest(CsmServeError):
    """This server knows no request with that id, or has forgotten it."""

    kind = "unknown_request"

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)
        self.request_id = request_id

    def __str__(self) -> str:
        return f"request {self.request_id} is not known; finished requests are kept for ten minutes"


class UnknownConversation(CsmServeError):
    """The caller has no conversation with that id."""

    kind = "unknown_conversation"

    def __init__(self, conversation_id: str) -> None:
        super().__init__(conversation_id)
        self.conversation_id = conversation_id

    def __str__(self) -> str:
        return (
            f"conversation {self.conversation_id} is not known to this key; one is kept for "
            "conversations.kept_seconds after its last turn"
        )


class Conflict(CsmServeError):
    """Something else is done with the same thing right now."""

    kind = "conflict"


class UnknownAdapter(CsmServeError):
    """This server has no adapter of that name."""

    kind = "unknown_adapter"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return "no adapter has this name: GET /adapters lists them"


class UnknownVoice(CsmServeError):
    """The caller keeps no voice with that id or name."""

    kind = "unknown_voice"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"voice {self.name} is not known to this key: send the id or the name of a voice that it keeps"


class UnknownJob(CsmServeError):
    """The caller has no job with that id."""

    kind = "unknown_job"

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"job {self.job_id} is not known to this key; finished jobs are kept for jobs.kept_seconds"


class UnknownBatch(UnknownJob):
    """The caller has no batch of jobs with that id."""

    kind = "unknown_batch"

    def __str__(self) -> str:
        return f"batch {self.job_id} is not known to this key; finished jobs are kept for jobs.kept_seconds"


class NotRetryable(CsmServeError):
    """A job that cannot be run again: it has not failed, or its input is deleted."""

    kind = "not_retryable"


class UnknownFile(CsmServeError):
    """No file with that id is stored: it never was, it was deleted, or it has expired."""

    kind = "unknown_file"

    def __init__(self, file_id: str) -> None:
        super().__init__(file_id)
        self.file_id = file_id

    def __str__(self) -> str:
        return f"file {self.file_id} is not known or has expired: upload it again"


class UnknownUpload(UnknownFile):
    """No upload with that id is in progress."""

    kind = "unknown_upload"

    def __str__(self) -> str:
        return f"upload {self.file_id} is not known or took longer than files.upload_seconds: begin a new one"


class InvalidSignature(CsmServeError):
    """A signed URL was changed, or has expired."""

    kind = "invalid_signature"


class Unauthorized(CsmServeError):
    """The key is missing or wrong, or the token has expired. A wrong secret and an unknown id get the same message."""

    kind = "unauthorized"


class Forbidden(CsmServeError):
    """The key is valid but lacks the scope. The message names the scope that is needed."""

    kind = "forbidden"


class UnknownKey(CsmServeError):
    """No key with that id exists. Only administrators see this error; callers get Unauthorized."""

    kind = "unknown_key"

    def __init__(self, key_id: str) -> None:
        super().__init__(key_id)
        self.key_id = key_id

    def __str__(self) -> str:
        return f"key {self.key_id} is unknown or was revoked: csm-serve keys list shows all keys"


class Overloaded(CsmServeError):
    """Refused before any audio was made. `retry_after_seconds` says when to try again."""

    kind = "overloaded"

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message, retry_after_seconds)
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return self.message


class StartTimeout(CsmServeError):
    """The request did not start within the time that its caller allowed."""

    kind = "start_timeout"


class StorageFailed(CsmServeError):
    """The file store or the database does not answer or refuses access. The server's log has the cause."""

    kind = "storage_failed"


class DeliveryFailed(CsmServeError):
    """A webhook did not reach its receiver. The message is safe to store and to show."""

    kind = "delivery_failed"


class DeliveryRefused(DeliveryFailed):
    """This server does not call the webhook's URL."""

    kind = "delivery_refused"


class LimitReached(Overloaded):
    """The key has used its audio of this minute, or runs as many requests as it may."""

    kind = "limit_reached"


class NotReady(CsmServeError):
    """The models are still loading."""

    kind = "not_ready"


class Cancelled(CsmServeError):
    """The caller cancelled the job."""

    kind = "cancelled"


class RunnerLost(CsmServeError):
    """The process that ran a job died or lost its lease."""

    kind = "runner_lost"


class InternalError(CsmServeError):
    """A job failed with an error that was not raised on purpose. The log has the cause."""


class GenerationFailed(CsmServeError):
    """Speech could not be started or finished. The message is safe to show; the log has the details."""

    kind = "generation_failed"


class ReplicaLost(GenerationFailed):
    """The replica behind a call died or cannot be reached. What it sent is valid; another replica can continue."""

    kind = "replica_lost"


class ReplicaSilent(ReplicaLost):
    """The replica behind a call has gone silent: its machine is cut off or hangs."""

    kind = "replica_silent"


class StartupError(CsmServeError):
    """The server cannot start as configured. The message is one line and holds the remedy."""

    kind = "startup_error"


class CheckpointError(StartupError):
    """The checkpoint is missing, incomplete, or in a layout that is not supported."""

    kind = "checkpoint_error"


class HubUnreachable(CheckpointError):
    """The Hub does not answer, or a file could not be stored."""
