"""What is sent and how its answer is read, for both clients: no input or output happens here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx

from serve_app.client.errors import JobFailed
from serve_app.client.values import Clip, Job, Outcome, Speech, SpeechOptions, Turn, Voice

T = TypeVar("T")
Said = str | Sequence[Turn]
"""One text, or the turns of a scene."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One exchange. `read` makes the result of a good answer."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    json: dict[str, Any] | None = None


def speech_body(said: Said, speaker: int, context: Sequence[Clip], options: SpeechOptions) -> dict[str, Any]:
    """The body of `POST /generate`."""
    body: dict[str, Any] = dict(options)
    if isinstance(said, str):
        body |= {"text": said, "speaker": speaker}
    else:
        body["scene"] = [turn.to_json() for turn in said]
    if context:
        body["context"] = [clip.to_json() for clip in context]
    return body


def speak(body: dict[str, Any]) -> Call[Speech]:
    return Call("POST", "/generate", _speech, body | {"streaming": False})


def outcome(request_id: str) -> Call[Outcome]:
    return Call("GET", f"/requests/{quote(request_id, safe='')}", _outcome)


def info() -> Call[dict[str, Any]]:
    return Call("GET", "/info", lambda response: response.json())


def ready() -> Call[bool]:
    return Call("GET", "/ready", lambda response: True)


def voices() -> Call[list[Voice]]:
    def read(response: httpx.Response) -> list[Voice]:
        known = Voice.__dataclass_fields__
        return [Voice(**{k: v for k, v in each.items() if k in known}) for each in response.json()["voices"]]

    return Call("GET", "/v1/audio/voices", read)


def submit(body: dict[str, Any]) -> Call[Job]:
    """To the queue. It takes a scene, whose turns it names in its own words."""
    turns = body.pop("scene", None) or [{"text": body.pop("text"), "speaker": body.pop("speaker", 0)}]
    voice = body.pop("voice", None)
    sent = {"scene": [_queued(turn, voice) for turn in turns]}
    if context := body.pop("context", None):
        sent["context"] = [
            {
                "prompt": clip["text"],
                "speaker_id": clip["speaker"],
                "audio_url": f"data:audio/wav;base64,{clip['audio']}",
            }
            for clip in context
        ]
    if "format" in body:
        body["output_format"] = body.pop("format")
    return Call("POST", f"{_QUEUE}", lambda response: Job(response.json()["request_id"], "queued", 0), body | sent)


def jobs(limit: int) -> Call[list[Job]]:
    return Call(
        "GET", f"/jobs?limit={limit}", lambda response: [Job.from_json(each) for each in response.json()["jobs"]]
    )


def job(job_id: str) -> Call[Job]:
    return Call("GET", f"/jobs/{quote(job_id, safe='')}", lambda response: Job.from_json(response.json()))


def cancel(job_id: str) -> Call[Job]:
    return Call("POST", f"/jobs/{quote(job_id, safe='')}/cancel", lambda response: Job.from_json(response.json()))


def retry(job_id: str) -> Call[Job]:
    return Call("POST", f"/jobs/{quote(job_id, safe='')}/retry", lambda response: Job.from_json(response.json()))


def audio(found: Job) -> Call[bytes]:
    """The file of a job that has ended. Raises JobFailed if it has none."""
    if found.audio_url is None:
        raise JobFailed(
            found.error or f"job {found.id} is {found.state} and has no audio", found.error_kind or found.state
        )
    return Call("GET", found.audio_url, lambda response: response.content)


_QUEUE = "/fal/queue/fal-ai/csm-1b"


def _queued(turn: dict[str, Any], usual_voice: str | None) -> dict[str, Any]:
    voice = turn.get("voice", usual_voice)
    return {"text": turn["text"], "speaker_id": turn["speaker"]} | ({"voice": voice} if voice else {})


def _queued_clip(clip: dict[str, Any]) -> dict[str, Any]:
    audio = f"data:audio/wav;base64,{clip['audio']}"  # the server tells the format from the bytes
    return {"prompt": clip["text"], "speaker_id": clip["speaker"], "audio_url": audio}


def _outcome(response: httpx.Response) -> Outcome:
    values = response.json()
    return Outcome(**values | {"turn_starts": tuple(values["turn_starts"])})


def _speech(response: httpx.Response) -> Speech:
    headers = response.headers
    ended = Outcome(
        request_id=headers["X-CSM-Request-Id"],
        seed=int(headers["X-CSM-Seed"]),
        finish_reason=headers["X-CSM-Finish-Reason"],
        audio_seconds=float(headers["X-CSM-Audio-Seconds"]),
        characters_spoken=int(headers["X-CSM-Characters-Spoken"]),
        turn_starts=tuple(float(start) for start in headers["X-CSM-Turn-Starts"].split(",") if start),
    )
    return Speech(response.content, headers["Content-Type"], ended, notices_of(response))


class WholeSamples:
    """Cuts a stream between samples of 16 bit. What is left of one comes with the next piece."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, piece: bytes) -> bytes:
        data = self._rest + piece
        self._rest = data[len(data) - len(data) % 2 :]
        return data[: len(data) - len(data) % 2]


def notices_of(response: httpx.Response) -> tuple[str, ...]:
    said = (response.headers.get("X-CSM-Notice"), response.headers.get("X-CSM-Text-Notice"))
    return tuple(notice for notice in said if notice)
