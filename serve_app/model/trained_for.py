"""What a checkpoint says that it was trained for: `csm_serve_trained_for` in its config.json.

No pydantic here: benchmarks load checkpoints on machines that have torch and little else.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from serve_app.errors import CheckpointError
from serve_app.messages import TrainedFor

TRAINED_FOR_KEY = "csm_serve_trained_for"

_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "longest_piece_words": (lambda value: type(value) is int and 1 <= value <= 500, "an integer from 1 to 500"),
    "longest_context_seconds": (
        lambda value: type(value) in (int, float) and 0 < value <= 600,
        "a number above 0 and at most 600",
    ),
    "alphabet": (lambda value: type(value) is str and len(value) <= 10_000, "a string of at most 10000 characters"),
}


def read_trained_for(values: Mapping[str, Any]) -> TrainedFor:
    """From the values of config.json; what is left out is CSM-1B's. Raises CheckpointError."""
    given = values.get(TRAINED_FOR_KEY, {})
    if not isinstance(given, dict):
        raise CheckpointError(f"config.json: {TRAINED_FOR_KEY} must be an object")
    for name, value in given.items():
        if name not in _CHECKS:
            raise CheckpointError(f"config.json: {TRAINED_FOR_KEY} has {name}, which is none of {', '.join(_CHECKS)}")
        is_valid, wanted = _CHECKS[name]
        if not is_valid(value):
            raise CheckpointError(f"config.json: {TRAINED_FOR_KEY}.{name} must be {wanted}")
    return TrainedFor(**(asdict(TrainedFor()) | given))
