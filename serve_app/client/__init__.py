"""A client for this server. It needs httpx, and neither torch nor Ray.

    from serve_app.client import Client

    with Client("http://localhost:8000") as client:
        client.speak("Hello, how are you?").save("hello.wav")

docs/client.md describes it.
"""

from serve_app.client.asynchronous import AsyncClient, AsyncSpeechStream
from serve_app.client.errors import (
    BadRequest,
    Busy,
    ClientError,
    Forbidden,
    JobFailed,
    NotFound,
    ServerError,
    ServerFailed,
    StreamBroken,
    Unauthorized,
    Unreachable,
)
from serve_app.client.synchronous import Client, SpeechStream
from serve_app.client.values import Clip, Job, JobLog, Outcome, Speech, SpeechOptions, Turn, Voice

__all__ = [
    "AsyncClient",
    "AsyncSpeechStream",
    "BadRequest",
    "Busy",
    "Client",
    "ClientError",
    "Clip",
    "Forbidden",
    "Job",
    "JobFailed",
    "JobLog",
    "NotFound",
    "Outcome",
    "ServerError",
    "ServerFailed",
    "Speech",
    "SpeechOptions",
    "SpeechStream",
    "StreamBroken",
    "Turn",
    "Unauthorized",
    "Unreachable",
    "Voice",
]
