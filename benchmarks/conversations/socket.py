"""A client of `/v1/realtime/speech` that takes the time."""

import asyncio
import json
import time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

TIMEOUT_SECONDS = 120.0


class Socket:
    """One conversation."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.conversation = ""

    async def close(self) -> None:
        await self._socket.close()

    async def send(self, kind: str, **fields: object) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def until(self, *kinds: str) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                message = json.loads(await self._socket.recv())
                assert message["type"] != "error", message
                if message["type"] in kinds:
                    return message

    async def say(self, text: str) -> tuple[float, dict[str, Any]]:
        """A turn word by word. Milliseconds from its last word to its first audio, and what `turn.began` said."""
        for word in text.split()[:-1]:
            await self.send("text", text=f"{word} ")
        sent_at = time.perf_counter()
        await self.send("text", text=text.split()[-1])
        await self.send("end")
        began = await self.until("turn.began")
        await self.until("audio")
        first_ms = 1000 * (time.perf_counter() - sent_at)
        await self.until("turn.ended")
        return first_ms, began


async def opened(url: str, seed: int) -> Socket:
    socket = Socket(await connect(f"{url.replace('http', 'ws', 1)}/v1/realtime/speech"))
    await socket.send("begin", seed=seed)
    socket.conversation = (await socket.until("ready"))["conversation_id"]
    return socket
