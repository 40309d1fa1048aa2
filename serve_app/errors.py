"""Every error this project raises on purpose.

    CsmServeError
    ├── InvalidRequest           the caller's mistake: names the field, the limit and the remedy
    │   ├── InvalidAudio         context audio that cannot be used
    │   ├── ContextTooLong       prompt and audio do not fit the model's positions
    │   └── BodyTooLarge         the HTTP body is over its limit
    ├── UnknownRequest           no request of that id is known
    ├── Overloaded               no slot and no room to wait: try again later
    ├── NotReady                 the models are still loading
    ├── GenerationFailed         the engine or the codec broke; the cause is in the server's log
    │   └── ReplicaLost          the process that made a stream is gone: another one can go on
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


class ContextTooLong(InvalidRequest):
    """The part of the prompt that must be kept leaves no room for speech."""


class BodyTooLarge(InvalidRequest):
    """The HTTP body is larger than `limits.max_body_bytes`."""


class UnknownRequest(CsmServeError):
    """No request of that id is known (any more)."""

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)
        self.request_id = request_id

    def __str__(self) -> str:
        return f"request {self.request_id} is not known; finished requests are kept for ten minutes"


class Overloaded(CsmServeError):
    """Refused before any audio was made; `retry_after_seconds` is when to try again."""

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message, retry_after_seconds)
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return self.message


class NotReady(CsmServeError):
    """The models are still loading."""


class GenerationFailed(CsmServeError):
    """Speech could not be made or finished. The message is safe to show; details are logged where it happened."""


class ReplicaLost(GenerationFailed):
    """The replica behind a call died or cannot be reached. What it had sent is good; the rest can be had elsewhere."""


class StartupError(CsmServeError):
    """The server cannot start as configured. The message is one clear line with the remedy."""


class CheckpointError(StartupError):
    """The checkpoint is missing, incomplete, or in a layout that is not served."""
