"""What a checkpoint says that it was trained for: `csm_serve_trained_for` in its config.json."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve_app.errors import CheckpointError
from serve_app.messages import TrainedFor

TRAINED_FOR_KEY = "csm_serve_trained_for"

_DEFAULTS = TrainedFor()


class _Values(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    longest_piece_words: Annotated[int, Field(ge=1, le=500)] = _DEFAULTS.longest_piece_words
    longest_context_seconds: Annotated[float, Field(gt=0, le=600)] = _DEFAULTS.longest_context_seconds
    alphabet: Annotated[str, Field(max_length=10_000)] = _DEFAULTS.alphabet


def read_trained_for(values: dict[str, Any]) -> TrainedFor:
    """From the values of config.json; the defaults are CSM-1B's. Raises CheckpointError."""
    try:
        read = _Values.model_validate(values.get(TRAINED_FOR_KEY, {}))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, (TRAINED_FOR_KEY, *first["loc"])))
        raise CheckpointError(f"config.json: {place}: {first['msg']}") from None
    return TrainedFor(**read.model_dump())
