"""Every error this project raises on purpose.

    CsmServeError
    ├── InvalidRequest           the caller's mistake: names the field, the limit and the remedy
    │   ├── InvalidAudio         context audio that cannot be used
    │   │   └── AudioTooLong     it is longer than `limits.max_context_seconds`
    │   ├── ContextTooLong       prompt and audio do not fit the model's positions
    │   ├── BodyTooLarge         the HTTP body is over its limit
    │   ├── FileTooLarge         an upload is over `files.max_file_bytes`
    │   ├── QuotaExceeded        a key's files take all the room it has
    │   └── DownloadFailed       what a caller's URL names cannot be had
    ├── UnknownRequest           no request of that id is known
    ├── UnknownFile              no file of that id is kept (any more)
    │   └── UnknownUpload        no upload of that id is under way
    ├── InvalidSignature         a signed URL was changed, or its time is over
    ├── Unauthorized             no key, a wrong one, or a token whose time is over
    ├── Forbidden                the key is good, but not for this
    ├── UnknownKey               no key of that id is known, or it was revoked
    ├── UnknownJob               no job of that id is kept for this caller
    ├── Overloaded               no slot and no room to wait: try again later
    │   └── LimitReached         the key's own limit, however free the server is
    ├── StartTimeout             not begun within the time that the caller gave it
    ├── StorageFailed            the file store does not answer
    ├── DeliveryFailed           a webhook did not reach its receiver
    │   └── DeliveryRefused      its URL is one that this server does not call
    ├── NotReady                 the models are still loading
    ├── GenerationFailed         the engine or the codec broke; the cause is in the server's log
    │   └── ReplicaLost          the process that made a stream is gone: another one can go on
    │       └── ReplicaSilent    … or its machine is cut off
    └── StartupError             the server cannot start as configured
        └── CheckpointError      the checkpoint cannot be used

They cross process boundaries by pickle, so each passes all its constructor's arguments to `Exception.__init__`.
"""


class CsmServeError(Exception):
    """Base of the tree."""


class InvalidRequest(CsmServeError):
    """A request that can never work as it is. `field` is the caller's name for what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidAudio(InvalidRequest):
    """Audio that cannot be decoded, is empty, too long, or not finite."""


class AudioTooLong(InvalidAudio):
    """Audio that is longer than a clip may be."""


class ContextTooLong(InvalidRequest):
    """The part of the prompt that must be kept leaves no room for speech."""


class BodyTooLarge(InvalidRequest):
    """The HTTP body is larger than `limits.max_body_bytes`."""


class FileTooLarge(InvalidRequest):
    """An upload, or a part of one, is larger than is taken."""


class QuotaExceeded(InvalidRequest):
    """The files of one key would take more than `files.quota_bytes`."""


class DownloadFailed(InvalidRequest):
    """What a caller's URL names cannot be had. The message tells nothing about the network behind this server."""


class UnknownRequest(CsmServeError):
    """No request of that id is known (any more)."""

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)
        self.request_id = request_id

    def __str__(self) -> str:
        return f"request {self.request_id} is not known; finished requests are kept for ten minutes"


class UnknownJob(CsmServeError):
    """No job of that id is kept for this caller."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"job {self.job_id} is not known to this key; ended jobs are kept for jobs.kept_seconds"


class UnknownFile(CsmServeError):
    """No file of that id is kept: it never was, was deleted, or its time is over."""

    def __init__(self, file_id: str) -> None:
        super().__init__(file_id)
        self.file_id = file_id

    def __str__(self) -> str:
        return f"file {self.file_id} is not known or has expired: upload it again"


class UnknownUpload(UnknownFile):
    """No upload of that id is under way."""

    def __str__(self) -> str:
        return f"upload {self.file_id} is not known or took longer than files.upload_seconds: begin a new one"


class InvalidSignature(CsmServeError):
    """A signed URL was changed, or its time is over."""


class Unauthorized(CsmServeError):
    """No key, a wrong one, or a token whose time is over. The message tells no unknown key from a wrong secret."""


class Forbidden(CsmServeError):
    """The caller is known and may not do this. The message names what would be needed."""


class UnknownKey(CsmServeError):
    """For those who administer keys; callers get Unauthorized."""

    def __init__(self, key_id: str) -> None:
        super().__init__(key_id)
        self.key_id = key_id

    def __str__(self) -> str:
        return f"key {self.key_id} is not known, or was revoked: csm-serve keys list shows which there are"


class Overloaded(CsmServeError):
    """Refused before any audio was made; `retry_after_seconds` is when to try again."""

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message, retry_after_seconds)
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return self.message


class StartTimeout(CsmServeError):
    """It had not begun when the time was over that its caller gave it."""


class StorageFailed(CsmServeError):
    """The file store does not answer or refuses us. The cause is in the server's log."""


class DeliveryFailed(CsmServeError):
    """A webhook did not reach its receiver. The message is safe to store and to show."""


class DeliveryRefused(DeliveryFailed):
    """The webhook's URL is one that this server does not call."""


class LimitReached(Overloaded):
    """The key has had its audio of this minute, or has as many requests running as it may."""


class NotReady(CsmServeError):
    """The models are still loading."""


class GenerationFailed(CsmServeError):
    """Speech could not be made or finished. The message is safe to show; details are logged where it happened."""


class ReplicaLost(GenerationFailed):
    """The replica behind a call died or cannot be reached. What it had sent is good; the rest can be had elsewhere."""


class ReplicaSilent(ReplicaLost):
    """Nothing is heard of the replica behind a call: its machine is cut off, or hangs."""


class StartupError(CsmServeError):
    """The server cannot start as configured. The message is one clear line with the remedy."""


class CheckpointError(StartupError):
    """The checkpoint is missing, incomplete, or in a layout that is not served."""
