"""A client that leaves, and an answer that breaks off."""

import asyncio
import base64

import pytest
from fastapi import FastAPI

from serve_app.errors import GenerationFailed
from tests.support.api_harness import Exchange, api, client, wav
from tests.support.fakes import FakeDecoder, FakeEncoder, Utterance

WAITING = Utterance(waits_for_slot=True)
SPEAKING = Utterance(stalls=True)


async def finish_reason(app: FastAPI) -> str | None:
    async with client(app) as http:
        return (await http.get("/requests/exchange")).json().get("finish_reason")


@pytest.mark.parametrize("utterance", [WAITING, SPEAKING], ids=["waiting", "speaking"])
@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("how", ["disconnect", "cancel"], ids=["plain ASGI server", "Serve"])
async def test_leaving_frees_the_slot(utterance: Utterance, streaming: bool, how: str) -> None:
    app = api(decoder := FakeDecoder(utterance))
    exchange = Exchange(app, {"text": "Hi.", "streaming": streaming})
    await decoder.news.wait()
    assert decoder.num_open == 1
    if how == "disconnect":
        exchange.disconnect()
        await exchange.task
    else:
        exchange.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange.task
    assert decoder.num_open == 0
    assert await finish_reason(app) == ("cancelled" if utterance is SPEAKING else None)


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "whole"])
async def test_leaving_and_being_cancelled_at_once_frees_the_slot(streaming: bool) -> None:
    app = api(decoder := FakeDecoder(SPEAKING))
    exchange = Exchange(app, {"text": "Hi.", "streaming": streaming})
    await decoder.news.wait()
    exchange.disconnect()
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.task
    assert decoder.num_open == 0


async def test_a_server_that_reports_a_lost_client_by_a_failing_write_frees_the_slot() -> None:
    app = api(decoder := FakeDecoder(Utterance(num_frames=100)))
    exchange = Exchange(app, {"text": "Hi.", "streaming": True})
    exchange.write_error = OSError("connection lost")
    with pytest.raises(OSError, match="connection lost"):
        await exchange.task
    assert (decoder.num_open, decoder.num_spoken) == (0, 0)
    assert await finish_reason(app) == "cancelled"


async def test_a_client_that_left_while_its_context_was_encoded_takes_no_slot() -> None:
    class StalledEncoder(FakeEncoder):
        async def encode(self, pcm: bytes, owner: str = "") -> None:  # type: ignore[override]
            self.clips.append(pcm)
            exchange.disconnect()
            await asyncio.Event().wait()

    app = api(decoder := FakeDecoder(), encoder := StalledEncoder())
    context = [{"text": "x", "audio": base64.b64encode(wav()).decode()}]
    exchange = Exchange(app, {"text": "Hi.", "context": context})
    await exchange.task
    assert (len(encoder.clips), decoder.requests) == (1, [])


@pytest.mark.parametrize("error", [GenerationFailed("broken"), RuntimeError("a bug")], ids=repr)
async def test_a_stream_that_breaks_has_no_clean_end(error: Exception) -> None:
    app = api(decoder := FakeDecoder(Utterance(break_with=error)))
    exchange = Exchange(app, {"text": "Hi.", "streaming": True})
    with pytest.raises(RuntimeError):
        await exchange.task
    assert exchange.status == 200
    assert not exchange.ended_cleanly
    assert decoder.num_open == 0
    assert await finish_reason(app) == "error"


@pytest.mark.parametrize("error", [GenerationFailed("broken"), RuntimeError("a bug")], ids=repr)
async def test_a_whole_answer_that_breaks_is_a_500(error: Exception) -> None:
    app = api(decoder := FakeDecoder(Utterance(break_with=error)))
    exchange = Exchange(app, {"text": "Hi."})
    await exchange.task
    assert (exchange.status, exchange.ended_cleanly, decoder.num_open) == (500, True, 0)
    assert await finish_reason(app) == "error"
