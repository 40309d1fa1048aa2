"""The body of `POST /v1/audio/speech/batch`, and its answer: vLLM-Omni's fields, and ours beside them."""

from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, Field

from serve_app.api.openai.errors import ITEMS, OpenAiError, param_of
from serve_app.api.openai.schema import SpeechBody, SpeechOptions, asked, json_object, validated
from serve_app.api.openapi import body_schemas, described_body
from serve_app.audio.encode.formats import WAV
from serve_app.errors import InvalidRequest
from serve_app.settings import LimitSettings
from serve_app.speech.build import Asked
from serve_app.speech.scene import AnswerFile

_EXAMPLE = '{"items": [{"input": "Hello."}], "voice": "alloy"}'
_STREAMED = "stream_format: without effect in a batch, whose items are files"


class BatchBody(SpeechOptions):
    """For the description alone. The options are defaults of the items."""

    items: list[SpeechBody] = Field(min_length=1, description="Each as in `POST /v1/audio/speech`; `wav` by default.")


class BatchResult(BaseModel):
    """An item. What it became stands in one whose `status` is `success`."""

    index: int
    id: str
    """The id of its job."""
    status: Literal["queued", "in_progress", "success", "error"]
    audio_data: str | None = None
    """Base64. Only in the answer to the POST, and only as long as that has room."""
    audio_url: str | None = None
    media_type: str | None = None
    finish_reason: str | None = None
    audio_seconds: float | None = None
    seed: int | None = None
    quality: dict[str, Any] | None = None
    """Scores of the takes, where `quality` asked for several."""
    error: OpenAiError | None = None
    notices: list[str] = []


class BatchAnswer(BaseModel):
    """`completed`: every item has ended, in whatever way."""

    id: str
    object: Literal["audio.speech.batch"] = "audio.speech.batch"
    status: Literal["in_progress", "completed"]
    created_at: int
    results: list[BatchResult]
    total: int
    succeeded: int
    failed: int


class BatchDeleted(BaseModel):
    id: str
    object: Literal["audio.speech.batch.deleted"] = "audio.speech.batch.deleted"
    deleted: Literal[True] = True


def at_item(index: int, error: InvalidRequest) -> InvalidRequest:
    """The error with its place in the batch, such as `items[3].input`."""
    return error.at(f"{ITEMS}[{index}].{param_of(error.field)}")


def parse_batch(body: bytes, limits: LimitSettings) -> list[SpeechBody]:
    """The items, each with the defaults that it left out. Raises InvalidRequest."""
    defaults = json_object(body, _EXAMPLE)
    items = defaults.pop(ITEMS, None)
    if "input" in defaults:
        raise InvalidRequest("input", f"stands in the items of a batch: send {_EXAMPLE}")
    if not isinstance(items, list) or not items:
        raise InvalidRequest(ITEMS, f"must be a list of objects: send one such as {_EXAMPLE}")
    if len(items) > limits.max_batch_items:
        raise InvalidRequest(ITEMS, f"has {len(items)} items, at most {limits.max_batch_items} are allowed")
    read: list[SpeechBody] = []
    num_chars = num_context_bytes = 0
    for index, item in enumerate(items):
        try:
            read.append(_item(item, defaults, limits))
        except InvalidRequest as error:
            raise at_item(index, error) from None
        num_chars += len(read[-1].input)
        if num_chars > limits.max_batch_text_chars:
            most = limits.max_batch_text_chars
            what = f"brings the batch to {num_chars} characters, at most {most} are allowed: send it in several batches"
            raise InvalidRequest(f"{ITEMS}[{index}].input", what)
        # A clip among the defaults is read once for each item, as if the body held it so often.
        num_context_bytes += sum(len(clip.audio) for clip in read[-1].context)
        if num_context_bytes > limits.max_body_bytes:
            what = (
                "brings the clips of all items to more than a body may have: keep a voice once and name it in `voice`"
            )
            raise InvalidRequest(f"{ITEMS}[{index}].context", what)
    return read


def _item(item: Any, defaults: dict[str, Any], limits: LimitSettings) -> SpeechBody:
    if not isinstance(item, dict):
        raise InvalidRequest("input", 'must stand in an object: send items such as {"input": "Hello."}')
    return validated(defaults | {name: value for name, value in item.items() if value is not None}, limits)


def asked_of(body: SpeechBody, kept_voice: str | None, url_base: str) -> Asked:
    """An item in the core's terms. Raises InvalidRequest."""
    wish = asked(body, kept_voice)
    remarks = (*wish.remarks, _STREAMED) if body.stream_format == "sse" else wish.remarks
    file = AnswerFile(url_base, body.response_format or WAV.name, None, body.sample_rate, body.speed)
    return replace(wish, file=file, is_job=True, remarks=remarks)


BODY_SCHEMAS = body_schemas(BatchBody)
BATCH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": described_body(
                "BatchBody", batch={"voice": "alloy", "items": [{"input": "Hello."}, {"input": "Hi.", "voice": "echo"}]}
            )
        },
    }
}
