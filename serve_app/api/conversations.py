"""Conversations over HTTP: `/v1/conversations`. Their turns are spoken like `/generate`, on what was said before."""

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serve_app.api.answers import answer_headers, streamed_audio, whole_audio
from serve_app.api.auth import key_of
from serve_app.api.bounded import check_lengths, read_json
from serve_app.api.codings import AUDIO_CONTENT, asked_coding
from serve_app.api.conversation_schema import (
    ConversationBody,
    ConversationInfo,
    PlayedBody,
    TurnBody,
    TurnInfo,
    conversation_info,
    turn_info,
)
from serve_app.api.error_responses import documented
from serve_app.api.native_schema import SAMPLING_FIELDS, validated
from serve_app.api.openapi import body_schemas, schema_ref
from serve_app.api.request_ids import request_id_of
from serve_app.api.streaming import disconnect, while_connected
from serve_app.audio.encode.formats import WAV
from serve_app.errors import InvalidRequest
from serve_app.keys.key import Key, Scope
from serve_app.settings import Settings
from serve_app.speech.build import Asked, AskedClip, context_of
from serve_app.speech.call import Call
from serve_app.speech.live.cutter import Schedule
from serve_app.speech.scene import Scene, Turn
from serve_app.speech.service import SpeechService
from serve_app.speech.talk import Talk

CONVERSATIONS = "/v1/conversations"
_ONE = f"{CONVERSATIONS}/{{conversation_id}}"
_FAILURES = documented(401, 403, 404, 409, 413, 422, 429, 500, 503)
TURN_NUMBER = "X-CSM-Turn"


class ConversationApi:
    def __init__(self, speech: SpeechService, talk: Talk, settings: Settings) -> None:
        self._speech = speech
        self._talk = talk
        self._settings = settings

    def router(self) -> APIRouter:
        router = APIRouter(tags=["conversations"])
        add = partial(router.add_api_route, responses=_FAILURES)
        add(CONVERSATIONS, self.begin, methods=["POST"], status_code=201, openapi_extra=_body("ConversationBody"))
        add(CONVERSATIONS, self.list, methods=["GET"])
        add(_ONE, self.get, methods=["GET"])
        add(_ONE, self.delete, methods=["DELETE"], status_code=204)
        add(f"{_ONE}/state", self.state, methods=["GET"])
        add(f"{_ONE}/prepare", self.prepare, methods=["POST"])
        add(f"{_ONE}/turns/{{turn}}/played", self.played, methods=["POST"])
        router.add_api_route(
            f"{_ONE}/turns", self.turn, methods=["POST"], response_class=Response,
            openapi_extra=_body("TurnBody"), responses=_FAILURES | _TURN,
        )  # fmt: skip
        return router

    async def begin(self, request: Request) -> ConversationInfo:
        """Begin a conversation: empty, with recordings that hold voices, or from a portable state."""
        key = key_of(request, Scope.SPEECH)
        body = validated(ConversationBody, _fields(await request.body(), self._settings))
        clips = [AskedClip(item.text, item.speaker, item.audio) for item in body.context]
        context = context_of(clips, self._settings.limits)
        return conversation_info(await self._talk.begin(key, context, body.state))

    async def list(self, request: Request) -> dict[str, Any]:
        """The newest hundred conversations of the key."""
        found = await self._talk.conversations.list(key_of(request, Scope.SPEECH).id)
        names = ("id", "created_at", "expires_at", "num_turns")
        return {"conversations": [dict(zip(names, row, strict=True)) for row in found]}

    async def get(self, request: Request, conversation_id: str) -> ConversationInfo:
        """What was said, how much of it the model hears, and in how many positions."""
        key = key_of(request, Scope.SPEECH)
        return conversation_info(await self._talk.conversations.get(key.id, conversation_id))

    async def delete(self, request: Request, conversation_id: str) -> None:
        """Delete a conversation and its codes at once."""
        await self._talk.conversations.delete(key_of(request, Scope.SPEECH).id, conversation_id)

    async def state(self, request: Request, conversation_id: str) -> dict[str, str]:
        """The conversation for its caller to hold. Any replica takes it back, as `state` of a new conversation."""
        return {"state": await self._talk.state(key_of(request, Scope.SPEECH), conversation_id)}

    async def prepare(
        self,
        request: Request,
        conversation_id: str,
        speaker: int = 0,
        voice: str | None = None,
        adapter: str | None = None,
    ) -> dict[str, int]:
        """Have the model read the conversation now, so that the next turn of `speaker` begins sooner."""
        key = key_of(request, Scope.SPEECH)
        asked = Asked(turns=[Turn("", speaker, voice=voice)], adapter=adapter)
        with _named_as_sent():
            scene, _ = await self._speech.live(asked, self._settings, Schedule(), key)
        return {"prompt_positions": await self._talk.prepare(key, conversation_id, scene)}

    async def played(self, request: Request, conversation_id: str, turn: int, body: PlayedBody) -> TurnInfo:
        """Cut a turn to what its listener heard before interrupting."""
        key = key_of(request, Scope.SPEECH)
        cut = await self._talk.conversations.cut(key.id, conversation_id, turn, body.played_ms)
        return turn_info(turn, cut, in_context=True)

    async def turn(self, request: Request, conversation_id: str) -> Response:
        """Speak the next turn, streamed if `streaming` is true. With `audio`, add what was said by somebody else."""
        key = key_of(request, Scope.SPEECH)
        body = validated(TurnBody, _fields(await request.body(), self._settings))
        if body.text is None or body.scene is not None or body.context:
            raise InvalidRequest("text", "is missing: a turn has a text, and neither scene nor context")
        if body.audio is not None:
            return await self._hear(key, conversation_id, body)
        return await self._speak(request, key, conversation_id, body)

    async def _hear(self, key: Key, conversation_id: str, body: TurnBody) -> Response:
        clip = AskedClip(body.text or "", body.speaker, body.audio or "")
        (source,) = context_of([clip], self._settings.limits)
        number, turn = await self._talk.hear(key, conversation_id, source)
        return JSONResponse(turn_info(number, turn, in_context=True).model_dump(), 201)

    async def _speak(self, request: Request, key: Key, conversation_id: str, body: TurnBody) -> Response:
        is_streamed = bool(body.streaming)
        coding = asked_coding(request, body.format or body.response_format, body.sample_rate, WAV)
        traceparent, is_lossy = request.headers.get("traceparent", ""), coding.format.is_lossy
        call = Call(request_id_of(request), key, is_streamed, is_lossy, trace=traceparent)
        async with AsyncExitStack() as stack:
            async with while_connected(partial(disconnect, request.receive)):
                scene = await self._scene(body, key)
                speaking = self._talk.speaking(scene, call, conversation_id)
                answer, number = await stack.enter_async_context(speaking)
                headers = answer_headers(request, answer, scene, await self._speech.info())
                headers[TURN_NUMBER] = str(number)
                if not is_streamed:
                    return await whole_audio(answer, coding, headers)
            # The place in the conversation is held until the last byte is sent.
            return streamed_audio(answer, coding, headers, stack.pop_all())

    async def _scene(self, body: TurnBody, key: Key) -> Scene:
        asked = Asked(
            turns=[Turn(body.text or "", body.speaker, voice=body.voice)],
            sampling=body.model_dump(include=SAMPLING_FIELDS, exclude_none=True),
            seed=body.seed,
            max_audio_seconds=body.max_audio_seconds,
            normalize=body.normalize,
            adapter=body.adapter,
            remarks=body.notices,
        )
        with _named_as_sent():
            return await self._speech.scene(asked, self._settings, key)


@contextmanager
def _named_as_sent() -> Iterator[None]:
    """Rename fields in errors: the caller sent `text`, not `turns[0].text`."""
    try:
        yield
    except InvalidRequest as error:
        raise error.at(error.field.removeprefix("turns[0].")) from None


def _fields(body: bytes, settings: Settings) -> dict[str, Any]:
    """An empty body is an empty object. Raises InvalidRequest."""
    try:
        values = read_json("body", body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise InvalidRequest("body", "is not valid JSON: send an object") from None
    if not isinstance(values, dict):
        raise InvalidRequest("body", "must be a JSON object")
    check_lengths(values, settings.limits)
    return values


def _body(name: str) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": schema_ref(name)}}}}


BODY_SCHEMAS = body_schemas(ConversationBody) | body_schemas(TurnBody)
_TURN: dict[int | str, dict[str, Any]] = {
    200: {"content": AUDIO_CONTENT, "description": f"The turn's audio; {TURN_NUMBER} is its number"},
    201: {"model": TurnInfo, "description": "The recording was added"},
}
