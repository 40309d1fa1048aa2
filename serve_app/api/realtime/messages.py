"""Both directions of `/v1/realtime/speech`, each a discriminated union. `GET /v1/realtime/schema` publishes them."""

from typing import Any

from pydantic import TypeAdapter

from serve_app.api.realtime.incoming import Incoming
from serve_app.api.realtime.outgoing import Outgoing

INCOMING: TypeAdapter[Any] = TypeAdapter(Incoming)
OUTGOING: TypeAdapter[Any] = TypeAdapter(Outgoing)


def schema() -> dict[str, Any]:
    """The JSON schemas of both unions."""
    return {"incoming": INCOMING.json_schema(), "outgoing": OUTGOING.json_schema(mode="serialization")}
